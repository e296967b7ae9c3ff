//! The folder of a set: made under another name, named in one step when it is whole, and removed when it will never be.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use image::{Error, ErrorKind, Folder, Replace, Result};
use sys::{Directory, LocalTime};

use crate::Steps;
use crate::backup_name::UNFINISHED;

/// What the name of a set ends in.
const SUFFIX: &str = ".disk";

/// `<name>.inprogress`. Dropped, it is removed with all that is in it, unless it got its name or was to stay.
pub(super) struct UnfinishedSet {
    parent: Directory,
    name: OsString,
    path: PathBuf,
    is_kept: bool,
}

/// The moment as it stands in names: `2026-03-04T0506`.
pub(super) fn moment(time: LocalTime) -> String {
    let LocalTime { year, month, day, hour, minute, .. } = time;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}{minute:02}")
}

/// The name of a new set.
pub(super) fn name(stem: &str, moment: &str) -> String {
    format!("{stem}-{moment}{SUFFIX}")
}

/// Whether the name of `path` is that of a set, finished or not.
pub(super) fn is_named_as_set(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.strip_suffix(UNFINISHED).unwrap_or(&name).ends_with(SUFFIX)
}

/// Refuses a set that is not whole.
pub(super) fn refuse_unfinished(path: &Path) -> Result<()> {
    let name = path.display().to_string();
    match name.ends_with(UNFINISHED) {
        true => {
            let sentence = format!("{name} is the set of a backup that was not finished");
            Err(Error::new(ErrorKind::Invalid, sentence).at(name, None))
        }
        false => Ok(()),
    }
}

/// Refuses a name that is taken, by a set or by an unfinished one.
pub(super) fn refuse_taken(path: &Path) -> Result<()> {
    for path in [path, &unfinished(path)] {
        if fs::symlink_metadata(path).is_ok() {
            let name = path.display().to_string();
            let sentence = format!("{name} exists already (choose another name, or wait a minute)");
            return Err(Error::new(ErrorKind::Exists, sentence).at(name, None));
        }
    }
    Ok(())
}

impl UnfinishedSet {
    /// Makes the empty folder of the set that will be `path`.
    ///
    /// # Errors
    ///
    /// `Exists`, and those of the folder that it lies in.
    pub(super) fn create(path: &Path) -> Result<Self> {
        refuse_taken(path)?;
        let parent = Directory::of(path)?;
        let unfinished = unfinished(path);
        // What is in a set is nobody else's to read.
        DirBuilder::new().mode(0o700).create(&unfinished).map_err(|cause| {
            let name = unfinished.display().to_string();
            Error::io(format!("cannot make the folder {name}"), cause).at(name, None)
        })?;
        let name = path.file_name().unwrap_or_default().to_owned();
        Ok(UnfinishedSet { parent, name, path: unfinished, is_kept: false })
    }

    /// Where it is until it is whole.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name, in one step, and makes that durable.
    ///
    /// # Errors
    ///
    /// `Exists` if the name was taken meanwhile: then it stays as it is, under the name that it has.
    pub(super) fn publish(mut self, steps: &Steps) -> Result<()> {
        Directory::open(&self.path)?.sync()?;
        steps.reach("flushed");
        let unfinished = self.path.file_name().unwrap_or_default();
        if let Err(error) = self.parent.rename(unfinished, &self.name, Replace::Never) {
            self.is_kept = error.kind() == ErrorKind::Exists;
            let stays = format!("the new set is whole and stays at {}", self.path.display());
            return Err(if self.is_kept { error.and(stays) } else { error });
        }
        self.is_kept = true;
        steps.reach("renamed");
        self.parent.sync()?;
        steps.reach("published");
        Ok(())
    }
}

impl Drop for UnfinishedSet {
    fn drop(&mut self) {
        if !self.is_kept {
            // What is said of is the error before.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn unfinished(path: &Path) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(UNFINISHED);
    path.into()
}
