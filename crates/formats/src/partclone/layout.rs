//! Where in a partition image what stands.

use std::ops::Range;

use super::crc::CHECKSUM_BYTES;
use super::{Checksums, Header};

/// Where in a partition image what stands. Stored blocks are counted from 0, and come in groups with a checksum behind
/// each; without checksums all of them are one group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Where the first stored block begins, in bytes.
    pub(super) data_offset: u64,
    /// How many blocks are stored.
    pub(super) stored: u64,
    /// How many blocks a group has; the last may have fewer.
    pub(super) group_blocks: u64,
    block_bytes: u64,
    checksum_bytes: u64,
}

impl Layout {
    /// That of an image with this header. No sum overflows: [`Header::decode`] has seen to that.
    pub(super) fn new(header: &Header) -> Self {
        let (group_blocks, checksum_bytes) = match header.checksums {
            Checksums::None => (header.used_by_bitmap.max(1), 0),
            Checksums::Crc32 { blocks, .. } => (u64::from(blocks), CHECKSUM_BYTES),
        };
        Layout {
            data_offset: header.data_offset(),
            stored: header.used_by_bitmap,
            group_blocks,
            block_bytes: u64::from(header.block_bytes),
            checksum_bytes,
        }
    }

    /// Length of the whole stream in bytes.
    pub(super) fn len_bytes(&self) -> u64 {
        self.group(self.groups()).start
    }

    /// How many groups there are.
    pub(super) fn groups(&self) -> u64 {
        self.stored.div_ceil(self.group_blocks)
    }

    /// The stored blocks of a group.
    pub(super) fn blocks(&self, group: u64) -> Range<u64> {
        let first = group * self.group_blocks;
        first.min(self.stored)..first.saturating_add(self.group_blocks).min(self.stored)
    }

    /// The group that begins at `offset` of the stream.
    pub(super) fn group_at(&self, offset: u64) -> u64 {
        let whole = self.group_blocks.saturating_mul(self.block_bytes);
        let step = whole.saturating_add(self.checksum_bytes);
        (offset - self.data_offset).div_ceil(step)
    }

    /// The blocks of a group in the stream, and the checksum behind them. A group behind the last is empty, at the end.
    pub(super) fn group(&self, group: u64) -> Range<u64> {
        let blocks = self.blocks(group);
        let checksums = group.min(self.groups());
        let start = self.block_offset_before(blocks.start, checksums);
        let own = if blocks.is_empty() { 0 } else { self.checksum_bytes };
        start..start + (blocks.end - blocks.start) * self.block_bytes + own
    }

    /// Where byte `at` of all stored blocks stands in the stream.
    pub(super) fn data(&self, at: u64) -> u64 {
        let block = at / self.block_bytes;
        self.block_offset_before(block, block / self.group_blocks) + at % self.block_bytes
    }

    fn block_offset_before(&self, block: u64, checksums: u64) -> u64 {
        self.data_offset + block * self.block_bytes + checksums * self.checksum_bytes
    }
}
