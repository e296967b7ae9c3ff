//! A range of another image, as an image of its own.

use std::ops::Range;

use crate::{Error, ErrorKind, Extent, Image, ImageMut, Result};

/// The bytes of `range` of an image, beginning at offset 0: a partition, or the part that two images share.
pub struct Slice<I> {
    image: I,
    range: Range<u64>,
}

impl<I: Image> Slice<I> {
    /// The part `range` of `image`, which must lie within it, else [`ErrorKind::Invalid`].
    pub fn new(image: I, range: Range<u64>) -> Result<Self> {
        if range.start > range.end || range.end > image.size() {
            let sentence = format!(
                "bytes {} to {} are not within an image of {} bytes",
                range.start,
                range.end,
                image.size()
            );
            return Err(Error::new(ErrorKind::Invalid, sentence));
        }
        Ok(Slice { image, range })
    }

    fn below(&self, range: Range<u64>) -> Range<u64> {
        range.start + self.range.start..range.end + self.range.start
    }
}

impl<I: Image> Image for Slice<I> {
    fn size(&self) -> u64 {
        self.range.end - self.range.start
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.image.read_at(buf, offset + self.range.start)
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        let extent = self.image.extent_at(offset + self.range.start)?.until(self.range.end);
        Ok(Extent { offset: extent.offset - self.range.start, ..extent })
    }

    fn block_size_bytes(&self) -> u64 {
        self.image.block_size_bytes()
    }
}

impl<I: ImageMut> ImageMut for Slice<I> {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.image.write_at(buf, offset + self.range.start)
    }

    fn zero(&self, range: Range<u64>) -> Result<()> {
        self.image.zero(self.below(range))
    }

    fn forget(&self, range: Range<u64>) -> Result<()> {
        self.image.forget(self.below(range))
    }

    fn flush(&self) -> Result<()> {
        self.image.flush()
    }

    /// Only the size it has: what lies behind a slice belongs to others.
    fn resize(&mut self, size_bytes: u64) -> Result<()> {
        if size_bytes == self.size() {
            return Ok(());
        }
        let sentence = format!(
            "a part of {} bytes of an image cannot become {size_bytes} bytes long",
            self.size()
        );
        Err(Error::new(ErrorKind::Unsupported, sentence))
    }
}
