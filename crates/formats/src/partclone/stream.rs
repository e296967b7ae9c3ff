//! The bytes of a partition image, made of a filesystem's blocks: any part of it, by any thread.

use std::ops::Range;

use image::{Image, Result};

use super::{Header, UsedBlocks};

/// The bytes of a partition image of version 2, as `partclone -c` would write them. They are made when they are asked
/// for, so that many threads can make different parts at once.
#[derive(Clone, Debug)]
pub struct Stream {
    header: Header,
    used: UsedBlocks,
}

impl Stream {
    /// The stream of a filesystem with that header and those used blocks, with a CRC-32 behind each MiB of stored
    /// blocks, begun anew each time. `used_by_bitmap` and `checksums` of `header` are set accordingly.
    pub fn new(_header: Header, _used: UsedBlocks) -> Self {
        todo!()
    }

    /// Its header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Which blocks it stores.
    pub fn used(&self) -> &UsedBlocks {
        &self.used
    }

    /// Length of the whole stream in bytes.
    pub fn len_bytes(&self) -> u64 {
        todo!()
    }

    /// Cuts the stream into parts of about `wish_bytes`, in order and without gaps, none of which parts a block from
    /// the checksum behind it: the first part is the header with the bitmap.
    pub fn parts(&self, _wish_bytes: usize) -> Vec<Range<u64>> {
        todo!()
    }

    /// Replaces `out` by the bytes of one of the [`parts`](Stream::parts), read from `source`, the image of the device. Of
    /// `source` only used blocks are read, neighbours in one call.
    ///
    /// # Errors
    ///
    /// Those of `source`.
    pub fn fill(&self, _source: &dyn Image, _part: Range<u64>, _out: &mut Vec<u8>) -> Result<()> {
        todo!()
    }
}
