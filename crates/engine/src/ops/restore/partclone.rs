//! A restore whose writing partclone does: it is fed what is unpacked and checked here.

use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use filesystems::partclone::Partclone;
use formats::packed::{self, Unpack};
use formats::partclone::StreamCheck;
use image::layers::Throttle;
use image::{Error, ErrorKind, Medium, Phase, Result, Task};

use super::content::OpenImage;
use super::target::too_small;
use crate::partclone::{OnReport, refuse_failure};

/// What partclone is to do.
pub(super) struct Restoring<'a> {
    pub(super) partclone: &'a Partclone,
    pub(super) image: &'a OpenImage,
    /// The device, as partclone is given it.
    pub(super) target: &'a Path,
    /// `None` if nobody looked.
    pub(super) target_bytes: Option<u64>,
    pub(super) throttle: Option<Throttle>,
    pub(super) on_report: Option<OnReport>,
}

const PIECE_BYTES: usize = 1 << 20;

/// Has partclone write the image. Returns the length of the unpacked stream in bytes.
///
/// # Errors
///
/// `Io` with a [`PartcloneFailure`](crate::partclone::PartcloneFailure) below; `Damaged`, with the position;
/// `TooSmall`; `Cancelled`.
pub(super) fn restore(what: &Restoring<'_>, task: &Task) -> Result<u64> {
    let variant = what.image.variant;
    let mut running = what.partclone.restore_device(variant, what.target)?;
    let Some(mut stdin) = running.stdin() else {
        return Err(Error::new(ErrorKind::Io, "partclone has no standard input"));
    };
    let on_report = what.on_report.clone();
    running.listen(Box::new(move |report| {
        if let Some(hear) = &on_report {
            hear(report);
        }
    }));
    let file = what.image.file();
    task.begin(Phase::Copy, file.len()?);
    let has_failed = AtomicBool::new(false);
    let (fed, ended) = std::thread::scope(|scope| {
        let waiter = scope
            .spawn(|| running.wait(&|| task.is_cancelled() || has_failed.load(Ordering::Relaxed)));
        let fed = packed::unpack(file, what.image.compression)
            .and_then(|unpack| feed(what, unpack, &mut stdin, task));
        has_failed.store(fed.is_err(), Ordering::Relaxed);
        // Its end of file.
        drop(stdin);
        (fed, waiter.join())
    });
    let ended = match ended {
        Ok(ended) => ended,
        Err(panic) => std::panic::resume_unwind(panic),
    };
    // What we ended it for comes first: a wish to stop, a damaged image.
    let fed = fed?;
    task.checkpoint()?;
    refuse_failure(&ended?, what.partclone, variant)?;
    match fed {
        Fed::All(len_bytes) => Ok(len_bytes),
        Fed::Part(len_bytes) if what.partclone.is_stub() => {
            task.warn(format!(
                "the stand-in for partclone read no more than {len_bytes} bytes of the image"
            ));
            Ok(len_bytes)
        }
        Fed::Part(_) => {
            let sentence = format!(
                "partclone said that all was well, but has not read all of {}",
                what.image.path.display()
            );
            Err(Error::new(ErrorKind::Io, sentence))
        }
    }
}

/// How much partclone took.
enum Fed {
    All(u64),
    /// It read no more.
    Part(u64),
}

/// Writes all of the stream to `stdin`, checked before it is written.
fn feed(
    what: &Restoring<'_>,
    mut unpack: Box<dyn Unpack + '_>,
    stdin: &mut impl Write,
    task: &Task,
) -> Result<Fed> {
    let is_raw = what.image.variant.is_raw();
    let name = what.image.path.display().to_string();
    let mut check = (!is_raw).then(|| StreamCheck::new(&name));
    let mut buf = vec![0; PIECE_BYTES];
    let (mut len_bytes, mut told) = (0, 0);
    loop {
        task.checkpoint()?;
        let len = unpack.read(&mut buf)?;
        if let Some(error) = check.as_mut().and_then(|check| check.feed(&buf[..len]).err()) {
            check = None;
            tolerate(what, error, task)?;
        }
        task.advance(unpack.packed_position().saturating_sub(told));
        told = unpack.packed_position();
        if len == 0 {
            break;
        }
        len_bytes += len as u64;
        if let Some(has) = what.target_bytes.filter(|&has| is_raw && len_bytes > has) {
            return Err(too_small(what.target, has, &what.image.path, len_bytes));
        }
        if let Some(throttle) = &what.throttle {
            throttle.take(len as u64);
        }
        match stdin.write_all(&buf[..len]) {
            Ok(()) => {}
            Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(Fed::Part(len_bytes));
            }
            Err(cause) => return Err(Error::io("cannot write to partclone", cause)),
        }
    }
    if let Some(Err(error)) = check.map(StreamCheck::finish) {
        tolerate(what, error, task)?;
    }
    Ok(Fed::All(len_bytes))
}

/// An image for a stand-in may be anything.
fn tolerate(what: &Restoring<'_>, error: Error, task: &Task) -> Result<()> {
    if what.partclone.is_stub() {
        task.warn(format!("{} (left to the stand-in for partclone)", error.full_sentence()));
        return Ok(());
    }
    Err(error)
}
