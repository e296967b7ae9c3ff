//! Which blocks of a filesystem are used.

use std::ops::Range;

/// Which blocks of a filesystem are used: one bit each, and the number of used blocks before any block in no time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedBlocks {
    bits: Vec<u8>,
    total: u64,
    /// Used blocks before each 512-byte piece of `bits`.
    ranks: Vec<u64>,
}

impl UsedBlocks {
    /// The blocks whose bits are set: bit `i % 8`, least significant first, of byte `i / 8`. `bits` has
    /// `total.div_ceil(8)` bytes; bits behind the last block are cleared.
    pub fn new(_bits: Vec<u8>, _total: u64) -> Self {
        todo!()
    }

    /// How many blocks there are.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// How many of them are used.
    pub fn used(&self) -> u64 {
        self.used_before(self.total)
    }

    /// Whether `block` is used.
    pub fn is_used(&self, block: u64) -> bool {
        self.bits[(block / 8) as usize] >> (block % 8) & 1 == 1
    }

    /// How many blocks before `block` are used: where it stands among the used ones.
    pub fn used_before(&self, _block: u64) -> u64 {
        todo!()
    }

    /// The `nth` used block, counted from 0; `None` if there are fewer.
    pub fn nth_used(&self, _nth: u64) -> Option<u64> {
        todo!()
    }

    /// The run of equally used blocks that begins at `block`, and whether they are used.
    pub fn run_at(&self, _block: u64) -> (Range<u64>, bool) {
        todo!()
    }

    /// The bits.
    pub fn bits(&self) -> &[u8] {
        &self.bits
    }
}
