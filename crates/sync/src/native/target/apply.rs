//! Writes what came, after the book forgot what it says about the place.

use std::ops::Range;

use image::{ImageMut, Result};
use zstd_safe::DCtx;

use super::super::Book;
use super::super::cut::Cut;
use super::super::frame::{DATA_MAX_BYTES, Data, Encoding, breach};
use super::desk::{Desk, Write};

/// One thread's way to the image.
pub(super) struct Writer<'a> {
    image: &'a dyn ImageMut,
    cut: &'a Cut,
    desk: &'a Desk,
    book: &'a dyn Book,
    zstd: DCtx<'static>,
    plain: Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        image: &'a dyn ImageMut,
        cut: &'a Cut,
        desk: &'a Desk,
        book: &'a dyn Book,
    ) -> Self {
        Writer { image, cut, desk, book, zstd: DCtx::create(), plain: Vec::new() }
    }

    pub(super) fn write(&mut self, write: &Write) -> Result<()> {
        match write {
            Write::Zero(range) => {
                self.forget(range)?;
                self.image.zero(range.clone())
            }
            Write::Data(data) => {
                for part in &data.parts {
                    self.forget(part)?;
                }
                let image = self.image;
                let mut rest = match data.encoding {
                    Encoding::Plain => data.bytes(),
                    Encoding::Zstd => self.unpack(data)?,
                };
                for part in &data.parts {
                    let (bytes, behind) = rest.split_at((part.end - part.start) as usize);
                    image.write_at(bytes, part.start)?;
                    rest = behind;
                }
                Ok(())
            }
        }
    }

    fn unpack(&mut self, data: &Data) -> Result<&[u8]> {
        // Room for the most that is allowed, so that it is taken once.
        self.plain.resize(DATA_MAX_BYTES, 0);
        let expected = data.plain_bytes();
        match self.zstd.decompress(&mut self.plain[..expected], data.bytes()) {
            Ok(len) if len == expected => Ok(&self.plain[..expected]),
            Ok(len) => {
                Err(breach(format!("sent {len} bytes of compressed data for parts of {expected}")))
            }
            Err(code) => {
                let name = zstd_safe::get_error_name(code);
                Err(breach(format!("sent data that cannot be unpacked: {name}")))
            }
        }
    }

    fn forget(&self, range: &Range<u64>) -> Result<()> {
        for number in self.desk.numbers(self.cut, range) {
            self.desk.forget_once(number, || self.book.forget(self.cut.region(number)))?;
        }
        Ok(())
    }
}
