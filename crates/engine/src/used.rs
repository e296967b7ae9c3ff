//! Reading only the used blocks of a filesystem, where that was asked for (`--used-only`).

use std::path::Path;

use filesystems::partclone::{Partclone, Variant};
use filesystems::{Used, UsedOnly, probe, used_blocks};
use formats::partclone::{Header, UsedBlocks};
use image::{Error, ErrorKind, Phase, Result, Task};
use sys::holders::Holders;

use crate::location::Format;
use crate::registry::Source;

/// The same source, of which only the used blocks of the filesystem on it are data. Where those are not known, all of it
/// is, as before, and the reason is a warning.
///
/// # Errors
///
/// `Cancelled`; those of the system.
pub(crate) fn used_only(mut source: Source, task: &Task) -> Result<Source> {
    let path = source.facts.path.clone();
    if source.facts.format != Format::Raw {
        let name = path.display();
        task.warn(format!("all of {name} is read: it is no partition and no raw file"));
        return Ok(source);
    }
    task.begin(Phase::Map, source.facts.size_bytes);
    match map_of(&path, task)? {
        Ok((header, used)) if covers(&header, source.facts.size_bytes) => {
            let block_bytes = u64::from(header.block_bytes);
            task.note(format!(
                "{} holds {} of used blocks",
                path.display(),
                image::units::Bytes(used.used() * block_bytes)
            ));
            source.image = Box::new(UsedOnly::new(source.image, used, block_bytes));
        }
        Ok(_) => warn(&path, "its size changed", task),
        Err(reason) => warn(&path, &reason, task),
    }
    Ok(source)
}

fn warn(path: &Path, reason: &str, task: &Task) {
    task.warn(format!("all of {} is read, because {reason}", path.display()));
}

/// Whether the map lies within an image of that size, which was opened before.
fn covers(header: &Header, size_bytes: u64) -> bool {
    let end = header.total_blocks.checked_mul(u64::from(header.block_bytes));
    end.is_some_and(|end| end <= size_bytes)
}

/// The map, or why there is none: a clause that follows `because`.
fn map_of(path: &Path, task: &Task) -> Result<Result<(Header, UsedBlocks), String>> {
    let holders = Holders::of_path(path)?;
    if !holders.mounts.is_empty() || !holders.unseen.is_empty() || !holders.swaps.is_empty() {
        return Ok(Err(format!("it is {holders}")));
    }
    let found = match probe(path) {
        Err(error) if error.kind() != ErrorKind::Cancelled => {
            return Ok(Err(error.full_sentence()));
        }
        found => found?,
    };
    let Some(kind) = found.kind else {
        return Ok(Err(match (found.conflict, found.table) {
            (Some(kinds), _) => format!("it looks like several things at once ({kinds})"),
            (None, Some(table)) => format!("it holds a partition table ({table})"),
            (None, None) => "no filesystem is recognised on it".to_string(),
        }));
    };
    let Some(variant) = Variant::by_name(&kind) else {
        return Ok(Err(format!("partclone does not know {kind}")));
    };
    let Some(partclone) = Partclone::find() else {
        return Ok(Err("partclone is not installed, which knows the used blocks".to_string()));
    };
    Ok(match used_blocks(&partclone, variant, path, task)? {
        Used::Known { header, used } => Ok((header, used)),
        Used::Unknown(reason) => Err(reason),
    })
}

/// Refuses the wish where nobody here reads the source.
pub(crate) fn refuse_remote(used_only: bool) -> Result<()> {
    match used_only {
        false => Ok(()),
        true => Err(Error::new(
            ErrorKind::Unsupported,
            "used blocks are known only of a source that is synced to a target on the same machine (leave out --used-only)",
        )),
    }
}
