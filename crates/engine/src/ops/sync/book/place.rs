//! Where digests are kept.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use digest::blake3;
use image::{Error, Folder, Medium, Result};
use sys::{Access, Directory, FileMedium};

use super::super::KeepDigests;
use super::record::{LEN_MAX_BYTES, Record};
use crate::folders::{beside, device_file_name, state_folder};
use crate::publish::replace_small;

/// The file in which the digests of one image are kept, whether it is there or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BookPlace {
    path: PathBuf,
}

/// What was found there.
pub(super) enum Found {
    /// There is no such file.
    Nothing,
    /// There is one that says nothing.
    Damaged,
    /// There is a record.
    Record(Box<Record>),
}

const SUFFIX: &str = ".blockprint-digests";

impl BookPlace {
    /// For a target: beside a file, so that whoever moves the folder moves them along.
    pub(super) fn of_target(medium: &Path, is_device: bool, keep: &KeepDigests) -> Self {
        match keep {
            KeepDigests::In(folder) => BookPlace::within(folder, medium),
            _ if is_device => BookPlace::within(&state_folder(), medium),
            _ => BookPlace::beside(medium),
        }
    }

    /// For a source: beside it only where that was asked for, and may be done.
    pub(super) fn of_source(medium: &Path, is_device: bool, keep: &KeepDigests) -> Self {
        match keep {
            KeepDigests::In(folder) => BookPlace::within(folder, medium),
            KeepDigests::Beside if !is_device && may_write_beside(medium) => {
                BookPlace::beside(medium)
            }
            _ => BookPlace::within(&state_folder(), medium),
        }
    }

    fn beside(medium: &Path) -> Self {
        let name = medium.file_name().unwrap_or_default();
        BookPlace { path: medium.with_file_name(beside(name, SUFFIX)) }
    }

    /// In a folder for the digests of many, under a name that tells one path from any other.
    fn within(folder: &Path, medium: &Path) -> Self {
        let whole = whole_path(medium);
        let digest = blake3::hash(whole.as_os_str().as_bytes());
        let mark: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let name = match whole.starts_with("/dev") {
            true => device_file_name(&whole),
            false => whole.file_name().unwrap_or_default().to_owned(),
        };
        BookPlace { path: folder.join(beside(&name, &format!("-{mark}{SUFFIX}"))) }
    }

    /// For people.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What is there.
    pub(super) fn load(&self) -> Result<Found> {
        if !self.is_there() {
            return Ok(Found::Nothing);
        }
        let medium = FileMedium::open(&self.path, Access::Read)?;
        let len = medium.len()?;
        if len > LEN_MAX_BYTES {
            return Ok(Found::Damaged);
        }
        let mut bytes = vec![0; len as usize];
        medium.read_at(&mut bytes, 0)?;
        let record = Record::from_bytes(&bytes).map(Box::new);
        Ok(record.map_or(Found::Damaged, Found::Record))
    }

    /// Puts `record`, its bytes, there, replacing what was: durable when it returns.
    pub(super) fn store(&self, record: &[u8]) -> Result<()> {
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            fs::create_dir_all(parent).map_err(|cause| {
                let name = parent.display().to_string();
                Error::io(format!("cannot make the folder {name}"), cause).at(name, None)
            })?;
        }
        let folder = Directory::of(&self.path)?;
        replace_small(&folder, &self.temporary(), self.name(), record)
    }

    /// Takes away what is there. It does not come back after a power cut.
    pub(super) fn remove(&self) -> Result<()> {
        if !self.is_there() {
            return Ok(());
        }
        let folder = Directory::of(&self.path)?;
        folder.remove(&self.temporary())?;
        folder.remove(self.name())?;
        folder.sync()
    }

    fn is_there(&self) -> bool {
        use std::io::ErrorKind::{NotADirectory, NotFound};
        match fs::symlink_metadata(&self.path) {
            Ok(_) => true,
            Err(cause) => !matches!(cause.kind(), NotFound | NotADirectory),
        }
    }

    fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }

    fn temporary(&self) -> OsString {
        beside(self.name(), ".new")
    }
}

/// Links followed, as far as there is something already.
fn whole_path(medium: &Path) -> PathBuf {
    let in_whole_folder = || {
        let parent = medium.parent().filter(|parent| !parent.as_os_str().is_empty());
        let folder = fs::canonicalize(parent.unwrap_or(Path::new("."))).ok()?;
        Some(folder.join(medium.file_name()?))
    };
    let whole = fs::canonicalize(medium).ok().or_else(in_whole_folder);
    whole.unwrap_or_else(|| medium.to_owned())
}

fn may_write_beside(medium: &Path) -> bool {
    let parent = medium.parent().filter(|parent| !parent.as_os_str().is_empty());
    Directory::open(parent.unwrap_or(Path::new("."))).is_ok_and(|folder| folder.is_writable())
}
