//! Write an image of a partition back to a partition.

mod content;
mod partclone;
mod read;
mod supply;
mod target;
mod write;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use filesystems::partclone::{Partclone, Variant};
use formats::packed::Compression;
use image::layers::Throttle;
use image::{Error, ErrorKind, Medium, Phase, Result, Task};

use crate::partclone::OnReport;
use crate::{Steps, Threads};
pub(crate) use content::OpenImage;
pub(crate) use read::{each_piece, read_runs};
pub(crate) use supply::{Piece, of_image, piece_bytes};
use sys::{Access, DeviceMedium};
use target::{Act, Pass, Target};

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
    content: OpenImage,
    /// Stand-ins for partclone may write to what is not there.
    claimed: Option<Target>,
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
/// is unfinished or none; `Damaged` for one whose header or bitmap is wrong; `Unsupported` where partclone is to write and is not there.
pub fn plan(request: RestoreRequest, task: &Task) -> Result<RestorePlan> {
    let stub = request.partclone.as_ref().filter(|partclone| partclone.is_stub());
    let content = match stub {
        Some(stub) => OpenImage::open_for_stub(&request.image, stub)?,
        None => OpenImage::open(&request.image)?,
    };
    if request.by_partclone {
        refuse_absent(&request, &content)?;
    }
    let claimed = match Target::claim(&request.target) {
        Ok(target) => Some(target),
        Err(error) if stub.is_some() => {
            task.warn(format!("{} (left to the stand-in for partclone)", error.full_sentence()));
            None
        }
        Err(error) => return Err(error),
    };
    if let (Some(target), Some(needs)) = (&claimed, content.device_bytes()) {
        target.refuse_larger(&content.path, needs)?;
    }
    let target_bytes = claimed.as_ref().map_or(Ok(0), |target| target.medium.len())?;
    Ok(RestorePlan {
        image: content.path.clone(),
        target: claimed.as_ref().map_or(&request.target, |target| &target.path).clone(),
        variant: content.variant,
        compression: content.compression,
        device_bytes: content.device_bytes(),
        used_bytes: content.used_bytes(),
        target_bytes,
        request,
        content,
        claimed,
    })
}

/// Restores. What an error, a wish to stop or a power cut leaves is a mixture of old and new.
///
/// # Errors
///
/// `Damaged` with the position in the image; `TooSmall` for a raw image that did not fit; `Io`, with a
/// [`PartcloneFailure`](crate::partitions::PartcloneFailure) below if partclone failed; `Cancelled`.
pub fn perform(plan: RestorePlan, task: &Task) -> Result<RestoreReport> {
    let start = Instant::now();
    let request = &plan.request;
    let steps = &request.steps;
    steps.reach("begun");
    let throttle = request.limit_bytes_per_s.map(Throttle::new);
    let partclone = partclone_of(request);
    let (mut written_bytes, mut discarded_bytes) = (0, 0);
    match (&plan.claimed, partclone) {
        (claimed, Some(partclone)) if request.by_partclone || partclone.is_stub() => {
            let what = partclone::Restoring {
                partclone: &partclone,
                image: &plan.content,
                // What stands in for partclone is given what was asked for, word for word.
                target: if partclone.is_stub() { &request.target } else { &plan.target },
                target_bytes: claimed.is_some().then_some(plan.target_bytes),
                throttle,
                on_report: request.on_report.clone(),
            };
            let stream_bytes = partclone::restore(&what, task)?;
            written_bytes = plan.used_bytes.unwrap_or(stream_bytes);
        }
        (Some(target), _) => {
            if request.discard {
                discarded_bytes = write::discard(&plan.content, target, task)?;
            }
            let pass = Pass { target: &target.medium, act: Act::Write, throttle };
            written_bytes = write::pass(&plan.content, target, &pass, request.threads, task)?;
        }
        (None, _) => {}
    }
    steps.reach("written");
    let mut verified = false;
    if let Some(target) = &plan.claimed {
        task.begin(Phase::Flush, 0);
        target.medium.sync()?;
        steps.reach("flushed");
        if request.verify && !is_stub(request) {
            // Past the cache: what is asked is what the device has.
            let device = DeviceMedium::open(&target.path, Access::Read)?;
            let pass = Pass { target: &device, act: Act::Compare, throttle: None };
            write::pass(&plan.content, target, &pass, request.threads, task)?;
            verified = true;
            steps.reach("verified");
        }
    }
    Ok(RestoreReport {
        device_bytes: plan.device_bytes.unwrap_or(written_bytes),
        by_partclone: request.by_partclone || is_stub(request),
        image: plan.image,
        target: plan.target,
        variant: plan.variant,
        written_bytes,
        discarded_bytes,
        verified,
        elapsed: start.elapsed(),
    })
}

/// The partclone that writes, if there is one.
fn partclone_of(request: &RestoreRequest) -> Option<Partclone> {
    request.partclone.clone().or_else(Partclone::find)
}

/// Whether all is left to a program that stands in for partclone.
fn is_stub(request: &RestoreRequest) -> bool {
    request.partclone.as_ref().is_some_and(Partclone::is_stub)
}

/// Refuses to let a partclone write that is not there.
fn refuse_absent(request: &RestoreRequest, content: &OpenImage) -> Result<()> {
    let variant = content.variant;
    if partclone_of(request).is_some_and(|partclone| partclone.program(variant).is_some()) {
        return Ok(());
    }
    let sentence = format!("partclone.{} is not installed (package partclone)", variant.name());
    Err(Error::new(ErrorKind::Unsupported, sentence))
}
