//! A partition image as the image of its partition.

use image::{Extent, Image, Medium, Result};

use super::{Header, UsedBlocks};

/// A partition image as the image of its partition: used blocks are data, all others unspecified.
///
/// What is read has been checked, where the image has checksums that begin anew.
pub struct PartcloneImage<M> {
    medium: M,
    header: Header,
    used: UsedBlocks,
}

impl<M: Medium> PartcloneImage<M> {
    /// Opens the image whose unpacked stream is `medium`.
    ///
    /// # Errors
    ///
    /// `Damaged` for a header, a bitmap or a length that is wrong; `Unsupported`.
    pub fn open(_medium: M) -> Result<Self> {
        todo!()
    }

    /// What it says about itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Which blocks are used.
    pub fn used(&self) -> &UsedBlocks {
        &self.used
    }

    /// The stream.
    pub fn medium(&self) -> &M {
        &self.medium
    }
}

impl<M: Medium> Image for PartcloneImage<M> {
    fn size(&self) -> u64 {
        self.header.device_bytes
    }

    fn read_at(&self, _buf: &mut [u8], _offset: u64) -> Result<()> {
        todo!()
    }

    fn extent_at(&self, _offset: u64) -> Result<Extent> {
        todo!()
    }

    fn block_size_bytes(&self) -> u64 {
        u64::from(self.header.block_bytes)
    }
}
