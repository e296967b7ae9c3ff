//! The layer that makes free blocks unspecified.

use formats::partclone::UsedBlocks;
use image::{Extent, ExtentKind, Image, Result};

/// An image of a filesystem, of which only used blocks matter: all others are unspecified.
///
/// Of what lies behind the last block, the map says nothing, so that is as it is: NTFS keeps a copy of its boot sector
/// there, software RAID its superblock.
pub struct UsedOnly<I> {
    image: I,
    used: UsedBlocks,
    block_bytes: u64,
}

impl<I: Image> UsedOnly<I> {
    /// `image`, of whose blocks of `block_bytes` only those in `used` matter.
    pub fn new(image: I, used: UsedBlocks, block_bytes: u64) -> Self {
        UsedOnly { image, used, block_bytes }
    }
}

impl<I: Image> Image for UsedOnly<I> {
    fn size(&self) -> u64 {
        self.image.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.image.read_at(buf, offset)
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        let block = offset / self.block_bytes;
        if block >= self.used.total() {
            return self.image.extent_at(offset);
        }
        let (run, is_used) = self.used.run_at(block);
        let end = run.end.saturating_mul(self.block_bytes).min(self.size());
        match is_used {
            true => Ok(self.image.extent_at(offset)?.until(end)),
            false => Ok(Extent::new(offset..end, ExtentKind::Unspecified)),
        }
    }

    fn block_size_bytes(&self) -> u64 {
        // A layer of no blocks, or of odd ones, keeps no runs apart more finely than in bytes.
        match self.block_bytes.is_power_of_two() {
            true => self.block_bytes.min(self.image.block_size_bytes()),
            false => 1,
        }
    }
}
