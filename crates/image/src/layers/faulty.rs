//! An image that fails where it is told to: unreadable sectors, a full disk, a pulled plug.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, Extent, Image, ImageMut, Result};

/// Fails chosen requests of the image below, as broken hardware would.
pub struct Faulty<I> {
    image: I,
    faults: Vec<Fault>,
    reads: AtomicU64,
    writes: AtomicU64,
}

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Each read that touches the range fails with an I/O error.
    Unreadable(Range<u64>),
    /// Each write or zeroing that touches the range fails with an I/O error.
    Unwritable(Range<u64>),
    /// After so many reads, each further one fails.
    ReadsUntil(u64),
    /// After so many writes or zeroings, each further one fails as on a full disk.
    FullAfter(u64),
    /// Flushing fails.
    Unflushable,
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

impl<I: Image> Faulty<I> {
    /// `image`, with `faults`.
    pub fn new(image: I, faults: impl IntoIterator<Item = Fault>) -> Self {
        Faulty {
            image,
            faults: faults.into_iter().collect(),
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
        }
    }

    /// The image below, which works.
    pub fn get_ref(&self) -> &I {
        &self.image
    }

    fn before_read(&self, asked: &Range<u64>) -> Result<()> {
        let number = self.reads.fetch_add(1, Ordering::Relaxed);
        for fault in &self.faults {
            match fault {
                Fault::Unreadable(range) if touch(range, asked) => return fail("read", asked, EIO),
                Fault::ReadsUntil(count) if number >= *count => return fail("read", asked, EIO),
                _ => {}
            }
        }
        Ok(())
    }

    fn before_write(&self, asked: &Range<u64>) -> Result<()> {
        let number = self.writes.fetch_add(1, Ordering::Relaxed);
        for fault in &self.faults {
            match fault {
                Fault::Unwritable(range) if touch(range, asked) => {
                    return fail("write", asked, EIO);
                }
                Fault::FullAfter(count) if number >= *count => return fail("write", asked, ENOSPC),
                _ => {}
            }
        }
        Ok(())
    }
}

fn touch(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start.max(b.start) < a.end.min(b.end)
}

fn fail(verb: &str, asked: &Range<u64>, number: i32) -> Result<()> {
    let sentence = format!("cannot {verb} {} bytes at {}", asked.end - asked.start, asked.start);
    let cause = io::Error::from_raw_os_error(number);
    Err(Error::io(sentence, cause).at("the faulty image", Some(asked.clone())))
}

impl<I: Image> Image for Faulty<I> {
    fn size(&self) -> u64 {
        self.image.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.before_read(&(offset..offset + buf.len() as u64))?;
        self.image.read_at(buf, offset)
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.image.extent_at(offset)
    }

    fn block_size_bytes(&self) -> u64 {
        self.image.block_size_bytes()
    }
}

impl<I: ImageMut> ImageMut for Faulty<I> {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.before_write(&(offset..offset + buf.len() as u64))?;
        self.image.write_at(buf, offset)
    }

    fn zero(&self, range: Range<u64>) -> Result<()> {
        self.before_write(&range)?;
        self.image.zero(range)
    }

    fn forget(&self, range: Range<u64>) -> Result<()> {
        self.image.forget(range)
    }

    fn flush(&self) -> Result<()> {
        if self.faults.contains(&Fault::Unflushable) {
            let cause = io::Error::from_raw_os_error(EIO);
            return Err(Error::io("cannot make what was written durable", cause));
        }
        self.image.flush()
    }

    fn resize(&mut self, size_bytes: u64) -> Result<()> {
        self.image.resize(size_bytes)
    }
}
