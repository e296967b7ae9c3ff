//! What an image knows to be zero without being read, asked once for each run.

use std::ops::Range;

use image::{ExtentKind, Image, Result};

/// The runs of zeroes of an image, for somebody who asks at ascending offsets.
pub(super) struct Holes<'a> {
    image: &'a dyn Image,
    /// The run that was asked for last.
    run: Range<u64>,
    is_zero: bool,
}

impl<'a> Holes<'a> {
    pub(super) fn of(image: &'a dyn Image) -> Self {
        Holes { image, run: 0..0, is_zero: false }
    }

    /// Where the zeroes end that stand at `offset`, but no further than `end`; `offset` if what stands there has to be
    /// read.
    pub(super) fn zeroes_until(&mut self, offset: u64, end: u64) -> Result<u64> {
        if offset >= end {
            return Ok(offset);
        }
        if !self.run.contains(&offset) {
            let run = self.image.extent_at(offset)?;
            self.run = offset..run.end();
            self.is_zero = run.kind == ExtentKind::Zero;
        }
        if !self.is_zero {
            return Ok(offset);
        }
        while self.run.end < end {
            let next = self.image.extent_at(self.run.end)?;
            if next.kind != ExtentKind::Zero || next.len_bytes == 0 {
                break;
            }
            self.run.end = next.end();
        }
        Ok(self.run.end.min(end))
    }
}
