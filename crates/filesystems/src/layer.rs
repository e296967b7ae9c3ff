//! The layer that makes free blocks unspecified.

use formats::partclone::UsedBlocks;
use image::{Extent, Image, Result};

/// An image of a filesystem, of which only used blocks matter: all others are unspecified, as is what lies behind the
/// filesystem's end.
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

    fn extent_at(&self, _offset: u64) -> Result<Extent> {
        let _ = (&self.used, self.block_bytes);
        todo!()
    }
}
