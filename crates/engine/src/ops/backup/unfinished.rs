//! The file of an image that is not whole yet.

use std::ffi::{OsStr, OsString};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use image::{Error, ErrorKind, Folder, Medium, Replace, Result};
use sys::{Directory, FileMedium};

use crate::Steps;
use crate::backup_name::UNFINISHED;

/// `<name>.inprogress`. Dropped, it is removed, unless it got its name or was to stay.
pub(super) struct Unfinished {
    directory: Directory,
    name: OsString,
    unfinished: OsString,
    medium: FileMedium,
    is_kept: bool,
}

/// What stands there until the image `path` is whole.
pub(super) fn unfinished_path(path: &Path) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(UNFINISHED);
    path.into()
}

impl Unfinished {
    /// Makes the empty file beside which nothing of that name may stand.
    ///
    /// # Errors
    ///
    /// `Exists`, and those of the folder.
    pub(super) fn create(path: &Path, mode: u32) -> Result<Self> {
        let directory = Directory::of(path)?;
        let name = path.file_name().unwrap_or_default().to_owned();
        let unfinished = unfinished_path(Path::new(&name)).into_os_string();
        let medium = directory.create_file(&unfinished)?;
        let unfinished = Unfinished { directory, name, unfinished, medium, is_kept: false };
        let permissions = Permissions::from_mode(mode);
        unfinished.medium.file().set_permissions(permissions).map_err(|cause| {
            let name = unfinished.medium.name();
            Error::io(format!("cannot set the permissions of {name}"), cause).at(name, None)
        })?;
        Ok(unfinished)
    }

    /// Where bytes are written.
    pub(super) fn medium(&self) -> &FileMedium {
        &self.medium
    }

    /// How much the folder's filesystem has left.
    pub(super) fn available_bytes(&self) -> Option<u64> {
        sys::available_bytes(&self.directory).ok()
    }

    /// Gives it its name, in one step, and makes that durable.
    ///
    /// # Errors
    ///
    /// `Exists` if the name was taken meanwhile: then it stays as it is, under the name that it has.
    pub(super) fn publish(mut self, steps: &Steps) -> Result<()> {
        let renamed = self.directory.rename(&self.unfinished, &self.name, Replace::Never);
        if let Err(error) = renamed {
            self.is_kept = error.kind() == ErrorKind::Exists;
            let name = self.medium.name();
            return Err(match self.is_kept {
                true => error.and(format!(
                    "the new image is whole and stays at {name} (rename or remove it)"
                )),
                false => error,
            });
        }
        self.is_kept = true;
        steps.reach("renamed");
        self.directory.sync()?;
        steps.reach("published");
        Ok(())
    }

    /// A failure to write, in the words of whoever has to make room.
    pub(super) fn explain(&self, error: Error) -> Error {
        let folder = self.directory.path().display();
        match error.kind() {
            ErrorKind::Full if is_about(&error, self.medium.name()) => {
                error.context(format!("no space left in {folder} for the image (make room there)"))
            }
            ErrorKind::TooSmall if is_about(&error, self.medium.name()) => error.context(format!(
                "the filesystem of {folder} cannot hold a file as large as the image (FAT32 ends at 4 GiB)"
            )),
            _ => error,
        }
    }
}

fn is_about(error: &Error, name: &str) -> bool {
    error.location().is_some_and(|location| location.name == name)
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_kept {
            // What is said of is the error before.
            let _ = self.directory.remove(AsRef::<OsStr>::as_ref(&self.unfinished));
        }
    }
}
