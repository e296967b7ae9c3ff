//! Which blocks of a filesystem are used.

use std::ops::Range;

/// Which blocks of a filesystem are used: one bit each, and the number of used blocks before any block in no time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedBlocks {
    bits: Vec<u8>,
    total: u64,
    /// What stood behind the last block, in the last byte: partclone sets it for some filesystems, and not for others.
    spare: u8,
    /// Used blocks before each piece of `bits`, and before its end.
    ranks: Vec<u64>,
}

/// A piece of the bits for which the number of used blocks before it is kept, in bytes.
const PIECE_BYTES: usize = 512;
const PIECE_BLOCKS: u64 = PIECE_BYTES as u64 * 8;
const WORD_BYTES: usize = 8;
const WORD_BLOCKS: u64 = u64::BITS as u64;
/// A run is not followed further than this, so that asking for runs in small steps stays cheap.
const RUN_PIECES_MAX: u64 = 1024;

impl UsedBlocks {
    /// The blocks whose bits are set: bit `i % 8`, least significant first, of byte `i / 8`. `bits` has
    /// `total.div_ceil(8)` bytes; bits behind the last block count for nothing.
    ///
    /// # Panics
    ///
    /// If `bits` has another length.
    pub fn new(mut bits: Vec<u8>, total: u64) -> Self {
        assert_eq!(bits.len() as u64, total.div_ceil(8), "a bit for each of {total} blocks");
        let mut spare = 0;
        if let Some(last) = bits.last_mut()
            && !total.is_multiple_of(8)
        {
            let blocks = (1 << (total % 8)) - 1;
            spare = *last & !blocks;
            *last &= blocks;
        }
        let mut ranks = Vec::with_capacity(bits.len() / PIECE_BYTES + 2);
        let mut used = 0;
        for piece in bits.chunks(PIECE_BYTES) {
            ranks.push(used);
            used += count(piece);
        }
        ranks.push(used);
        UsedBlocks { bits, total, spare, ranks }
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
    ///
    /// # Panics
    ///
    /// If there is no such block.
    pub fn is_used(&self, block: u64) -> bool {
        self.bits[(block / 8) as usize] >> (block % 8) & 1 == 1
    }

    /// How many blocks before `block` are used: where it stands among the used ones. `block` is at most
    /// [`total`](UsedBlocks::total).
    pub fn used_before(&self, block: u64) -> u64 {
        if block == self.total {
            return *self.ranks.last().unwrap_or(&0);
        }
        let piece = (block / PIECE_BLOCKS) as usize;
        let first = piece * PIECE_BYTES;
        let whole = first + (block % PIECE_BLOCKS / WORD_BLOCKS) as usize * WORD_BYTES;
        let rest = self.word(whole) & ((1 << (block % WORD_BLOCKS)) - 1);
        self.ranks[piece] + count(&self.bits[first..whole]) + u64::from(rest.count_ones())
    }

    /// The `nth` used block, counted from 0; `None` if there are fewer.
    pub fn nth_used(&self, nth: u64) -> Option<u64> {
        if nth >= self.used() {
            return None;
        }
        let piece = self.ranks.partition_point(|&before| before <= nth) - 1;
        let mut left = nth - self.ranks[piece];
        let mut at = piece * PIECE_BYTES;
        loop {
            let mut word = self.word(at);
            let used = u64::from(word.count_ones());
            if left < used {
                for _ in 0..left {
                    word &= word - 1;
                }
                return Some(at as u64 * 8 + u64::from(word.trailing_zeros()));
            }
            left -= used;
            at += WORD_BYTES;
        }
    }

    /// The run of equally used blocks that begins at `block`, which is before the end, and whether they are used. A
    /// run of millions of blocks may end early; then the next one is of the same kind.
    pub fn run_at(&self, block: u64) -> (Range<u64>, bool) {
        let is_used = self.is_used(block);
        // Looked for is the first bit that is set in what differs from the run.
        let flip = if is_used { u64::MAX } else { 0 };
        let piece_last = block / PIECE_BLOCKS + RUN_PIECES_MAX;
        let mut at = (block / WORD_BLOCKS) as usize * WORD_BYTES;
        let mut differing = (self.word(at) ^ flip) & (u64::MAX << (block % WORD_BLOCKS));
        while differing == 0 {
            at += WORD_BYTES;
            if at.is_multiple_of(PIECE_BYTES) {
                at = self.skip_pieces(at / PIECE_BYTES, is_used, piece_last);
            }
            if at >= self.bits.len() || at as u64 / PIECE_BYTES as u64 > piece_last {
                return (block..(at as u64 * 8).min(self.total), is_used);
            }
            differing = self.word(at) ^ flip;
        }
        let end = at as u64 * 8 + u64::from(differing.trailing_zeros());
        (block..end.min(self.total), is_used)
    }

    /// The bits as they were given, with what stood behind the last block.
    pub fn map(&self) -> Vec<u8> {
        let mut map = self.bits.clone();
        if let Some(last) = map.last_mut() {
            *last |= self.spare;
        }
        map
    }

    /// The first byte, from the beginning of `piece`, that belongs to no piece whose blocks are all as `is_used` says.
    fn skip_pieces(&self, mut piece: usize, is_used: bool, last: u64) -> usize {
        let expected = if is_used { PIECE_BLOCKS } else { 0 };
        while piece as u64 <= last
            && self.ranks.get(piece + 1).is_some_and(|&end| end - self.ranks[piece] == expected)
        {
            piece += 1;
        }
        piece * PIECE_BYTES
    }

    /// The word whose first byte is `at`; behind the end it is zero.
    fn word(&self, at: usize) -> u64 {
        match self.bits.get(at..).and_then(|rest| rest.first_chunk()) {
            Some(bytes) => u64::from_le_bytes(*bytes),
            None => last_word(self.bits.get(at..).unwrap_or_default()),
        }
    }
}

fn count(bits: &[u8]) -> u64 {
    let (words, rest) = bits.as_chunks::<WORD_BYTES>();
    let ones: u32 = words.iter().map(|word| u64::from_le_bytes(*word).count_ones()).sum();
    u64::from(ones) + u64::from(last_word(rest).count_ones())
}

/// Fewer bytes than a word has, as one.
fn last_word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each function has to say, by looking at one bit after the other.
    fn check(used: &UsedBlocks, bits: &[bool]) {
        let numbers: Vec<u64> = (0..bits.len() as u64).filter(|&at| bits[at as usize]).collect();
        assert_eq!(used.used(), numbers.len() as u64);
        for (nth, &block) in numbers.iter().enumerate() {
            assert_eq!(used.nth_used(nth as u64), Some(block));
            assert_eq!(used.used_before(block), nth as u64);
        }
        assert_eq!(used.nth_used(numbers.len() as u64), None);
        let mut at = 0;
        while at < bits.len() {
            let run = bits[at..].iter().take_while(|&&bit| bit == bits[at]).count();
            for inside in [at, at + run / 2, at + run - 1] {
                let expected = inside as u64..(at + run) as u64;
                assert_eq!(used.run_at(inside as u64), (expected, bits[at]));
            }
            at += run;
        }
    }

