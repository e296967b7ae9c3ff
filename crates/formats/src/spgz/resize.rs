//! Another size: which slots there are, and how long the last block is.

use image::{ImageMut, Medium, Result};

use super::{SpgzImage, too_large};

impl<M: Medium> SpgzImage<M> {
    /// Cuts or grows the image. What it holds is durable once this returns.
    pub(super) fn change_size(&mut self, size_bytes: u64) -> Result<()> {
        if size_bytes == self.size_bytes {
            return Ok(());
        }
        let layout = self.slots.layout;
        let Some(len_bytes) = layout.len_bytes(size_bytes) else {
            return Err(too_large(self.medium(), size_bytes));
        };
        let blocks = size_bytes.div_ceil(layout.block_bytes());
        self.cache.drop_from(blocks);
        self.slots.drop_stale(blocks);
        self.damage().waiting.split_off(&blocks);
        self.flush()?;
        // Whatever follows works on the medium alone.
        self.cache.drop_from(0);
        if size_bytes < self.size_bytes {
            self.cut(size_bytes, len_bytes)?;
        } else {
            self.grow(size_bytes, len_bytes)?;
        }
        self.slots.sync()
    }

    fn cut(&mut self, size_bytes: u64, len_bytes: u64) -> Result<()> {
        let (block, rest) = self.slots.layout.blocks(size_bytes);
        if rest == 0 {
            self.slots.set_len(len_bytes)?;
            self.size_bytes = size_bytes;
            return Ok(());
        }
        let mut bytes = vec![0; self.block_len(block)];
        self.load(block, &mut bytes)?;
        self.store_last(block, &bytes[..rest as usize], size_bytes)
    }

    /// Puts `bytes` on the medium as the last block, with which the image has `size_bytes`.
    fn store_last(&mut self, block: u64, bytes: &[u8], size_bytes: u64) -> Result<()> {
        self.slots.store(block, bytes, true)?;
        self.size_bytes = size_bytes;
        Ok(())
    }

    fn grow(&mut self, size_bytes: u64, len_bytes: u64) -> Result<()> {
        let layout = self.slots.layout;
        let (last, had) = layout.blocks(self.size_bytes);
        let start = layout.slot(last).start;
        if had == 0 && self.slots.len_bytes() > start {
            // A last block of no bytes: its marker would become that of the block.
            self.slots.set_len(start)?;
            self.slots.sync()?;
        }
        if had > 0 && size_bytes < layout.block(last, u64::MAX).end {
            let mut bytes = vec![0; (size_bytes - last * layout.block_bytes()) as usize];
            self.load(last, &mut bytes[..had as usize])?;
            return self.store_last(last, &bytes, size_bytes);
        }
        // What the old last block lacks to a whole one is zero to everybody who reads it.
        self.slots.set_len(len_bytes)?;
        self.size_bytes = size_bytes;
        Ok(())
    }
}
