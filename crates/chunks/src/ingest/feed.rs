//! The source, block by block in order, as its map says.

use std::ops::Range;

use image::{ExtentKind, Image, ImageExt, Result};

use super::block::{BLOCK_BYTES, Buffer};

/// What comes next in the source.
pub(super) enum Next {
    /// To be read: at most [`BLOCK_BYTES`].
    Data(Range<u64>),
    /// Zeroes, known from the map.
    Zero(Range<u64>),
    /// The end.
    End,
}

/// A hole shorter than this is read together with the data around it, so that a chunk needs a bounded number of
/// blocks.
const HOLE_MIN_BYTES: u64 = BLOCK_BYTES as u64;

/// Hands out the source in order.
pub(super) struct Feed<'a> {
    image: &'a dyn Image,
    at: u64,
    /// What lies at `at`, as far as it was asked for.
    run: Range<u64>,
    run_is_data: bool,
}

impl<'a> Feed<'a> {
    pub(super) fn new(image: &'a dyn Image) -> Self {
        Feed { image, at: 0, run: 0..0, run_is_data: false }
    }

    pub(super) fn next(&mut self) -> Result<Next> {
        if self.at == self.image.size() {
            return Ok(Next::End);
        }
        if self.at == self.run.end {
            self.ask()?;
        }
        if !self.run_is_data {
            let zero = self.at..self.run.end;
            self.at = self.run.end;
            return Ok(Next::Zero(zero));
        }
        // Blocks begin at their multiples, so that reads stay aligned behind a hole.
        let boundary = (self.at / BLOCK_BYTES as u64 + 1) * BLOCK_BYTES as u64;
        let data = self.at..boundary.min(self.run.end);
        self.at = data.end;
        Ok(Next::Data(data))
    }

    /// Asks the map for the run at `at`: a large hole, or everything up to the next large hole or block boundary.
    fn ask(&mut self) -> Result<()> {
        let size = self.image.size();
        let boundary = ((self.at / BLOCK_BYTES as u64 + 1) * BLOCK_BYTES as u64).min(size);
        let mut end = self.at;
        for extent in self.image.extents(self.at..size) {
            let extent = extent?;
            let is_hole = extent.kind != ExtentKind::Data
                && (extent.len_bytes >= HOLE_MIN_BYTES || extent.end() == size);
            if is_hole && end == self.at {
                (self.run, self.run_is_data) = (self.at..extent.end(), false);
                return Ok(());
            }
            if is_hole {
                break;
            }
            end = extent.end();
            if end >= boundary {
                break;
            }
        }
        (self.run, self.run_is_data) = (self.at..end, true);
        Ok(())
    }
}

/// Reads a block that the feed handed out. What is unspecified becomes zeroes: equal disks have equal chunks.
pub(super) fn read(image: &dyn Image, range: &Range<u64>, buffer: &mut Buffer) -> Result<()> {
    let bytes = &mut buffer.memory[..(range.end - range.start) as usize];
    image.read_at(bytes, range.start)?;
    for extent in image.extents(range.clone()) {
        let extent = extent?;
        if extent.kind == ExtentKind::Unspecified {
            let from = (extent.offset - range.start) as usize;
            bytes[from..from + extent.len_bytes as usize].fill(0);
        }
    }
    Ok(())
}
