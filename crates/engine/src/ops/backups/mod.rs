//! List the backups in a folder: images of partitions, and sets of whole disks.

mod look;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use image::{Error, Result, Task};

use crate::backup_name::BackupName;

/// A backup in a folder.
#[derive(Clone, Debug)]
pub struct Backup {
    /// Its file, or the folder of a set.
    pub path: PathBuf,
    /// What its name says.
    pub name: Option<BackupName>,
    /// Size on disk, in bytes.
    pub file_bytes: u64,
    /// When it was finished.
    pub modified: SystemTime,
    /// Whether it is unfinished.
    pub is_unfinished: bool,
    /// Whether it is the set of a whole disk.
    pub is_set: bool,
    /// The filesystem in lsblk's word, or `disk` for a set.
    pub filesystem: Option<String>,
    /// Size of the partition or disk in bytes, if that can be told without unpacking all.
    pub device_bytes: Option<u64>,
    /// Bytes in used blocks.
    pub used_bytes: Option<u64>,
    /// The device it was made of, if that was noted (sets only).
    pub source: Option<String>,
    /// Why it cannot be used, if that shows at a glance.
    pub problem: Option<String>,
}

/// What is in `folder`, oldest first. Files that are no backups are left out.
///
/// # Errors
///
/// Those of the folder.
pub fn list(folder: &Path, task: &Task) -> Result<Vec<Backup>> {
    let failed = |cause| {
        let name = folder.display().to_string();
        Error::io(format!("cannot list the backups in {name}"), cause).at(name, None)
    };
    let mut backups = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        task.checkpoint()?;
        let path = entry.map_err(failed)?.path();
        // What vanishes meanwhile, and links that lead nowhere, are no backups.
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.is_file() {
            backups.extend(look::image(&path, &metadata));
        } else if metadata.is_dir() {
            backups.extend(look::set(&path, &metadata));
        }
    }
    backups.sort_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path)));
    Ok(backups)
}
