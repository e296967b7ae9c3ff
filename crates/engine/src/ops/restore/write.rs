//! Our own writer: every piece of an image to where it belongs; or compared with what stands there.

use image::{ExtentKind, Image, ImageExt, Medium, Phase, Result, Task};

use super::content::{Content, OpenImage};
use super::read::{Read, each_piece};
use super::target::{Act, Pass, Target, Tools, too_small};
use crate::Threads;

/// Writes all of the image to the target, or compares it. Returns how many bytes that were.
pub(super) fn pass(
    image: &OpenImage,
    target: &Target,
    pass: &Pass<'_>,
    threads: Threads,
    task: &Task,
) -> Result<u64> {
    let phase = if pass.act == Act::Write { Phase::Copy } else { Phase::Verify };
    let has = target.medium.len()?;
    each_piece(image, phase, threads, task, |read: &Read<'_>, tools: &mut Tools| {
        let mut at = 0;
        for run in read.runs {
            if run.end > has {
                return Err(too_small(&target.path, has, &image.path, run.end));
            }
            let len = (run.end - run.start) as usize;
            pass.put(&read.bytes[at..at + len], run.start, tools)?;
            at += len;
        }
        Ok(())
    })
}

/// Tells the device which blocks hold nothing. Returns how many bytes it was told of.
pub(super) fn discard(image: &OpenImage, target: &Target, task: &Task) -> Result<u64> {
    let Content::Partition(content) = &image.content else { return Ok(0) };
    let mut discarded = 0;
    for run in content.extents(0..content.size()) {
        let run = run?;
        if run.kind == ExtentKind::Unspecified {
            task.checkpoint()?;
            target.medium.discard(run.range())?;
            discarded += run.len_bytes;
        }
    }
    Ok(discarded)
}