    fn of(bits: &[bool]) -> UsedBlocks {
        let mut bytes = vec![0xff; bits.len().div_ceil(8)];
        for (at, &bit) in bits.iter().enumerate() {
            bytes[at / 8] &= !(u8::from(!bit) << (at % 8));
        }
        UsedBlocks::new(bytes, bits.len() as u64)
    }

    #[test]
    fn counts_ranks_and_runs_agree_with_a_list_of_bits() {
        let mut rng = fastrand::Rng::with_seed(1);
        for total in [0, 1, 7, 8, 63, 64, 65, 4095, 4096, 4097, 9000, 20_001] {
            for longest in [1, 3, 100, 9000] {
                let mut bits = Vec::new();
                while bits.len() < total {
                    let bit = rng.bool();
                    bits.extend(std::iter::repeat_n(bit, rng.usize(1..=longest)));
                }
                bits.truncate(total);
                check(&of(&bits), &bits);
            }
            check(&of(&vec![true; total]), &vec![true; total]);
            check(&of(&vec![false; total]), &vec![false; total]);
        }
    }

    #[test]
    fn a_run_of_millions_of_blocks_is_told_in_parts_without_gaps() {
        let total = 3 * RUN_PIECES_MAX * PIECE_BLOCKS + 77;
        let used = UsedBlocks::new(vec![0xff; total.div_ceil(8) as usize], total);
        let (mut at, mut parts) = (0, 0);
        while at < total {
            let (run, is_used) = used.run_at(at);
            assert!(is_used && run.start == at && run.end > at);
            (at, parts) = (run.end, parts + 1);
        }
        assert_eq!(at, total);
        assert!((2..10).contains(&parts), "{parts}");
    }
}
