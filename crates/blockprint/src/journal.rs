//! Where jobs are noted while they run, and what becomes of that which dead processes left: unfinished images of which nobody
//! knows any more.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use engine::backup_name::{BackupName, UNFINISHED};
use engine::jobs::{Claims, Jobs};
use engine::{Error, Result};

/// A folder that goes with the start of the system: what was noted before is of no use after it. `BLOCKPRINT_JOBS` names another.
pub(crate) fn folder() -> Option<PathBuf> {
    let absolute =
        |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(folder) = absolute("BLOCKPRINT_JOBS") {
        return Some(folder);
    }
    let is_root = fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0);
    if is_root {
        return Some(PathBuf::from("/run/blockprint/jobs"));
    }
    absolute("XDG_RUNTIME_DIR").map(|path| path.join("blockprint/jobs"))
}

/// What a job that makes `image` of `source` has for itself: the image, and the file that it is until it is whole. The paths
/// are absolute, links followed, so that they mean the same to every process.
pub(crate) fn claims(what: &'static str, source: PathBuf, image: PathBuf) -> Claims {
    let mut unfinished = image.clone().into_os_string();
    unfinished.push(UNFINISHED);
    Claims { what, reads: vec![source], writes: vec![image, unfinished.into()] }
}

/// Removes what dead processes left, on a thread of its own: a folder may be one that hangs. `hear` is told of each file.
///
/// # Errors
///
/// Those of the journal.
pub(crate) fn clean(jobs: &Jobs, hear: impl Fn(Result<&Path>) + Send + 'static) -> Result<()> {
    let left = jobs.leftovers()?;
    if left.is_empty() {
        return Ok(());
    }
    let clean = move || {
        for left in left {
            // Each is tried, whatever becomes of the others.
            let kept = left.writes.iter().filter(|path| !remove(path, &hear)).count();
            if kept == 0 {
                left.forget();
            }
        }
    };
    let started = thread::Builder::new().name("leftovers".to_string()).spawn(clean);
    started.map(drop).map_err(|cause| Error::io("cannot start a thread that cleans", cause))
}

/// Removes an unfinished image; other files are left alone. False if it has to be tried again another time.
fn remove(path: &Path, hear: &impl Fn(Result<&Path>)) -> bool {
    let is_unfinished = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| {
        name.strip_suffix(UNFINISHED).is_some_and(|name| BackupName::parse(name).is_some())
    });
    let is_file = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file());
    if !is_unfinished || !is_file {
        return true;
    }
    let removed = fs::remove_file(path).map(|()| path).map_err(|cause| {
        let name = path.display().to_string();
        let sentence = format!("cannot remove {name}, which a process left that was killed");
        Error::io(sentence, cause).at(name, None)
    });
    let is_gone = removed.is_ok();
    hear(removed);
    is_gone
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

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
        let heard = Cell::new(0);
        for path in [&image, &unfinished, &other, &link, &scratch.join("none")] {
            assert!(remove(path, &|removed| {
                assert_eq!(removed.unwrap(), unfinished);
                heard.set(heard.get() + 1);
            }));
        }
        assert_eq!(heard.get(), 1);
        assert!(image.exists() && other.exists() && link.exists() && !unfinished.exists());
    }
}
