//! Back up a whole disk as one set, and make it again on another, also a larger one.
//!
//! A set is a folder `<name>-<YYYY>-<MM>-<DD>T<HH><MM>.disk` with an image for each partition, the partition table, what boot
//! loaders keep before the first partition, and a [`Manifest`] that says what is what. `docs/disks.md` describes it.

pub mod backup;
mod digest;
mod grow;
mod json;
mod manifest;
mod parts;
pub mod restore;
mod set;
pub mod verify;

use std::path::Path;

use formats::table::Table;
use image::Result;

pub use manifest::{Boot, Content, DiskFacts, Manifest, PartitionFacts, TableFacts};
use parts::Disk;

/// Whether `path` is a disk, or a file with the content of one, that has a partition table, so that [`backup`] makes a set of
/// it. What is a filesystem as a whole is none, also where a boot loader in it has left the mark of a table.
///
/// # Errors
///
/// Those of looking at it.
pub fn has_table(path: &Path) -> Result<bool> {
    let disk = Disk::look_at(path)?;
    let is_filesystem = || filesystems::probe(path).is_ok_and(|found| found.kind.is_some());
    // What is wrong with a table is said by whoever wants to use it.
    let has = Table::read(&disk.medium, disk.sector_bytes).map_or(true, |table| table.is_some());
    Ok(has && !is_filesystem())
}

/// Whether `path` is a set, finished or not.
pub fn is_set(path: &Path) -> bool {
    path.join(manifest::FILE).is_file() || (path.is_dir() && set::is_named_as_set(path))
}
