//! The source, block by block in order, as its map says.

use std::iter::Peekable;
use std::ops::Range;

use image::{ExtentKind, Extents, Image, ImageExt, Result};

use super::block::{BLOCK_BYTES, Buffer};

/// What comes next in the source.
pub(super) enum Next {
    /// To be read: at most [`BLOCK_BYTES`].
    Data(Block),
    /// Zeroes, known from the map.
    Zero(Range<u64>),
    /// The end.
    End,
}

/// A part of the source that is read at once.
pub(super) struct Block {
    pub(super) range: Range<u64>,
    /// What in it is unspecified, and counts as zeroes: equal disks have equal chunks.
    unspecified: Vec<Range<u64>>,
}

/// A hole shorter than this is read together with the data around it, so that a chunk needs a bounded number of
/// blocks.
const HOLE_MIN_BYTES: u64 = BLOCK_BYTES as u64;

/// Hands out the source in order. Each run of the map is asked for once: on some filesystems (tmpfs) the question
/// takes as long as the run is.
pub(super) struct Feed<'a> {
    map: Peekable<Extents<'a, dyn Image + 'a>>,
    size: u64,
    at: u64,
}

impl<'a> Feed<'a> {
    pub(super) fn new(image: &'a dyn Image) -> Self {
        let size = image.size();
        Feed { map: image.extents(0..size).peekable(), size, at: 0 }
    }

    pub(super) fn next(&mut self) -> Result<Next> {
        if self.at == self.size {
            return Ok(Next::End);
        }
        let start = self.at;
        // Blocks begin at their multiples, so that reads stay aligned behind a hole.
        let boundary = ((start / BLOCK_BYTES as u64 + 1) * BLOCK_BYTES as u64).min(self.size);
        let mut unspecified = Vec::new();
        while self.at < boundary {
            // It ends early only behind an error, which was told.
            let Some(extent) = self.map.peek() else { return Ok(Next::End) };
            let Ok(extent) = extent else {
                // Taken out, it is told once.
                return Err(self.map.next().and_then(Result::err).expect("it was an error"));
            };
            let (end, kind) = (extent.end(), extent.kind);
            let is_hole = kind != ExtentKind::Data
                && (extent.len_bytes >= HOLE_MIN_BYTES || end == self.size);
            if is_hole {
                if self.at == start {
                    self.map.next();
                    self.at = end;
                    return Ok(Next::Zero(start..end));
                }
                break;
            }
            if kind == ExtentKind::Unspecified {
                unspecified.push(self.at..end.min(boundary));
            }
            self.at = end.min(boundary);
            if end <= boundary {
                self.map.next();
            }
        }
        Ok(Next::Data(Block { range: start..self.at, unspecified }))
    }
}

/// Reads a block that the feed handed out.
pub(super) fn read(image: &dyn Image, block: &Block, buffer: &mut Buffer) -> Result<()> {
    let Range { start, end } = block.range;
    let bytes = &mut buffer.memory[..(end - start) as usize];
    image.read_at(bytes, start)?;
    for range in &block.unspecified {
        bytes[(range.start - start) as usize..(range.end - start) as usize].fill(0);
    }
    Ok(())
}
