//! A backup whose stream a stand-in for partclone writes: it is cut, packed, and looked at while it passes.

use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use filesystems::partclone::{Partclone, Variant};
use formats::packed::Packing;
use formats::partclone::{Checked, StreamCheck};
use image::layers::Throttle;
use image::{Error, ErrorKind, Medium, Result, Task};

use super::pack::pack;
use crate::Threads;
use crate::partclone::{OnReport, refuse_failure};

/// What is cloned, and how.
pub(super) struct Cloning<'a> {
    pub(super) partclone: &'a Partclone,
    pub(super) variant: Variant,
    pub(super) device: &'a Path,
    pub(super) packing: &'a dyn Packing,
    pub(super) threads: Threads,
    pub(super) throttle: Option<Throttle>,
    pub(super) on_report: Option<OnReport>,
}

/// What the stream turned out to be.
pub(super) struct Cloned {
    /// Length of the file in bytes.
    pub(super) file_bytes: u64,
    /// Header and length, if it is a partition image in which nothing is wrong.
    pub(super) checked: Option<Checked>,
}

/// Has partclone write the stream, and packs it into `out`.
///
/// # Errors
///
/// `Io` with a [`PartcloneFailure`](crate::partclone::PartcloneFailure) below; those of `out`; `Cancelled`.
pub(super) fn clone_into(what: &Cloning<'_>, out: &dyn Medium, task: &Task) -> Result<Cloned> {
    let mut running = what.partclone.clone_device(what.variant, what.device)?;
    let Some(mut stdout) = running.stdout() else {
        return Err(Error::new(ErrorKind::Io, "partclone has no standard output"));
    };
    let on_report = what.on_report.clone();
    running.listen(Box::new(move |report| {
        if let Some(hear) = &on_report {
            hear(report);
        }
    }));
    let mut check =
        (!what.variant.is_raw()).then(|| StreamCheck::new(&what.device.display().to_string()));
    let has_failed = AtomicBool::new(false);
    let segment_bytes = what.packing.segment_bytes() as u64;
    let (packed, ended) = std::thread::scope(|scope| {
        let waiter = scope
            .spawn(|| running.wait(&|| task.is_cancelled() || has_failed.load(Ordering::Relaxed)));
        let take = |content: &mut Vec<u8>| {
            let read = stdout.by_ref().take(segment_bytes).read_to_end(content);
            let len =
                read.map_err(|cause| Error::io("cannot read what partclone writes", cause))?;
            if let Some(error) = check.as_mut().and_then(|check| check.feed(content).err()) {
                check = None;
                no_image(&error, task);
            }
            if let Some(throttle) = &what.throttle {
                throttle.take(len as u64);
            }
            task.advance(len as u64);
            Ok((len > 0).then_some(()))
        };
        let packed = pack(what.threads, task, what.packing, out, take, |(), _| Ok(()));
        has_failed.store(packed.is_err(), Ordering::Relaxed);
        (packed, waiter.join())
    });
    let ended = match ended {
        Ok(ended) => ended,
        Err(panic) => std::panic::resume_unwind(panic),
    };
    // What we ended it for comes first: a wish to stop, a full disk.
    let file_bytes = packed?;
    task.checkpoint()?;
    refuse_failure(&ended?, what.partclone, what.variant)?;
    let checked = check.and_then(|check| match check.finish() {
        Ok(checked) => Some(checked),
        Err(error) => {
            no_image(&error, task);
            None
        }
    });
    Ok(Cloned { file_bytes, checked })
}

/// A stand-in may write anything: that is only told.
fn no_image(error: &Error, task: &Task) {
    task.warn(format!(
        "what the stand-in for partclone writes is no image: {}",
        error.full_sentence()
    ));
}
