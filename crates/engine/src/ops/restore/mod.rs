//! Write an image of a partition back to a partition.

use std::path::PathBuf;
use std::time::Duration;

use filesystems::partclone::{Partclone, Variant};
use formats::packed::Compression;
use image::{Result, Task};

pub use super::backup::OnReport;
use crate::{Steps, Threads};

/// What is to be restored where.
#[derive(Clone)]
pub struct RestoreRequest {
    /// The image, as we, apart-core or partclone wrote it, compressed or not. What is in it decides; its name is a hint.
    pub image: PathBuf,
    /// The partition that is overwritten.
    pub target: PathBuf,
    /// Read back what was written, and compare.
    pub verify: bool,
    /// Tell the device that blocks which are not used hold nothing any more.
    pub discard: bool,
    /// Let partclone write.
    pub by_partclone: bool,
    /// Where partclone is: by default where it is installed. Stand-ins do all the work themselves.
    pub partclone: Option<Partclone>,
    /// Write at most so many bytes a second.
    pub limit_bytes_per_s: Option<u64>,
    /// How many threads.
    pub threads: Threads,
    /// Hears what partclone says, where it does the work.
    pub on_report: Option<OnReport>,
    /// Told of each step.
    pub steps: Steps,
}

/// A restore that can be done: the image is open, the target claimed, nothing is written.
pub struct RestorePlan {
    /// The image.
    pub image: PathBuf,
    /// What is overwritten, links followed.
    pub target: PathBuf,
    /// The variant: what the image's header says, else its name.
    pub variant: Variant,
    /// How it is compressed.
    pub compression: Compression,
    /// Size of the partition that was imaged in bytes; `None` for a raw image whose length is known only at its end.
    pub device_bytes: Option<u64>,
    /// Bytes in used blocks; `None` for a raw image.
    pub used_bytes: Option<u64>,
    /// Size of the target in bytes.
    pub target_bytes: u64,
    request: RestoreRequest,
}

/// What a restore did.
#[derive(Clone, Debug)]
pub struct RestoreReport {
    /// The image.
    pub image: PathBuf,
    /// What was overwritten.
    pub target: PathBuf,
    /// The variant.
    pub variant: Variant,
    /// Size of the partition that was imaged in bytes.
    pub device_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Bytes that were discarded.
    pub discarded_bytes: u64,
    /// Whether it was read back and found equal.
    pub verified: bool,
    /// Whether partclone wrote it.
    pub by_partclone: bool,
    /// How long it took.
    pub elapsed: Duration,
}

/// Opens the image, claims the target, and refuses what has to be refused. Writes nothing.
///
/// # Errors
///
/// `NotFound`, `Denied`; `InUse` for a target that is mounted, held or claimed; `TooSmall`; `Invalid` for a target that is no block device, and for an image that
/// is unfinished or none; `Damaged` for one whose header or bitmap is wrong.
pub fn plan(_request: RestoreRequest, _task: &Task) -> Result<RestorePlan> {
    todo!()
}

/// Restores. What an error, a wish to stop or a power cut leaves is a mixture of old and new.
///
/// # Errors
///
/// `Damaged` with the position in the image; `TooSmall` for a raw image that did not fit; `Io`; `Cancelled`.
pub fn perform(plan: RestorePlan, _task: &Task) -> Result<RestoreReport> {
    let _ = plan.request;
    todo!()
}
