//! The numbers in a superblock.

use image::{Medium, Result};

/// Enough for each superblock.
const BLOCK_BYTES: usize = 1024;

/// A superblock, zeroes behind the end of the medium.
pub(crate) struct Superblock(pub(crate) [u8; BLOCK_BYTES]);

/// Reads what stands at `offset`.
///
/// # Errors
///
/// Those of `medium`.
pub(crate) fn read(medium: &dyn Medium, offset: u64) -> Result<Superblock> {
    let mut block = Superblock([0; BLOCK_BYTES]);
    let there = medium.len()?.saturating_sub(offset).min(BLOCK_BYTES as u64) as usize;
    if there > 0 {
        medium.read_at(&mut block.0[..there], offset)?;
    }
    Ok(block)
}

impl Superblock {
    pub(crate) fn has(&self, offset: usize, magic: &[u8]) -> bool {
        self.0[offset..].starts_with(magic)
    }

    pub(crate) fn bytes<const LEN: usize>(&self, offset: usize) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes.copy_from_slice(&self.0[offset..offset + LEN]);
        bytes
    }

    pub(crate) fn byte(&self, offset: usize) -> u8 {
        self.0[offset]
    }

    pub(crate) fn u16(&self, offset: usize) -> u64 {
        u64::from(u16::from_le_bytes(self.bytes(offset)))
    }

    pub(crate) fn u32(&self, offset: usize) -> u64 {
        u64::from(u32::from_le_bytes(self.bytes(offset)))
    }

    pub(crate) fn u64(&self, offset: usize) -> u64 {
        u64::from_le_bytes(self.bytes(offset))
    }

    pub(crate) fn be32(&self, offset: usize) -> u32 {
        u32::from_be_bytes(self.bytes(offset))
    }

    pub(crate) fn be64(&self, offset: usize) -> u64 {
        u64::from_be_bytes(self.bytes(offset))
    }
}
