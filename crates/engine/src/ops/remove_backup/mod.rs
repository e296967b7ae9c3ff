//! Remove one image of a partition: a file of that kind of name, and nothing else.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use image::{Error, ErrorKind, Folder, Result};
use sys::Directory;

use crate::backup_name::BackupName;

/// Removes the image `file`, and makes that durable. Links are followed up to its folder; it must not be one itself.
///
/// # Errors
///
/// `NotFound`; `Invalid` for what is not called like an image, or is no regular file; those of the folder.
pub fn perform(file: &Path) -> Result<()> {
    let shown = file.display().to_string();
    let refuse = |why: &str| {
        let sentence = format!("cannot delete {shown}: {why}");
        Error::new(ErrorKind::Invalid, sentence).at(shown.clone(), None)
    };
    // The last component, as long as nothing behind it makes it another one.
    let name = file.file_name().filter(|_| !shown.ends_with(['/', '.']));
    let name = name
        .filter(|name| BackupName::parse(&name.to_string_lossy()).is_some())
        .ok_or_else(|| refuse("that is not how an image of a partition is called"))?;
    let folder = Directory::of(file)?;
    // Through the open folder: its path may lead elsewhere by now.
    let inside = format!("/proc/self/fd/{}", folder.as_fd().as_raw_fd());
    let metadata = fs::symlink_metadata(Path::new(&inside).join(name)).map_err(|cause| {
        Error::io(format!("cannot look at {shown}"), cause).at(shown.clone(), None)
    })?;
    match metadata.file_type() {
        kind if kind.is_file() => {}
        kind if kind.is_dir() => return Err(refuse("it is a folder")),
        kind if kind.is_symlink() => return Err(refuse("it is a link")),
        _ => return Err(refuse("it is no regular file")),
    }
    folder.remove(name)?;
    folder.sync()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use testkit::host::TempDir;

    const NAME: &str = "x-2026-03-04T0506.apt.ext4.zst";

    fn kind_of(path: &Path) -> ErrorKind {
        perform(path).unwrap_err().kind()
    }

    #[test]
    fn an_image_is_removed_and_nothing_else() {
        let scratch = TempDir::new("remove");
        let path = scratch.join(NAME);
        // Not every name is UTF-8.
        let other = scratch.join(OsStr::from_bytes(b"\xe4-2026-03-04T0506.apt.ext4.zst"));
        fs::write(&other, "x").unwrap();
        perform(&other).unwrap();
        assert!(!other.exists());
        fs::write(&path, "x").unwrap();
        symlink(scratch.path(), scratch.join("way")).unwrap();
        perform(&scratch.join("way").join(NAME)).unwrap();
        assert!(!path.exists());
        assert_eq!(kind_of(&path), ErrorKind::NotFound);
        assert_eq!(kind_of(&scratch.join("none").join(NAME)), ErrorKind::NotFound);
    }

    #[test]
    fn what_only_looks_like_an_image_stays() {
        let scratch = TempDir::new("remove");
        let victim = scratch.join("victim.txt");
        fs::write(&victim, "x").unwrap();
        let folder = scratch.join("x-2026-03-04T0506.apt.d");
        fs::create_dir(&folder).unwrap();
        fs::create_dir(scratch.join(NAME)).unwrap();
        let link = scratch.join("y-2026-03-04T0506.apt.dd.gz");
        symlink(&victim, &link).unwrap();
        fs::write(scratch.join("z-2026-03-04T0506.apt.dd.gz"), "x").unwrap();
        for path in [
            victim.clone(),
            folder.join("../victim.txt"),
            scratch.join(NAME),
            scratch.join(NAME).join("."),
            scratch.join(NAME).join(".."),
            link.clone(),
            scratch.join("z-2026-03-04T0506.apt.dd.gz/"),
            "/".into(),
            "".into(),
        ] {
            assert_eq!(kind_of(&path), ErrorKind::Invalid, "{}", path.display());
        }
        assert!(victim.exists() && link.exists() && scratch.join(NAME).is_dir());
    }
}
