//! spgz: an image in blocks, each in a slot of its own, compressed where that saves space.

use std::ops::Range;

use image::{Extent, Image, ImageMut, Medium, Result};

/// An spgz container as an image.
pub struct SpgzImage<M> {
    medium: M,
}

/// What is done about a block that is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDamage {
    /// Reading it fails.
    Report,
    /// It reads as zeroes and is remembered; what of it was not overwritten until a flush becomes zeroes then. If it is
    /// the last, the image ends where it begins.
    Repair,
}

impl<M: Medium> SpgzImage<M> {
    /// Length of a block in bytes, unless another is asked for.
    pub const BLOCK_BYTES_DEFAULT: u64 = 131_071;

    /// The image in the container `medium`.
    pub fn open(medium: M, on_damage: OnDamage) -> Result<Self> {
        let _ = on_damage;
        Ok(SpgzImage { medium })
    }

    /// An image of `size_bytes`, all zero, in a new container on `medium`, which is emptied. `block_bytes` is rounded as
    /// the specification says.
    pub fn create(medium: M, block_bytes: u64, size_bytes: u64) -> Result<Self> {
        let _ = (block_bytes, size_bytes);
        Ok(SpgzImage { medium })
    }

    /// The medium below.
    pub fn medium(&self) -> &M {
        &self.medium
    }

    /// Length of a block in bytes.
    pub fn block_bytes(&self) -> u64 {
        todo!()
    }

    /// The ranges that were found damaged and read as zeroes since it was opened.
    pub fn repaired(&self) -> Vec<Range<u64>> {
        todo!()
    }
}

/// Whether `head`, the first 4096 bytes of a medium (or all, if it has fewer), is the header of a container.
pub fn looks_like_spgz(head: &[u8]) -> bool {
    let _ = head;
    todo!()
}

impl<M: Medium> Image for SpgzImage<M> {
    fn size(&self) -> u64 {
        todo!()
    }
    fn read_at(&self, _: &mut [u8], _: u64) -> Result<()> {
        todo!()
    }
    fn extent_at(&self, _: u64) -> Result<Extent> {
        todo!()
    }
}

impl<M: Medium> ImageMut for SpgzImage<M> {
    fn write_at(&self, _: &[u8], _: u64) -> Result<()> {
        todo!()
    }
    fn zero(&self, _: Range<u64>) -> Result<()> {
        todo!()
    }
    fn forget(&self, _: Range<u64>) -> Result<()> {
        todo!()
    }
    fn flush(&self) -> Result<()> {
        todo!()
    }
    fn resize(&mut self, _: u64) -> Result<()> {
        todo!()
    }
}
