//! The one checkpoint between whoever asks and whoever answers: ranges and extents that make sense.

use std::ops::Range;

use crate::{Error, ErrorKind, Extent, Image, ImageMut, Result};

/// Refuses requests past the end and answers that are no extents, so that a format need check neither.
///
/// Stands directly on each image that the registry opens.
pub struct Checked<I>(I);

impl<I: Image> Checked<I> {
    /// Checks whatever goes to and comes from `image`.
    pub fn new(image: I) -> Self {
        Checked(image)
    }

    /// The image below.
    pub fn get_ref(&self) -> &I {
        &self.0
    }

    fn check(&self, offset: u64, len_bytes: u64) -> Result<()> {
        let size = self.0.size();
        match offset.checked_add(len_bytes) {
            Some(end) if end <= size => Ok(()),
            _ => Err(Error::new(
                ErrorKind::Invalid,
                format!("{len_bytes} bytes at {offset} are not within an image of {size} bytes"),
            )),
        }
    }
}

impl<I: Image> Image for Checked<I> {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.check(offset, buf.len() as u64)?;
        self.0.read_at(buf, offset)
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.check(offset, 1)?;
        let extent = self.0.extent_at(offset)?;
        let sound = extent.offset == offset
            && extent.len_bytes > 0
            && extent.len_bytes <= self.0.size() - offset;
        if !sound {
            let size = self.0.size();
            return Err(Error::new(
                ErrorKind::Damaged,
                format!(
                    "the map of an image of {size} bytes is wrong: at {offset} it has {extent:?}"
                ),
            ));
        }
        Ok(extent)
    }

    fn block_size_bytes(&self) -> u64 {
        self.0.block_size_bytes()
    }
}

impl<I: ImageMut> ImageMut for Checked<I> {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.check(offset, buf.len() as u64)?;
        self.0.write_at(buf, offset)
    }

    fn zero(&self, range: Range<u64>) -> Result<()> {
        self.check(range.start, range.end.saturating_sub(range.start))?;
        if range.is_empty() { Ok(()) } else { self.0.zero(range) }
    }

    fn forget(&self, range: Range<u64>) -> Result<()> {
        self.check(range.start, range.end.saturating_sub(range.start))?;
        if range.is_empty() { Ok(()) } else { self.0.forget(range) }
    }

    fn flush(&self) -> Result<()> {
        self.0.flush()
    }

    fn resize(&mut self, size_bytes: u64) -> Result<()> {
        self.0.resize(size_bytes)
    }
}
