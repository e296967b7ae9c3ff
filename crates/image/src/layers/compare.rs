//! A target that changes nothing and fails where what is written is not what already stands there.

use std::ops::Range;

use crate::{Error, ErrorKind, Extent, ExtentKind, Image, ImageExt, ImageMut, Result};

/// Turns each write into a comparison, so that a copy onto it proves that source and target are equal.
///
/// `zero` compares with zeroes, `forget` with nothing, and reads pass through. The first difference is an
/// [`ErrorKind::Damaged`] that names its offset. It calls all of itself data, so that a copier has to say
/// something about every byte.
pub struct Compare<I> {
    image: I,
    name: String,
}

/// How much is read at once.
const PART_BYTES: usize = 256 << 10;

impl<I: Image> Compare<I> {
    /// Compares with `image`, which people call `name`.
    pub fn new(image: I, name: impl Into<String>) -> Self {
        Compare { image, name: name.into() }
    }

    fn differs(&self, at: u64) -> Error {
        let sentence = format!("{} does not hold what was written to it at offset {at}", self.name);
        Error::new(ErrorKind::Damaged, sentence).at(&self.name, Some(at..at + 1))
    }
}

impl<I: Image> Image for Compare<I> {
    fn size(&self) -> u64 {
        self.image.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.image.read_at(buf, offset)
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        Ok(Extent::new(offset..self.image.size(), ExtentKind::Data))
    }

    fn block_size_bytes(&self) -> u64 {
        self.image.block_size_bytes()
    }
}

impl<I: Image> ImageMut for Compare<I> {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        let mut held = crate::AlignedBuf::new(PART_BYTES.min(buf.len()));
        for (number, part) in buf.chunks(PART_BYTES).enumerate() {
            let at = offset + (number * PART_BYTES) as u64;
            let held = &mut held[..part.len()];
            self.image.read_at(held, at)?;
            if held != part {
                let same = held.iter().zip(part).take_while(|(a, b)| a == b).count();
                return Err(self.differs(at + same as u64));
            }
        }
        Ok(())
    }

    fn zero(&self, range: Range<u64>) -> Result<()> {
        let mut held = crate::AlignedBuf::new(0);
        for extent in self.image.extents(range) {
            let extent = extent?;
            if extent.kind == ExtentKind::Zero {
                continue;
            }
            let mut at = extent.offset;
            while at < extent.end() {
                let len = (extent.end() - at).min(PART_BYTES as u64) as usize;
                held.grow_to(len);
                self.image.read_at(&mut held[..len], at)?;
                if let Some(found) = held[..len].iter().position(|&byte| byte != 0) {
                    return Err(self.differs(at + found as u64));
                }
                at += len as u64;
            }
        }
        Ok(())
    }

    fn forget(&self, _range: Range<u64>) -> Result<()> {
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    /// Refuses each size but the one it has.
    fn resize(&mut self, size_bytes: u64) -> Result<()> {
        if size_bytes == self.image.size() {
            return Ok(());
        }
        let sentence = format!("{} has {} bytes, not {size_bytes}", self.name, self.image.size());
        Err(Error::new(ErrorKind::Damaged, sentence).at(&self.name, None))
    }
}
