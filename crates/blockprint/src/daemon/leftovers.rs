//! What a daemon left that was killed: unfinished images of which nobody knows any more.

use std::fs;
use std::path::Path;
use std::thread;

use engine::backup_name::{BackupName, UNFINISHED};
use engine::jobs::Jobs;

use super::log;

/// Removes it, on a thread of its own: the folder may be one that hangs.
pub(super) fn clean(jobs: &Jobs) {
    let left = match jobs.leftovers() {
        Ok(left) => left,
        Err(error) => return log::error(&error.full_sentence()),
    };
    if left.is_empty() {
        return;
    }
    let clean = move || {
        for left in left {
            if left.writes.iter().all(|path| remove(path)) {
                left.forget();
            }
        }
    };
    if let Err(cause) = thread::Builder::new().name("leftovers".to_string()).spawn(clean) {
        log::error(&format!("cannot start a thread that cleans: {cause}"));
    }
}

/// Removes an unfinished image; other files are left alone. False if it has to be tried again another time.
fn remove(path: &Path) -> bool {
    let is_unfinished = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| {
        name.strip_suffix(UNFINISHED).is_some_and(|name| BackupName::parse(name).is_some())
    });
    let is_file = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file());
    if !is_unfinished || !is_file {
        return true;
    }
    match fs::remove_file(path) {
        Ok(()) => {
            log::info(&format!("removed {}, which a killed daemon left", path.display()));
            true
        }
        Err(cause) => {
            log::error(&format!("cannot remove {}: {cause}", path.display()));
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::host::TempDir;

    #[test]
    fn only_unfinished_images_are_removed() {
        let scratch = TempDir::new("leftovers");
        let image = scratch.join("x-2026-03-04T0506.apt.ext4.gz");
        let unfinished = scratch.join("x-2026-03-04T0506.apt.ext4.gz.inprogress");
        let other = scratch.join("letter.inprogress");
        for path in [&image, &unfinished, &other] {
            fs::write(path, "x").unwrap();
        }
        let link = scratch.join("y-2026-03-04T0506.apt.ext4.gz.inprogress");
        std::os::unix::fs::symlink(&image, &link).unwrap();
        for path in [&image, &unfinished, &other, &link, &scratch.join("none")] {
            assert!(remove(path));
        }
        assert!(image.exists() && other.exists() && link.exists() && !unfinished.exists());
    }
}
