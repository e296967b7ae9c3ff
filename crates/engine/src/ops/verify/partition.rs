//! Verify an image of a partition: every byte of its file, and nothing else is needed.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use filesystems::partclone::Variant;
use formats::packed::Compression;
use formats::partclone::Checksums;
use image::layers::Throttle;
use image::{Medium, Phase, Result, Task};

use crate::Threads;
use crate::ops::restore::{OpenImage, each_piece};

/// What is to be verified.
#[derive(Clone, Debug)]
pub struct ImageVerifyRequest {
    /// The image, as we, apart-core or partclone wrote it.
    pub image: PathBuf,
    /// Unpack at most so many bytes a second.
    pub limit_bytes_per_s: Option<u64>,
    /// How many threads.
    pub threads: Threads,
}

/// What was found to be right. What is not is an error.
#[derive(Clone, Debug)]
pub struct ImageVerifyReport {
    /// The image.
    pub image: PathBuf,
    /// The variant.
    pub variant: Variant,
    /// How it is compressed.
    pub compression: Compression,
    /// Size of the file in bytes.
    pub file_bytes: u64,
    /// Size of the partition that was imaged in bytes.
    pub device_bytes: u64,
    /// Bytes in used blocks; `None` for raw bytes.
    pub used_bytes: Option<u64>,
    /// Whether the content has checksums of its own: those of partclone.
    pub has_checksums: bool,
    /// How long it took.
    pub elapsed: Duration,
}

/// Reads all of an image, and checks every byte of its file by the checksums of the compression and of partclone, and by what
/// the numbers in it say about each other.
///
/// # Errors
///
/// As [`restore::plan`](crate::ops::restore::plan) for the image; `Damaged`, with the position in the file or in what is unpacked of it;
/// `Cancelled`.
pub fn verify_image(request: &ImageVerifyRequest, task: &Task) -> Result<ImageVerifyReport> {
    let start = Instant::now();
    let image = OpenImage::open(&request.image)?;
    let throttle = request.limit_bytes_per_s.map(Throttle::new);
    let read_bytes =
        each_piece(&image, Phase::Verify, request.threads, task, |read, (): &mut ()| {
            if let Some(throttle) = &throttle {
                throttle.take(read.bytes.len() as u64);
            }
            Ok(())
        })?;
    let has_checksums = image.header().is_some_and(|header| header.checksums != Checksums::None);
    if !has_checksums && image.compression == Compression::Uncompressed {
        task.warn(format!(
            "{} has no checksums: nothing but its length could be looked at",
            image.path.display()
        ));
    }
    Ok(ImageVerifyReport {
        variant: image.variant,
        compression: image.compression,
        file_bytes: image.file().len()?,
        device_bytes: image.device_bytes().unwrap_or(read_bytes),
        used_bytes: image.used_bytes(),
        has_checksums,
        image: image.path,
        elapsed: start.elapsed(),
    })
}
