//! Whether the log of an XFS filesystem ends with the record of an unmount: then nothing in it has to be replayed.

use image::{Medium, Result};

use crate::superblock::{self, Superblock};

use super::UNCLEAN;

/// Why the filesystem with this superblock is not clean, or why that cannot be known.
///
/// The log is a ring of blocks of 512 bytes. Each begins with the number of the round in which it was written, but for the
/// first of a record, which has that behind its magic. So the end of what was written last is where the number falls.
pub(super) fn reason(block: &Superblock, medium: &dyn Medium) -> Result<Option<&'static str>> {
    let Some(log) = Log::find(block, medium) else {
        return Ok(Some("the XFS log is not where it can be read (on another device)"));
    };
    Ok((!log.ends_with_unmount()?).then_some(UNCLEAN))
}

/// A block of the log, in bytes.
const BLOCK_BYTES: u64 = 512;

/// The longest that a record of nothing but an unmount can be: it is filled up to the stripe unit of the log.
const RECORD_BLOCKS_MAX: u64 = (256 << 10) / BLOCK_BYTES + 8;

const MAGIC: u32 = 0xfeed_babe;

struct Log<'a> {
    medium: &'a dyn Medium,
    start: u64,
    blocks: u64,
}

impl<'a> Log<'a> {
    fn find(block: &Superblock, medium: &'a dyn Medium) -> Option<Self> {
        let block_bytes = u64::from(block.be32(4));
        let (start, group_blocks) = (block.be64(48), u64::from(block.be32(84)));
        let group_shift = u32::from(block.byte(124));
        if !block.has(0, b"XFSB") || start == 0 || group_shift > 31 {
            return None;
        }
        let (group, within) = (start >> group_shift, start & ((1 << group_shift) - 1));
        let start =
            group.checked_mul(group_blocks)?.checked_add(within)?.checked_mul(block_bytes)?;
        let len_bytes = u64::from(block.be32(96)).checked_mul(block_bytes)?;
        let end = start.checked_add(len_bytes)?;
        let fits = len_bytes >= 2 * BLOCK_BYTES && end <= medium.len().ok()?;
        fits.then_some(Log { medium, start, blocks: len_bytes / BLOCK_BYTES })
    }

    fn block(&self, number: u64) -> Result<Superblock> {
        superblock::read(self.medium, self.start + number % self.blocks * BLOCK_BYTES)
    }

    /// The round in which a block was written; 0 if it never was.
    fn round(&self, number: u64) -> Result<u32> {
        let block = self.block(number)?;
        Ok(if block.be32(0) == MAGIC { block.be32(4) } else { block.be32(0) })
    }

    /// The block behind what was written last.
    fn end(&self) -> Result<u64> {
        let current = self.round(0)?;
        // Blocks of the current round come first, then those of an earlier one.
        let (mut first, mut behind) = (0, self.blocks);
        while first + 1 < behind {
            let middle = first.midpoint(behind);
            match self.round(middle)? == current {
                true => first = middle,
                false => behind = middle,
            }
        }
        Ok(behind)
    }

    fn ends_with_unmount(&self) -> Result<bool> {
        let end = self.end()?;
        for back in 1..=RECORD_BLOCKS_MAX.min(self.blocks) {
            let header = self.block(end + self.blocks - back)?;
            if header.be32(0) == MAGIC {
                return self.is_unmount(&header, end + self.blocks - back, back);
            }
        }
        Ok(false)
    }

    /// Whether the record of this header, at block `at`, is one of an unmount and has `len` blocks.
    fn is_unmount(&self, header: &Superblock, at: u64, len: u64) -> Result<bool> {
        const UNMOUNT: u8 = 0x20;
        const HEADER_BYTES_MAX: u64 = 32 << 10;
        let (version, operations) = (header.be32(8), header.be32(40));
        let header_blocks = match version & 2 != 0 {
            true => u64::from(header.be32(320)).div_ceil(HEADER_BYTES_MAX).max(1),
            false => 1,
        };
        let data_blocks = u64::from(header.be32(12)).div_ceil(BLOCK_BYTES);
        if operations != 1 || header_blocks + data_blocks != len {
            return Ok(false);
        }
        Ok(self.block(at + header_blocks)?.byte(9) & UNMOUNT != 0)
    }
}
