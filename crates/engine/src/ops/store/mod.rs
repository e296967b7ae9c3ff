//! Look after a chunk store: what is in it, is it sound, what may go, what is to be in another one too.

mod copy;
mod list;
mod prune;
mod verify;

pub use copy::{CopyReport, CopyRequest, copy};
pub use list::{StoreReport, info, list};
pub use prune::{PrunePlan, PruneReport, PruneRequest, perform as prune, plan as plan_prune};
pub use verify::{LIST_LIMIT, Repair, VerifyReport, VerifyRequest, verify};

use std::fs;
use std::path::{Path, PathBuf};

use image::{Error, ErrorKind, Result};

/// The index files that are meant by `paths`: files as they are; of a folder, every `*.caibx` and `*.caidx` in it and
/// below it.
///
/// # Errors
///
/// `NotFound` for a path that is not there; `Denied`, `Io`.
pub(crate) fn indexes_in(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        let failed = |cause| {
            let name = path.display().to_string();
            Error::io(format!("cannot look for indexes in {name}"), cause).at(name, None)
        };
        if fs::metadata(path).map_err(failed)?.is_dir() {
            collect(path, &mut found).map_err(failed)?;
        } else {
            found.push(path.clone());
        }
    }
    Ok(found)
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        // A chunk store beside the indexes is no folder of indexes; links to folders may go in circles.
        if entry.file_type()?.is_dir() {
            if path.extension().is_none_or(|extension| extension != "castr") {
                collect(&path, found)?;
            }
        } else if path.extension().is_some_and(|it| it == "caibx" || it == "caidx") {
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
