//! Who may do what with a new file.

use std::fs::{Metadata, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use image::{Error, Result};
use sys::FileMedium;

/// What a new file gets when it is complete.
#[derive(Clone, Copy)]
pub(crate) struct NewPermissions {
    mode: u32,
    /// User and group of a file that is replaced.
    owner: Option<(u32, u32)>,
}

impl NewPermissions {
    /// For a file that replaces none.
    pub(super) fn of_new(mode: u32) -> Self {
        NewPermissions { mode, owner: None }
    }

    /// Those of the file that is replaced.
    pub(super) fn of_old(old: &Metadata) -> Self {
        NewPermissions { mode: old.mode(), owner: Some((old.uid(), old.gid())) }
    }

    /// Sets them.
    pub(crate) fn apply(self, medium: &FileMedium, path: &Path) -> Result<()> {
        if let Some((user, group)) = self.owner {
            // Only root may; for others the file is theirs, as every new file is.
            let _ = std::os::unix::fs::fchown(medium.file(), Some(user), Some(group));
        }
        let mode = Permissions::from_mode(self.mode & 0o777);
        medium.file().set_permissions(mode).map_err(|cause| {
            let name = path.display().to_string();
            Error::io(format!("cannot set the permissions of {name}"), cause).at(name, None)
        })
    }
}
