//! The bytes of a medium as they are, as an image: the simplest one there can be.

use std::ops::Range;

use ::image::{Extent, Image, ImageMut, Medium, Result};

/// A medium as an image, byte for byte. For tests: it trusts whoever asks.
pub struct PlainImage<M>(pub M);

impl<M: Medium> Image for PlainImage<M> {
    /// The length of the medium; panics if the medium cannot say it.
    fn size(&self) -> u64 {
        super::must(self.0.len(), || format!("cannot ask {} for its length", self.0.name()))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.0.read_at(buf, offset)
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.0.extent_at(offset)
    }

    fn block_size_bytes(&self) -> u64 {
        self.0.block_size_bytes()
    }
}

impl<M: Medium> ImageMut for PlainImage<M> {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.0.write_at(buf, offset)
    }

    fn zero(&self, range: Range<u64>) -> Result<()> {
        self.0.punch(range)
    }

    fn forget(&self, range: Range<u64>) -> Result<()> {
        self.0.discard(range)
    }

    fn flush(&self) -> Result<()> {
        self.0.sync()
    }

    fn resize(&mut self, size_bytes: u64) -> Result<()> {
        self.0.set_len(size_bytes)
    }
}
