//! The content of a compressed file as a medium, readable at any place by many threads.

use std::ops::Range;

use image::{Error, ErrorKind, Extent, ExtentKind, Medium, Result};

/// How the segments of one file are found and unpacked.
pub trait Segments: Send + Sync {
    /// Length of the content in bytes.
    fn len_bytes(&self) -> u64;

    /// The segment that has the byte at `offset`, which lies before the end: its number, and its range of the content.
    fn find(&self, offset: u64) -> (usize, Range<u64>);

    /// Replaces `out` by the content of segment `at`, checked.
    ///
    /// # Errors
    ///
    /// `Damaged`, with the position in the packed file.
    fn unpack(&self, file: &dyn Medium, at: usize, out: &mut Vec<u8>) -> Result<()>;

    /// Checks what [`unpack`](Segments::unpack) never sees: head, tail, and that nothing lies between.
    ///
    /// # Errors
    ///
    /// `Damaged`, with the position.
    fn check_rest(&self, file: &dyn Medium) -> Result<()>;
}

/// The content of a compressed file. Segments that were unpacked last are kept for the next reader: at most
/// [`PackedMedium::KEPT_SEGMENTS`].
pub struct PackedMedium<M> {
    file: M,
    segments: Box<dyn Segments>,
}

impl<M: Medium> PackedMedium<M> {
    /// How many unpacked segments are kept.
    pub const KEPT_SEGMENTS: usize = 8;

    /// The content of `file`, by its `segments`.
    pub fn new(file: M, segments: Box<dyn Segments>) -> Self {
        PackedMedium { file, segments }
    }

    /// The packed file.
    pub fn file(&self) -> &M {
        &self.file
    }

    /// Checks the parts of the packed file that no reading touches.
    ///
    /// # Errors
    ///
    /// `Damaged`, with the position.
    pub fn check_rest(&self) -> Result<()> {
        self.segments.check_rest(&self.file)
    }
}

impl<M: Medium> Medium for PackedMedium<M> {
    fn name(&self) -> &str {
        self.file.name()
    }

    fn len(&self) -> Result<u64> {
        Ok(self.segments.len_bytes())
    }

    fn read_at(&self, _buf: &mut [u8], _offset: u64) -> Result<()> {
        todo!()
    }

    fn write_at(&self, _: &[u8], _: u64) -> Result<()> {
        Err(self.read_only())
    }

    fn set_len(&self, _: u64) -> Result<()> {
        Err(self.read_only())
    }

    fn punch(&self, _: Range<u64>) -> Result<()> {
        Err(self.read_only())
    }

    fn discard(&self, _: Range<u64>) -> Result<()> {
        Err(self.read_only())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        Ok(Extent { offset, len_bytes: self.len()? - offset, kind: ExtentKind::Data })
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }
}

impl<M: Medium> PackedMedium<M> {
    fn read_only(&self) -> Error {
        let name = self.file.name();
        let sentence = format!("{name} is compressed and cannot be written in place");
        Error::new(ErrorKind::Unsupported, sentence).at(name, None)
    }
}
