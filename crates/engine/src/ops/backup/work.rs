//! The bytes of an image: made of used blocks, of all blocks, or by a stand-in for partclone; packed, written, and made durable.

use std::ops::Range;

use filesystems::Used;
use filesystems::partclone::Partclone;
use formats::packed::Packing;
use formats::partclone::Stream;
use image::layers::{Throttle, Throttled};
use image::{Error, ErrorKind, Image, ImageExt, Medium, Phase, Result, Task};

use super::pack::pack;
use super::partclone::{Cloning, clone_into};
use super::unfinished::Unfinished;
use super::{BackupPlan, is_stub, naming};

/// What was written.
pub(super) struct Written {
    /// Length of the file in bytes.
    pub(super) file_bytes: u64,
    /// Bytes in used blocks; `None` where all was taken.
    pub(super) used_bytes: Option<u64>,
    /// Whether partclone made the stream.
    pub(super) by_partclone: bool,
}

/// Writes the image into `unfinished`, and makes it durable.
pub(super) fn write(
    plan: &mut BackupPlan,
    unfinished: &Unfinished,
    task: &Task,
) -> Result<Written> {
    if plan.map.is_none() && !plan.variant.is_raw() && !is_stub(&plan.request) {
        let used = plan.ask_used(task)?;
        plan.learn(used);
        plan.refuse_full(plan.used_bytes.unwrap_or(0), unfinished.available_bytes())?;
    }
    let packing = plan.request.compression.packing(plan.request.level);
    let out = unfinished.medium();
    let is_ours = plan.variant.is_raw() && !is_stub(&plan.request);
    let written = match (plan.map.take(), naming::partclone(&plan.request)) {
        _ if is_ours => all_bytes(plan, &*packing, out, task)?,
        (Some(Used::Known { header, used }), _) => {
            used_bytes(plan, &Stream::new(header, used), &*packing, out, task)?
        }
        (Some(Used::Unknown(reason)), _) => return Err(unknown(plan, &reason)),
        (None, Some(stub)) => by_partclone(plan, &stub, &*packing, out, task)?,
        (None, None) => return Err(unknown(plan, "partclone is not installed")),
    };
    plan.request.steps.reach("copied");
    task.begin(Phase::Flush, 0);
    task.checkpoint()?;
    out.sync()?;
    plan.request.steps.reach("flushed");
    Ok(written)
}

/// Partclone would make an image all the same of a filesystem whose log has to be replayed first: one with holes in it.
fn unknown(plan: &BackupPlan, reason: &str) -> Error {
    let name = plan.source.display().to_string();
    let sentence = format!("cannot tell which blocks of {name} are used: {reason}");
    Error::new(ErrorKind::Unsupported, sentence).at(name, None)
}

/// Partclone's stream, made here of the used blocks.
fn used_bytes(
    plan: &BackupPlan,
    stream: &Stream,
    packing: &dyn Packing,
    out: &dyn Medium,
    task: &Task,
) -> Result<Written> {
    let mut parts = stream.parts(packing.segment_bytes()).into_iter();
    task.begin(Phase::Copy, stream.len_bytes());
    let image = throttled(plan)?;
    let fill = |part: Range<u64>, content: &mut Vec<u8>| {
        let len = part.end - part.start;
        stream.fill(&*image, part, content)?;
        task.advance(len);
        Ok(())
    };
    let take = |_: &mut Vec<u8>| Ok(parts.next());
    let file_bytes = pack(plan.request.threads, task, packing, out, take, fill)?;
    Ok(Written { file_bytes, used_bytes: plan.used_bytes, by_partclone: false })
}

/// Every byte, as it stands there.
fn all_bytes(
    plan: &BackupPlan,
    packing: &dyn Packing,
    out: &dyn Medium,
    task: &Task,
) -> Result<Written> {
    let image = throttled(plan)?;
    let (size, piece) = (image.size(), packing.segment_bytes() as u64);
    task.begin(Phase::Copy, size);
    let mut at = 0;
    let take = |_: &mut Vec<u8>| {
        let range = at..size.min(at + piece);
        at = range.end;
        Ok((!range.is_empty()).then_some(range))
    };
    let fill = |range: Range<u64>, content: &mut Vec<u8>| {
        content.resize((range.end - range.start) as usize, 0);
        image.read_sparse(content, range.start)?;
        task.advance(range.end - range.start);
        Ok(())
    };
    let file_bytes = pack(plan.request.threads, task, packing, out, take, fill)?;
    Ok(Written { file_bytes, used_bytes: None, by_partclone: false })
}

/// What a program that stands in for partclone writes.
fn by_partclone(
    plan: &BackupPlan,
    partclone: &Partclone,
    packing: &dyn Packing,
    out: &dyn Medium,
    task: &Task,
) -> Result<Written> {
    task.begin(Phase::Copy, 0);
    let cloning = Cloning {
        partclone,
        variant: plan.variant,
        // What stands in for partclone is given what was asked for, word for word.
        device: &plan.request.source,
        packing,
        threads: plan.request.threads,
        throttle: plan.request.limit_bytes_per_s.map(Throttle::new),
        on_report: plan.request.on_report.clone(),
    };
    let cloned = clone_into(&cloning, out, task)?;
    let used = cloned.checked.map(|checked| {
        checked.header.used_by_bitmap.saturating_mul(u64::from(checked.header.block_bytes))
    });
    Ok(Written { file_bytes: cloned.file_bytes, used_bytes: used, by_partclone: true })
}

/// The partition, read no faster than is wished.
fn throttled(plan: &BackupPlan) -> Result<Box<dyn Image + '_>> {
    let Some(source) = &plan.opened else {
        let sentence = format!("{} is not open", plan.source.display());
        return Err(Error::new(ErrorKind::NotFound, sentence));
    };
    Ok(match plan.request.limit_bytes_per_s {
        Some(rate) => Box::new(Throttled::new(source.image(), Throttle::new(rate))),
        None => Box::new(source.image()),
    })
}
