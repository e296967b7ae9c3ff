//! One writer for each file: locks, and which file it is.

use std::ffi::OsString;
use std::fs::{self, Metadata, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use image::{Error, ErrorKind, Medium, Result};
use sys::{Directory, FileMedium};

use super::Layout;
use crate::registry::Identity;

/// A new partial file, locked.
pub(crate) fn create_partial(
    directory: &Directory,
    partial: &OsString,
    path: &Path,
) -> Result<FileMedium> {
    let medium = directory.create_file(partial)?;
    lock_alone(&medium, path)?;
    Ok(medium)
}

/// Two programs that write one target would mix.
pub(crate) fn lock_alone(medium: &FileMedium, path: &Path) -> Result<()> {
    let is_locked = match medium.file().try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        // A filesystem without locks.
        Err(TryLockError::Error(_)) => true,
    };
    // Between opening and locking, another program may have published it, or begun anew under its name.
    let stands_there = || {
        fs::metadata(path)
            .is_ok_and(|now| metadata_of(medium).is_ok_and(|mine| is_one(&now, &mine)))
    };
    if is_locked && stands_there() {
        return Ok(());
    }
    let name = path.display().to_string();
    let sentence = format!("{name} is being written by another program");
    Err(Error::new(ErrorKind::InUse, sentence).at(name, None))
}

pub(super) fn is_one(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

pub(crate) fn metadata_of(medium: &FileMedium) -> Result<Metadata> {
    medium.file().metadata().map_err(|cause| {
        Error::io(format!("cannot look at {}", medium.name()), cause).at(medium.name(), None)
    })
}

impl Layout {
    /// Which file it is.
    pub(crate) fn which(self, metadata: &Metadata) -> Identity {
        match self {
            Layout::Raw => which_file(metadata),
            Layout::Spgz { .. } => which_container(metadata),
        }
    }
}

/// Which file it is. The number of a file that is gone is soon given to another one, so that its size and the moment
/// at which it was made belong to it.
pub(crate) fn which_file(metadata: &Metadata) -> Identity {
    let made = metadata.created().ok().and_then(|made| made.duration_since(UNIX_EPOCH).ok());
    Identity::File {
        inode: metadata.ino(),
        size_bytes: metadata.len(),
        time_ns: made.map_or(0, |made| made.as_nanos() as i128),
    }
}

/// Which container it is, whatever is written into it: its length says how well its last block can be compressed, and is
/// no part of that.
pub(crate) fn which_container(metadata: &Metadata) -> Identity {
    match which_file(metadata) {
        Identity::File { inode, time_ns, .. } => Identity::File { inode, size_bytes: 0, time_ns },
        device => device,
    }
}
