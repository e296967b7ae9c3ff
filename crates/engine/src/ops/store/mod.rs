//! Look after a chunk store: what is in it, is it sound, what may go, what is to be in another one too.

mod copy;
mod list;
mod prune;
mod verify;

pub use copy::{CopyReport, CopyRequest, copy};
pub use list::{StoreReport, info, list};
pub use prune::{PrunePlan, PruneReport, PruneRequest, perform as prune, plan as plan_prune};
pub use verify::{DamagedChunk, LIST_LIMIT, Repair, VerifyReport, VerifyRequest, verify};

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use image::{Error, ErrorKind, Result};

/// The index files that are meant by `paths`: files as they are; of a folder, every `*.caibx` and `*.caidx` in it and
/// below it, also behind links.
///
/// # Errors
///
/// `NotFound` for a path that is not there; `Denied`, `Io`.
pub(crate) fn indexes_in(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut visited = HashSet::new();
    for path in paths {
        let failed = |cause| {
            let name = path.display().to_string();
            Error::io(format!("cannot look for indexes in {name}"), cause).at(name, None)
        };
        if fs::metadata(path).map_err(failed)?.is_dir() {
            collect(path, &mut found, &mut visited).map_err(failed)?;
        } else {
            found.push(path.clone());
        }
    }
    Ok(found)
}

/// `visited` holds the folders that were looked into: links may go in circles.
fn collect(
    folder: &Path,
    found: &mut Vec<PathBuf>,
    visited: &mut HashSet<(u64, u64)>,
) -> io::Result<()> {
    let status = fs::metadata(folder)?;
    if !visited.insert((status.dev(), status.ino())) {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let extension = path.extension().unwrap_or_default();
        let kind = entry.file_type()?;
        let is_folder = match kind.is_symlink().then(|| fs::metadata(&path)) {
            None => kind.is_dir(),
            Some(Ok(target)) => target.is_dir(),
            Some(Err(cause)) if cause.kind() == io::ErrorKind::NotFound => false,
            Some(Err(cause)) => return Err(cause),
        };
        if is_folder {
            // A chunk store beside the indexes is no folder of indexes.
            if extension != "castr" {
                collect(&path, found, visited)?;
            }
        } else if extension == "caibx" || extension == "caidx" {
            found.push(path);
        }
    }
    Ok(())
}

/// The refusal of an empty list of indexes.
pub(crate) fn no_index() -> Error {
    let sentence = "no index was found: without one, every chunk would be unused (name index files, or a folder \
                    that holds them)";
    Error::new(ErrorKind::Invalid, sentence)
}
