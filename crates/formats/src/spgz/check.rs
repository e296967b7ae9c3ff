//! Which blocks are damaged.

use std::ops::Range;

use image::ranges::RangeSet;
use image::{Medium, Result, Task};

use super::SpgzImage;

impl<M: Medium> SpgzImage<M> {
    /// Reads all blocks as they stand on the medium, and returns the ranges of the image that are damaged, in order.
    /// Changes nothing. [`Task::advance`] is called for each byte of the image.
    ///
    /// A container whose last block is damaged has to be opened with [`OnDamage::Repair`](super::OnDamage::Repair), which
    /// changes nothing either; that block then is among the ranges, behind the end of the image.
    ///
    /// What is stored uncompressed has no digest and is never found damaged; a block of zeroes likewise.
    pub fn check(&self, task: &Task) -> Result<Vec<Range<u64>>> {
        let layout = self.slots.layout;
        let blocks = self.size_bytes.div_ceil(layout.block_bytes());
        let mut bytes = vec![0; layout.block_bytes() as usize];
        let mut damaged = RangeSet::new();
        let mut block = 0;
        while block < blocks {
            task.checkpoint()?;
            let holes = self.slots.holes_from(block)?.min(blocks - block);
            if holes > 0 {
                task.advance(
                    self.block_range(block + holes - 1).end - self.block_range(block).start,
                );
                block += holes;
                continue;
            }
            let pinned = self.cache.pin(block);
            let held = pinned.hold();
            let flawed = self.slots.load(block, &mut bytes[..self.block_len(block)])?.is_err();
            drop(held);
            if flawed {
                damaged.insert(self.block_range(block));
            }
            task.advance(self.block_len(block) as u64);
            block += 1;
        }
        if self.slots.is_left_out() {
            damaged.insert(self.size_bytes..self.size_bytes + layout.block_bytes());
        }
        Ok(damaged.iter().collect())
    }
}
