//! The file that becomes the clone: checked, made without a name, and put under its name at the end.

use std::fs::{self, File, Metadata, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use formats::raw::RawImage;
use image::{Error, ErrorKind, Replace, Result};
use sys::holders::Holders;
use sys::{FileMedium, UnnamedFile};

use super::{ModeRule, PlannedClone};

/// A clone that has no name yet. Dropped, it is gone.
pub(super) struct Target {
    file: UnnamedFile,
}

/// Refuses a target that may not be written. Returns where it really is (links followed), and whether a file
/// stands there.
pub(super) fn check(target: PathBuf, source: &Metadata, force: bool) -> Result<(PathBuf, bool)> {
    let Ok(old) = fs::metadata(&target) else { return Ok((target, false)) };
    let target = fs::canonicalize(&target).unwrap_or(target);
    let name = target.display().to_string();
    let refuse = |kind, sentence: String| Err(Error::new(kind, sentence).at(name.clone(), None));
    if !old.is_file() {
        return refuse(
            ErrorKind::Invalid,
            format!("{name} is no regular file, which a clone would be"),
        );
    }
    if (old.dev(), old.ino()) == (source.dev(), source.ino()) {
        return refuse(ErrorKind::Invalid, format!("{name} is the source itself"));
    }
    if !force {
        return refuse(ErrorKind::Exists, format!("{name} exists already (--force replaces it)"));
    }
    let holders = Holders::of(&old)?;
    if holders.is_held() {
        return refuse(
            ErrorKind::InUse,
            format!(
                "cannot replace {name}: it is {holders} (unmount or detach it, or choose another name)"
            ),
        );
    }
    Ok((target, true))
}

/// The folder that a file lies in.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

impl Target {
    /// Makes the file, empty, with the permissions that it will have.
    pub(super) fn create(clone: &PlannedClone, mode: ModeRule) -> Result<Self> {
        let file = UnnamedFile::create_for(&clone.target)?;
        let replaced = fs::metadata(&clone.target).ok().filter(|_| clone.replaces);
        let (mode, owner) = match (mode, replaced) {
            (ModeRule::Source, _) => (clone.metadata.mode(), Some(&clone.metadata)),
            (ModeRule::LessUmask, Some(old)) => (old.mode(), None),
            (ModeRule::LessUmask, None) => (clone.metadata.mode() & !sys::umask(), None),
        };
        if let Some(owner) = owner {
            // Only root may; for others the file is theirs, as every new file is.
            let _ = std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid()));
        }
        let shown = clone.target.display();
        file.file().set_permissions(Permissions::from_mode(mode & 0o7777)).map_err(|cause| {
            Error::io(format!("cannot set the permissions of {shown}"), cause)
                .at(shown.to_string(), None)
        })?;
        Ok(Target { file })
    }

    /// The open file.
    pub(super) fn file(&self) -> &File {
        self.file.file()
    }

    /// The file as a blank image to write to.
    pub(super) fn as_image(&self, size_bytes: u64) -> Result<RawImage<FileMedium>> {
        let path = self.file.target_path();
        let file = self.file().try_clone().map_err(|cause| {
            let name = path.display().to_string();
            Error::io(format!("cannot open {name} once more"), cause).at(name, None)
        })?;
        RawImage::create(FileMedium::from_file(file, &path)?, size_bytes)
    }

    /// Makes it durable and puts it under its name.
    pub(super) fn publish(self, replace: Replace) -> Result<()> {
        self.file.publish(replace)
    }
}
