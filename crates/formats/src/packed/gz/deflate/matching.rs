//! Where bytes stood before: what a block says by looking back.

use std::ops::Range;

use super::BLOCK_BYTES;
use super::block::distance_slot;

/// The shortest repetition that is taken, in bytes.
const MIN_MATCH: usize = 4;
/// The longest one that a block can say at once, in bytes.
const MAX_MATCH: usize = 258;
/// How far a block can look back, in bytes.
const WINDOW: usize = 32 << 10;
/// How many hashes there are (its logarithm): a table of 64 KiB, which the second cache holds beside the window.
const TABLE_BITS: u32 = 15;
/// How many bytes a hash is taken of.
const HASH_BYTES: u32 = 5;
/// After this many bytes without a repetition (its logarithm) steps begin to grow.
const PATIENCE: u32 = 6;
/// Which positions in a repetition are remembered, counted from its end.
const REMEMBERED: [usize; 3] = [1, 2, 5];

/// Bytes as they are, and then a repetition.
#[derive(Clone, Copy, Default)]
pub(super) struct Sequence {
    /// How many bytes stand before the repetition.
    pub(super) literals: u32,
    /// Length of the repetition in bytes; 0 at the end of a block.
    pub(super) len: u16,
    /// How far back it lies, in bytes.
    pub(super) distance: u16,
}

/// What a block consists of.
pub(super) struct Found {
    sequences: Box<[Sequence]>,
    sequence_count: usize,
    literals: Box<[u8]>,
    literals_len: usize,
    /// How often each length occurs.
    pub(super) lens: [u32; 259],
    /// How often each class of distances occurs.
    pub(super) slots: [u32; 32],
}

/// Finds repetitions.
pub(super) struct Finder {
    /// Where a hash was last seen: the low half of a position. A stale one does no harm, since bytes are compared.
    table: Box<[u16; 1 << TABLE_BITS]>,
    found: Found,
}

impl Finder {
    pub(super) fn new() -> Self {
        Finder { table: Box::new([0; 1 << TABLE_BITS]), found: Found::new() }
    }

    /// Begins a segment.
    pub(super) fn forget(&mut self) {
        self.table.fill(0);
    }

    /// Goes through `range` of `input`, which is no longer than a block.
    pub(super) fn find(&mut self, input: &[u8], range: Range<usize>) -> &Found {
        let table = &mut *self.table;
        let found = &mut self.found;
        found.clear();
        // So far there are bytes for all loads, and no repetition is cut below its shortest length.
        let limit = range.end.saturating_sub(MIN_MATCH).min(input.len().saturating_sub(16));
        let mut at = range.start;
        let mut anchor = at;
        while at < limit {
            // Two positions at a time, and the better one is taken: one branch for both.
            let Some(near) = input.get(at..at + 9) else { break };
            let (here, next) = (load64(near, 0), load64(near, 1));
            let first = look_up(table, at, here);
            let first_len = near_len(input, first, at, here);
            let second = look_up(table, at + 1, next);
            let second_len = near_len(input, second, at + 1, next);
            let better = second_len > first_len;
            let mut len = if better { second_len } else { first_len };
            if len < MIN_MATCH {
                at += 2 + ((at - anchor) >> PATIENCE);
                continue;
            }
            let mut candidate = if better { second } else { first };
            at += usize::from(better);
            if len == 8 {
                len = match_len(input, candidate, at);
            }
            while at > anchor && candidate > 0 && input[at - 1] == input[candidate - 1] {
                at -= 1;
                candidate -= 1;
                len += 1;
            }
            len = len.min(range.end - at);
            found.push(&input[anchor..], at - anchor, len, at - candidate);
            at += len;
            anchor = at;
            if at < limit {
                for back in REMEMBERED {
                    table[hash(load64(input, at - back))] = (at - back) as u16;
                }
            }
        }
        found.end(&input[anchor..range.end]);
        found
    }
}

impl Found {
    /// Room for one block.
    fn new() -> Self {
        Found {
            sequences: vec![Sequence::default(); BLOCK_BYTES / MIN_MATCH + 2].into(),
            sequence_count: 0,
            literals: vec![0; BLOCK_BYTES + 32].into(),
            literals_len: 0,
            lens: [0; 259],
            slots: [0; 32],
        }
    }

