//! The content of a disk: the trait that every operation works on.

use std::ops::Range;

use crate::{Error, ErrorKind, Extent, ExtentKind, Result};

/// The content of a disk, readable at any offset by many threads at once.
///
/// Ranges in requests are checked once, where an image is opened ([`layers::Checked`](crate::layers::Checked)):
/// an implementation verifies only what it reads from its own medium.
pub trait Image: Send + Sync {
    /// Size in bytes; does not change while the image is borrowed.
    fn size(&self) -> u64;

    /// Fills all of `buf` with what stands at `offset`. Ranges past the end never get here.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()>;

    /// The run that begins at `offset`: how long, and of which kind. Never empty, may end early, never
    /// reaches past the end. `Data` is always a permitted answer; `Zero` reads as zeroes.
    fn extent_at(&self, offset: u64) -> Result<Extent>;

    /// The unit in which it keeps runs apart (filesystem block, cluster), in bytes: a power of two.
    fn block_size_bytes(&self) -> u64 {
        4096
    }
}

/// An image that can be written, at any offset by many threads at once.
///
/// Ranges that are empty never get here. Two threads may write neighbouring bytes of one block: a format that
/// reads, changes and writes blocks has to keep both.
///
/// What a power cut may leave is said by each format; for all of them, what was written before a
/// [`flush`](ImageMut::flush) that returned is there.
pub trait ImageMut: Image {
    /// Writes all of `buf` at `offset`. Ranges past the end never get here.
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()>;

    /// Reads as zeroes from now on. Steps down a written ladder: punch, zero range, write zeroes.
    fn zero(&self, range: Range<u64>) -> Result<()>;

    /// The content no longer matters (discard); may read as anything afterwards.
    fn forget(&self, range: Range<u64>) -> Result<()>;

    /// Everything written before is durable once this returns.
    fn flush(&self) -> Result<()>;

    /// Cuts or grows to `size_bytes`; what is new reads as zeroes. What cannot change its size refuses with
    /// [`ErrorKind::Unsupported`], except for the size it has.
    fn resize(&mut self, size_bytes: u64) -> Result<()>;
}

/// Comfort over any [`Image`], written once.
pub trait ImageExt: Image {
    /// The runs of `range`, in order and without gaps; neighbours of one kind are merged.
    fn extents(&self, range: Range<u64>) -> Extents<'_, Self> {
        Extents { image: self, range, failed: false }
    }

    /// Fills `buf`, reading only what is data: zero and unspecified runs become zeroes.
    fn read_sparse(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        for extent in self.extents(offset..offset + buf.len() as u64) {
            let extent = extent?;
            let from = (extent.offset - offset) as usize;
            let part = &mut buf[from..from + extent.len_bytes as usize];
            match extent.kind {
                ExtentKind::Data => self.read_at(part, extent.offset)?,
                ExtentKind::Zero | ExtentKind::Unspecified => part.fill(0),
            }
        }
        Ok(())
    }
}

impl<I: Image + ?Sized> ImageExt for I {}

/// Iterator of [`ImageExt::extents`]. After an error it ends.
pub struct Extents<'a, I: ?Sized> {
    image: &'a I,
    range: Range<u64>,
    failed: bool,
}

impl<I: Image + ?Sized> Iterator for Extents<'_, I> {
    type Item = Result<Extent>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.range.start >= self.range.end {
            return None;
        }
        let mut run = match self.ask(self.range.start) {
            Ok(run) => run,
            Err(error) => return Some(Err(error)),
        };
        while run.end() < self.range.end {
            match self.ask(run.end()) {
                Ok(next) if next.kind == run.kind => run.len_bytes += next.len_bytes,
                // An error here belongs to the next run: it is asked for, and reported, again.
                Ok(_) | Err(_) => break,
            }
        }
        self.range.start = run.end();
        Some(Ok(run))
    }
}

impl<I: Image + ?Sized> Extents<'_, I> {
    fn ask(&mut self, offset: u64) -> Result<Extent> {
        let answer = self.image.extent_at(offset).and_then(|extent| {
            if extent.offset == offset && extent.len_bytes > 0 {
                return Ok(extent.until(self.range.end));
            }
            Err(Error::new(
                ErrorKind::Damaged,
                format!(
                    "the map of the image is wrong: asked for the run at {offset}, it gave {extent:?}"
                ),
            ))
        });
        self.failed = answer.is_err() && offset == self.range.start;
        answer
    }
}

macro_rules! forward_image {
    ($($pointer:ty),*) => {$(
        impl<I: Image + ?Sized> Image for $pointer {
            fn size(&self) -> u64 {
                (**self).size()
            }
            fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
                (**self).read_at(buf, offset)
            }
            fn extent_at(&self, offset: u64) -> Result<Extent> {
                (**self).extent_at(offset)
            }
            fn block_size_bytes(&self) -> u64 {
                (**self).block_size_bytes()
            }
        }
    )*};
}
forward_image!(&I, Box<I>, std::sync::Arc<I>);

impl<I: ImageMut + ?Sized> ImageMut for Box<I> {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        (**self).write_at(buf, offset)
    }
    fn zero(&self, range: Range<u64>) -> Result<()> {
        (**self).zero(range)
    }
    fn forget(&self, range: Range<u64>) -> Result<()> {
        (**self).forget(range)
    }
    fn flush(&self) -> Result<()> {
        (**self).flush()
    }
    fn resize(&mut self, size_bytes: u64) -> Result<()> {
        (**self).resize(size_bytes)
    }
}
