//! Sharing the blocks of a file with its copy instead of writing them (reflinks).

use std::fs::File;
use std::ops::Range;

use image::{Error, ErrorKind, Phase, Result, Task};

use crate::reflink::{Reflink, is_unsupported};

/// How much is shared in one call: few calls, but progress that moves and a quick stop. A multiple of each block.
const PIECE_BYTES: u64 = 1 << 30;

/// Shares `ranges` of `source`, whatever is data or hole in them, with the same ranges of `target`. Returns whether
/// that was possible; if not, all of them have to be copied.
///
/// # Errors
///
/// `Unsupported` where `rule` says that blocks must be shared and they cannot be.
pub(super) fn share(
    source: &File,
    target: &File,
    ranges: &[Range<u64>],
    rule: Reflink,
    task: &Task,
) -> Result<bool> {
    task.begin(Phase::Clone, ranges.iter().map(|range| range.end - range.start).sum());
    for range in ranges {
        let mut start = range.start;
        while start < range.end {
            task.checkpoint()?;
            let end = (start - start % PIECE_BYTES + PIECE_BYTES).min(range.end);
            match sys::clone_range(source, target, start..end) {
                Ok(()) => task.advance(end - start),
                Err(cause) if !is_unsupported(&cause) => {
                    return Err(Error::io("cannot share blocks with the target", cause));
                }
                Err(cause) if rule == Reflink::Always => return Err(impossible().because(cause)),
                Err(_) => return Ok(false),
            }
            start = end;
        }
    }
    Ok(true)
}

/// The error where blocks must be shared and cannot be.
pub(super) fn impossible() -> Error {
    let sentence = "the two cannot share blocks (both have to be files on one filesystem that can, such as XFS \
                    or Btrfs)";
    Error::new(ErrorKind::Unsupported, sentence)
}
