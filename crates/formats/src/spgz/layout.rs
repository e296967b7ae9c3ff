//! What stands where: blocks of the image, and their slots in the container.

use std::ops::Range;

/// The header's place, in bytes: where the first slot begins.
pub(super) const HEADER_BYTES: u64 = 4096;

/// How long slots are, and what follows from that.
///
/// A slot is a marker byte and room for a block, so that a block is one byte shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    slot_bytes: u64,
}

/// The part of a request that lies in one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Number of the block.
    pub(super) block: u64,
    /// Which bytes of the block.
    pub(super) inside: Range<usize>,
    /// Which bytes of the request.
    pub(super) part: Range<usize>,
}

impl Layout {
    /// Slots of `slot_bytes`, a multiple of 4096.
    pub(super) fn new(slot_bytes: u64) -> Self {
        debug_assert!(slot_bytes >= HEADER_BYTES && slot_bytes.is_multiple_of(HEADER_BYTES));
        Layout { slot_bytes }
    }

    pub(super) fn slot_bytes(self) -> u64 {
        self.slot_bytes
    }

    /// Bytes of the image in each block, but for the last.
    pub(super) fn block_bytes(self) -> u64 {
        self.slot_bytes - 1
    }

    /// The slot of block `block`, in the container.
    pub(super) fn slot(self, block: u64) -> Range<u64> {
        let start = HEADER_BYTES + block * self.slot_bytes;
        start..start + self.slot_bytes
    }

    /// The part of an image of `size_bytes` that block `block` has.
    pub(super) fn block(self, block: u64, size_bytes: u64) -> Range<u64> {
        let start = block * self.block_bytes();
        start..(start + self.block_bytes()).min(size_bytes)
    }

    /// How many slots a container of `len_bytes` has whole, and how much of another behind them.
    pub(super) fn slots(self, len_bytes: u64) -> (u64, u64) {
        let behind_header = len_bytes.saturating_sub(HEADER_BYTES);
        (behind_header / self.slot_bytes, behind_header % self.slot_bytes)
    }

    /// How many blocks of an image of `size_bytes` are whole, and how much of another stands behind them.
    pub(super) fn blocks(self, size_bytes: u64) -> (u64, u64) {
        (size_bytes / self.block_bytes(), size_bytes % self.block_bytes())
    }

    /// Length of a container of `size_bytes` whose last block is a hole or stored; `None` if no file can be as long.
    pub(super) fn len_bytes(self, size_bytes: u64) -> Option<u64> {
        let (whole, rest) = self.blocks(size_bytes);
        let marker = u64::from(rest > 0);
        let len_bytes =
            whole.checked_mul(self.slot_bytes)?.checked_add(HEADER_BYTES + marker + rest)?;
        (len_bytes <= i64::MAX as u64).then_some(len_bytes)
    }

    /// Cuts `range` of the image at the borders of blocks.
    pub(super) fn pieces(self, range: Range<u64>) -> impl Iterator<Item = Piece> {
        let mut at = range.start;
        std::iter::from_fn(move || {
            if at >= range.end {
                return None;
            }
            let (block, inside) = self.blocks(at);
            let len = (self.block_bytes() - inside).min(range.end - at) as usize;
            let (inside, from) = (inside as usize, (at - range.start) as usize);
            at += len as u64;
            Some(Piece { block, inside: inside..inside + len, part: from..from + len })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_chapter_five() {
        let layout = Layout::new(12_288);
        let cases = [
            (0, 4096),
            (1, 4098),
            (12_286, 16_383),
            (12_287, 16_384),
            (12_288, 16_386),
            (24_574, 28_672),
        ];
        for (size_bytes, len_bytes) in cases {
            assert_eq!(layout.len_bytes(size_bytes), Some(len_bytes), "{size_bytes}");
        }
        assert_eq!(layout.len_bytes(u64::MAX), None);
    }

    #[test]
    fn a_request_is_cut_at_the_borders_of_blocks() {
        let layout = Layout::new(4096);
        let pieces: Vec<Piece> = layout.pieces(4090..8195).collect();
        let expected = [
            Piece { block: 0, inside: 4090..4095, part: 0..5 },
            Piece { block: 1, inside: 0..4095, part: 5..4100 },
            Piece { block: 2, inside: 0..5, part: 4100..4105 },
        ];
        assert_eq!(pieces, expected);
        assert_eq!(layout.pieces(7..7).count(), 0);
    }
}
