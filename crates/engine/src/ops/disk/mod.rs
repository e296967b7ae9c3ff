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

/// Whether `path` is a disk, or a file with the content of one, that has a partition table, so that [`backup`] makes a set of it.
///
/// # Errors
///
/// Those of looking at it.
pub fn has_table(path: &Path) -> Result<bool> {
    let disk = Disk::look_at(path)?;
    // What is wrong with a table is said by whoever wants to use it.
    Ok(Table::read(&disk.medium, disk.sector_bytes).map_or(true, |table| table.is_some()))
}

/// Whether `path` is a set, finished or not.
pub fn is_set(path: &Path) -> bool {
    path.join(manifest::FILE).is_file() || (path.is_dir() && set::is_named_as_set(path))
}