    pub(super) fn sequences(&self) -> &[Sequence] {
        &self.sequences[..self.sequence_count]
    }

    /// The literals of all sequences.
    pub(super) fn literals(&self) -> &[u8] {
        &self.literals[..self.literals_len]
    }

    /// The same, and bytes behind them that mean nothing: for who reads some at a time.
    pub(super) fn literals_and_room(&self) -> &[u8] {
        &self.literals
    }

    fn clear(&mut self) {
        self.sequence_count = 0;
        self.literals_len = 0;
        self.lens.fill(0);
        self.slots.fill(0);
    }

    /// Takes `literals` bytes of `input`, and a repetition of `len` bytes.
    #[inline(always)]
    fn push(&mut self, input: &[u8], literals: usize, len: usize, distance: usize) {
        // A copy of a fixed length is cheap; what is too much is overwritten by the next.
        let to = self.literals_len;
        if literals <= 16 && input.len() >= 16 {
            self.literals[to..to + 16].copy_from_slice(&input[..16]);
        } else {
            self.literals[to..to + literals].copy_from_slice(&input[..literals]);
        }
        self.literals_len += literals;
        let slot = distance_slot(distance);
        let mut literals = literals as u32;
        let mut rest = len;
        while rest > MAX_MATCH {
            // Nothing shorter than 3 bytes may be left over.
            let len = if rest - MAX_MATCH < 3 { MAX_MATCH - 3 } else { MAX_MATCH };
            self.push_one(literals, len, distance, slot);
            literals = 0;
            rest -= len;
        }
        self.push_one(literals, rest, distance, slot);
    }

    #[inline(always)]
    fn push_one(&mut self, literals: u32, len: usize, distance: usize, slot: usize) {
        self.lens[len] += 1;
        self.slots[slot] += 1;
        let sequence = Sequence { literals, len: len as u16, distance: distance as u16 };
        self.sequences[self.sequence_count] = sequence;
        self.sequence_count += 1;
    }

    /// Takes what stands at the end.
    fn end(&mut self, literals: &[u8]) {
        let to = self.literals_len;
        self.literals[to..to + literals.len()].copy_from_slice(literals);
        self.literals_len += literals.len();
        let literals = literals.len() as u32;
        self.sequences[self.sequence_count] = Sequence { literals, len: 0, distance: 0 };
        self.sequence_count += 1;
    }
}

/// Where the bytes at `at` may have stood before, `at` itself if nowhere; and remembers `at`.
#[inline(always)]
fn look_up(table: &mut [u16; 1 << TABLE_BITS], at: usize, here: u64) -> usize {
    let place = &mut table[hash(here)];
    let distance = (at as u16).wrapping_sub(*place) as usize;
    *place = at as u16;
    at.saturating_sub(distance)
}

/// How many of the 8 bytes at `at` are those at `candidate`; 0 if that is `at` or too far away.
#[inline(always)]
fn near_len(input: &[u8], candidate: usize, at: usize, here: u64) -> usize {
    let distance = at - candidate;
    let same = (load64(input, candidate) ^ here).trailing_zeros() as usize >> 3;
    if distance.wrapping_sub(1) < WINDOW { same } else { 0 }
}

#[inline(always)]
fn hash(here: u64) -> usize {
    let mixed = (here << (64 - 8 * HASH_BYTES)).wrapping_mul(0x9e37_79b1_85eb_ca87);
    (mixed >> (64 - TABLE_BITS)) as usize
}

/// How many bytes at `at` are those at `candidate`; 8 are known to be.
#[inline(always)]
fn match_len(input: &[u8], candidate: usize, at: usize) -> usize {
    let mut len = 8;
    while at + len + 8 <= input.len() {
        let difference = load64(input, candidate + len) ^ load64(input, at + len);
        if difference != 0 {
            return len + (difference.trailing_zeros() >> 3) as usize;
        }
        len += 8;
    }
    while at + len < input.len() && input[candidate + len] == input[at + len] {
        len += 1;
    }
    len
}

#[inline(always)]
fn load64(input: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(input[at..at + 8].try_into().unwrap_or_default())
}
