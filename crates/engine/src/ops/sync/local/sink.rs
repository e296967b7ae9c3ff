//! A target of a dry run for what lies past the old end: zeroes that swallow what is written.

use std::ops::Range;

use image::{Extent, ExtentKind, Image, ImageMut, Result};

/// An image of zeroes that stays one.
pub(super) struct Sink {
    size_bytes: u64,
}

impl Sink {
    /// One of `size_bytes`.
    pub(super) fn new(size_bytes: u64) -> Self {
        Sink { size_bytes }
    }
}

impl Image for Sink {
    fn size(&self) -> u64 {
        self.size_bytes
    }
    fn read_at(&self, buf: &mut [u8], _: u64) -> Result<()> {
        buf.fill(0);
        Ok(())
    }
    fn extent_at(&self, offset: u64) -> Result<Extent> {
        Ok(Extent::new(offset..self.size_bytes, ExtentKind::Zero))
    }
}

impl ImageMut for Sink {
    fn write_at(&self, _: &[u8], _: u64) -> Result<()> {
        Ok(())
    }
    fn zero(&self, _: Range<u64>) -> Result<()> {
        Ok(())
    }
    fn forget(&self, _: Range<u64>) -> Result<()> {
        Ok(())
    }
    fn flush(&self) -> Result<()> {
        Ok(())
    }
    fn resize(&mut self, size_bytes: u64) -> Result<()> {
        self.size_bytes = size_bytes;
        Ok(())
    }
}
