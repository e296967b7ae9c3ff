//! What is kept beside the target of a copy: its journal, and the map of what could not be read.

use std::fs;
use std::path::{Path, PathBuf};

use image::ranges::RangeSet;
use image::{Error, ErrorKind, Result};

use super::{CopyRequest, TargetKind};
use crate::folders::{beside, device_file_name, state_folder};
use crate::journal::Journal;
use crate::mapfile;
use crate::publish::replace_small;

/// Where the journal is.
#[derive(Clone, Debug)]
pub(super) struct JournalPlace {
    path: PathBuf,
}

impl JournalPlace {
    /// The place for a copy to `target`, which is of this kind.
    pub(super) fn new(request: &CopyRequest, target: &Path, kind: TargetKind) -> Self {
        let path = request.journal.clone();
        let path = path.unwrap_or_else(|| sidecar(target, kind, ".blockprint-journal"));
        JournalPlace { path }
    }

    fn folder(&self) -> Result<sys::Directory> {
        sys::Directory::of(&self.path)
    }

    fn name(&self) -> &std::ffi::OsStr {
        self.path.file_name().unwrap_or_default()
    }

    pub(super) fn load(&self) -> Result<Option<Journal>> {
        match self.folder() {
            Ok(folder) => Journal::load(&folder, self.name()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn store(&self, journal: &Journal) -> Result<()> {
        ensure_folder(&self.path)?;
        journal.store(&self.folder()?, self.name())
    }

    pub(super) fn remove(&self) -> Result<()> {
        match self.folder() {
            Ok(folder) => Journal::remove(&folder, self.name()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Takes away what an interrupted copy to `target` noted as done, before somebody else writes there. A journal that
/// was told to be elsewhere is not found.
pub(crate) fn forget_journal(target: &Path, kind: TargetKind) -> Result<()> {
    JournalPlace { path: sidecar(target, kind, ".blockprint-journal") }.remove()
}

/// The path of something that is kept about `target`: beside a file; for a device in the folder for state.
pub(super) fn sidecar(target: &Path, kind: TargetKind, suffix: &str) -> PathBuf {
    let named = |name: &std::ffi::OsStr| beside(name, suffix);
    match kind {
        TargetKind::Device => state_folder().join(named(&device_file_name(target))),
        _ => target.with_file_name(named(target.file_name().unwrap_or_default())),
    }
}

pub(super) fn write_bad_map(path: &Path, unreadable: &RangeSet, size_bytes: u64) -> Result<()> {
    ensure_folder(path)?;
    let name = path.file_name().unwrap_or_default();
    let text = mapfile::to_text(unreadable, size_bytes);
    let folder = sys::Directory::of(path)?;
    replace_small(&folder, &beside(name, ".new"), name, text.as_bytes())
}

/// Makes the folder that `path` lies in, if it is missing.
fn ensure_folder(path: &Path) -> Result<()> {
    let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return Ok(());
    };
    fs::create_dir_all(parent).map_err(|cause| {
        let name = parent.display().to_string();
        Error::io(format!("cannot make the folder {name}"), cause).at(name, None)
    })
}
