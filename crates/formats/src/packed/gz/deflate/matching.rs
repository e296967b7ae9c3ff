//! Where bytes stood before: what a block says by looking back.

use std::ops::Range;

use super::block::distance_slot;

/// The shortest repetition that is worth looking for, in bytes.
const MIN_MATCH: usize = 4;
/// The longest one that a block can say at once, in bytes.
const MAX_MATCH: usize = 258;
/// How far a block can look back, in bytes.
const WINDOW: usize = 32 << 10;
const TABLE_BITS: u32 = 14;
const HASH_BYTES: u32 = 5;
/// After this many bytes without a match (its logarithm) steps begin to grow.
const PATIENCE: u32 = 6;

/// Bytes as they are, and then a repetition.
#[derive(Clone, Copy)]
pub(super) struct Sequence {
    pub(super) literals: u32,
    /// Length of the repetition in bytes; 0 at the end of a block.
    pub(super) len: u16,
    pub(super) distance: u16,
}

/// What a block consists of.
pub(super) struct Found {
    pub(super) sequences: Vec<Sequence>,
    /// The literals of all sequences; what lies behind [`literals_len`](Found::literals_len) is room.
    pub(super) literals: Vec<u8>,
    pub(super) literals_len: usize,
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
        let found = Found {
            sequences: Vec::new(),
            literals: vec![0; super::BLOCK_BYTES + 64],
            literals_len: 0,
            lens: [0; 259],
            slots: [0; 32],
        };
        Finder { table: Box::new([0; 1 << TABLE_BITS]), found }
    }

    /// Begins a segment.
    pub(super) fn forget(&mut self) {
        self.table.fill(0);
    }

    /// What the last [`find`](Finder::find) has found.
    pub(super) fn found(&self) -> &Found {
        &self.found
    }

    /// Goes through `range` of `input`, and says where it has ended: a repetition may go on beyond the range.
    pub(super) fn find(&mut self, input: &[u8], range: Range<usize>) -> usize {
        let table = &mut *self.table;
        let found = &mut self.found;
        found.clear();
        // Positions from here on are too near to the end for loads of 8 bytes.
        let limit = range.end.min(input.len().saturating_sub(16));
        let mut at = range.start;
        let mut anchor = at;
        while at < limit {
            let here = load64(input, at);
            let mut candidate = look_up(table, at, here);
            if !fits(input, candidate, at, here) {
                at += 1 + ((at - anchor) >> PATIENCE);
                continue;
            }
            let mut len = match_len(input, candidate, at);
            if len < LAZY {
                let next = load64(input, at + 1);
                let other = look_up(table, at + 1, next);
                if fits(input, other, at + 1, next) {
                    let other_len = match_len(input, other, at + 1);
                    if other_len > len {
                        at += 1;
                        candidate = other;
                        len = other_len;
                    }
                }
            }
            while BACK && at > anchor && candidate > 0 && input[at - 1] == input[candidate - 1] {
                at -= 1;
                candidate -= 1;
                len += 1;
            }
            found.push(&input[anchor..], at - anchor, len, at - candidate);
            let end = at + len;
            if end < limit {
                for back in INSERT {
                    let v = load64(input, end - back);
                    table[hash(v)] = (end - back) as u16;
                }
            }
            at = end;
            anchor = end;
        }
        let end = anchor.max(range.end);
        found.last(&input[anchor..end]);
        end
    }
}
const LAZY: usize = 16;
const BACK: bool = false;
const INSERT: [usize; 2] = [1, 2];

impl Found {
    fn clear(&mut self) {
        self.sequences.clear();
        self.literals_len = 0;
        self.lens.fill(0);
        self.slots.fill(0);
    }

    /// Takes `literals` bytes of `input`, and a repetition of `len` bytes.
    #[inline(always)]
    fn push(&mut self, input: &[u8], literals: usize, len: usize, distance: usize) {
        // Copies of a fixed length are cheap; what is too much is overwritten by the next.
        let to = self.literals_len;
        if literals <= 16 && input.len() >= 16 {
            self.literals[to..to + 16].copy_from_slice(&input[..16]);
        } else {
            self.literals[to..to + literals].copy_from_slice(&input[..literals]);
        }
        self.literals_len += literals;
        let mut literals = literals as u32;
        let slot = distance_slot(distance);
        let mut rest = len;
        while rest > MAX_MATCH {
            // Nothing shorter than 3 bytes may be left over.
            let len = if rest - MAX_MATCH < 3 { MAX_MATCH - 3 } else { MAX_MATCH };
            self.one(literals, len, distance, slot);
            literals = 0;
            rest -= len;
        }
        self.one(literals, rest, distance, slot);
    }

    #[inline(always)]
    fn one(&mut self, literals: u32, len: usize, distance: usize, slot: usize) {
        self.lens[len] += 1;
        self.slots[slot] += 1;
        self.sequences.push(Sequence { literals, len: len as u16, distance: distance as u16 });
    }

    fn last(&mut self, literals: &[u8]) {
        let to = self.literals_len;
        self.literals[to..to + literals.len()].copy_from_slice(literals);
        self.literals_len += literals.len();
        let literals = literals.len() as u32;
        self.sequences.push(Sequence { literals, len: 0, distance: 0 });
    }
}

/// Where the bytes at `at` may have stood before, at most `at` itself; and remembers `at`.
#[inline(always)]
fn look_up(table: &mut [u16; 1 << TABLE_BITS], at: usize, here: u64) -> usize {
    let place = &mut table[hash(here)];
    let distance = (at as u16).wrapping_sub(*place) as usize;
    *place = at as u16;
    at.saturating_sub(distance)
}

#[inline(always)]
fn fits(input: &[u8], candidate: usize, at: usize, here: u64) -> bool {
    let distance = at - candidate;
    (distance.wrapping_sub(1) < WINDOW) & (load32(input, candidate) == here as u32)
}

#[inline(always)]
fn hash(here: u64) -> usize {
    ((here << (64 - 8 * HASH_BYTES)).wrapping_mul(0x9e37_79b1_85eb_ca87) >> (64 - TABLE_BITS)) as usize
}

/// How many bytes at `at` are those at `candidate`.
#[inline(always)]
fn match_len(input: &[u8], candidate: usize, at: usize) -> usize {
    let mut len = 0;
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

#[inline(always)]
fn load32(input: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(input[at..at + 4].try_into().unwrap_or_default())
}
