//! Check all of a set: the manifest, the table, and every byte of each image.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use image::{Error, ErrorKind, Result, Task};
use sys::{Access, Directory, FileMedium};

use super::{Content, Manifest, digest, restore, set};
use crate::Threads;
use crate::ops::verify::{ImageVerifyRequest, verify_image};

/// Which set is to be checked.
#[derive(Clone, Debug)]
pub struct DiskVerifyRequest {
    /// The folder of the set.
    pub set: PathBuf,
    /// Read at most so many bytes a second.
    pub limit_bytes_per_s: Option<u64>,
    /// How many threads.
    pub threads: Threads,
}

/// What was checked, and is right.
#[derive(Clone, Debug)]
pub struct DiskVerifyReport {
    /// The set.
    pub set: PathBuf,
    /// What is in it.
    pub manifest: Manifest,
    /// Size of the files that were read, in bytes.
    pub read_bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// Reads all of a set.
///
/// # Errors
///
/// `Damaged` for the first file that is not what it should be, with the position; those of [`Manifest::read`].
pub fn verify(request: &DiskVerifyRequest, task: &Task) -> Result<DiskVerifyReport> {
    let start = Instant::now();
    set::refuse_unfinished(&request.set)?;
    let manifest = Manifest::read(&request.set)?;
    let folder = Directory::open(&request.set)?;
    restore::table_of(&manifest, &request.set, &folder)?;
    restore::boot_of(&manifest, &request.set, &folder)?;
    for partition in &manifest.partitions {
        match &partition.content {
            Content::Container => {}
            Content::SwapHeader { file, file_bytes, blake3 } => {
                restore::file_of(&request.set, &folder, file, *file_bytes, blake3)?;
            }
            Content::Image { file, file_bytes, blake3, .. } => {
                let image = request.set.join(file);
                restore::refuse_other_file(&image, *file_bytes)?;
                let wanted = ImageVerifyRequest {
                    image: image.clone(),
                    limit_bytes_per_s: request.limit_bytes_per_s,
                    threads: request.threads,
                };
                verify_image(&wanted, task)?;
                let Some(blake3) = blake3 else { continue };
                let found = digest::of_medium(&FileMedium::open(&image, Access::Read)?, task)?;
                if found != *blake3 {
                    let name = image.display().to_string();
                    let sentence =
                        format!("{name} is another file than that of which the manifest tells");
                    return Err(Error::new(ErrorKind::Damaged, sentence).at(name, None));
                }
            }
        }
    }
    let read_bytes = manifest.files().iter().filter_map(|(_, len_bytes)| *len_bytes).sum();
    Ok(DiskVerifyReport {
        set: request.set.clone(),
        manifest,
        read_bytes,
        elapsed: start.elapsed(),
    })
}
