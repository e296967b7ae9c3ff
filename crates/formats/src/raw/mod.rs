//! Raw: the bytes of the medium are the bytes of the disk.
//!
//! Holes of the medium are the zero runs of the image. There is no header, so that nothing can be damaged but
//! the content. What a power cut may leave is what the medium leaves: of the writes since the last flush any
//! subset, torn at sectors.

use std::ops::Range;

use image::{Error, ErrorKind, Extent, Image, ImageMut, Medium, Result};

/// A medium as an image, byte for byte.
#[derive(Debug)]
pub struct RawImage<M> {
    medium: M,
    size_bytes: u64,
}

impl<M: Medium> RawImage<M> {
    /// The image that `medium` holds; its size is the length that the medium has now.
    pub fn open(medium: M) -> Result<Self> {
        let size_bytes = medium.len()?;
        Ok(RawImage { medium, size_bytes })
    }

    /// An image of `size_bytes` on the front of a medium. A file gets that length; a device keeps its own and
    /// must not be smaller.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TooSmall`] if the medium cannot hold it.
    pub fn create(medium: M, size_bytes: u64) -> Result<Self> {
        let held_bytes = medium.len()?;
        match medium.set_len(size_bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Unsupported && held_bytes >= size_bytes => {}
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                let sentence = format!(
                    "{} has {held_bytes} bytes, {} too few",
                    medium.name(),
                    size_bytes - held_bytes
                );
                return Err(Error::new(ErrorKind::TooSmall, sentence).at(medium.name(), None));
            }
            Err(error) => return Err(error),
        }
        Ok(RawImage { medium, size_bytes })
    }

    /// The medium below.
    pub fn medium(&self) -> &M {
        &self.medium
    }

    /// Gives the medium back.
    pub fn into_medium(self) -> M {
        self.medium
    }
}

impl<M: Medium> Image for RawImage<M> {
    fn size(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.medium.read_at(buf, offset)
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        Ok(self.medium.extent_at(offset)?.until(self.size_bytes))
    }

    fn block_size_bytes(&self) -> u64 {
        self.medium.block_size_bytes()
    }
}

impl<M: Medium> ImageMut for RawImage<M> {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.medium.write_at(buf, offset)
    }

    fn zero(&self, range: Range<u64>) -> Result<()> {
        self.medium.punch(range)
    }

    fn forget(&self, range: Range<u64>) -> Result<()> {
        self.medium.discard(range)
    }

    fn flush(&self) -> Result<()> {
        self.medium.sync()
    }

    /// On the front of a medium of fixed length, only the size it has.
    fn resize(&mut self, size_bytes: u64) -> Result<()> {
        if size_bytes == self.size_bytes {
            return Ok(());
        }
        self.medium.set_len(size_bytes)?;
        self.size_bytes = size_bytes;
        Ok(())
    }
}
