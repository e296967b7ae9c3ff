//! Checks the bytes of a partition image while they pass.

use image::Result;

use super::Header;

/// Checks the bytes of a partition image while they pass, from front to back: header, bitmap, checksums, length.
pub struct StreamCheck {}

/// What was found when all was right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The header.
    pub header: Header,
    /// Length of the stream in bytes.
    pub len_bytes: u64,
}

impl StreamCheck {
    /// Nothing has passed yet. `name` is what errors call the image.
    pub fn new(_name: &str) -> Self {
        todo!()
    }

    /// The next bytes.
    ///
    /// # Errors
    ///
    /// `Damaged`, with the position in the stream; after an error it is not to be used again.
    pub fn feed(&mut self, _bytes: &[u8]) -> Result<()> {
        todo!()
    }

    /// The header, once it has passed.
    pub fn header(&self) -> Option<&Header> {
        todo!()
    }

    /// The stream has ended.
    ///
    /// # Errors
    ///
    /// `Damaged` if it has ended too early.
    pub fn finish(self) -> Result<Checked> {
        todo!()
    }
}
