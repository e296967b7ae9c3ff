//! The search for candidates on any processor.

use std::ops::RangeInclusive;

use super::divisor::Divisor;
use super::table::TABLE;
use super::{WINDOW_BYTES, window_hash};

/// How many bytes the hash moves on at once.
///
/// Each hash is needed for the next one, which alone would take two cycles a byte. So these many hashes are made from
/// the one before all of them; what has come in and gone out since is summed up beside that chain.
const STEP: usize = 4;

/// Adds to `found` each candidate of `bytes` at `positions`, of which the first is at least [`WINDOW_BYTES`] and the
/// last at most `bytes.len()`.
pub(super) fn search(
    divisor: &Divisor,
    bytes: &[u8],
    positions: RangeInclusive<usize>,
    found: &mut Vec<u32>,
) {
    let (first, last) = positions.into_inner();
    if first > last {
        return;
    }
    // A copy, so that the constants stay in registers.
    let divisor = *divisor;
    let begin = first - WINDOW_BYTES;
    let mut hash = window_hash(bytes[begin..].first_chunk().expect("positions begin at 48"));
    if divisor.passes(hash) {
        found.push(first as u32);
    }
    let (entering, entering_rest) = bytes[first..last].as_chunks::<STEP>();
    let (leaving, leaving_rest) = bytes[begin..last - WINDOW_BYTES].as_chunks::<STEP>();
    let mut position = first;
    for (entering, leaving) in entering.iter().zip(leaving) {
        let one = change(entering[0], leaving[0]);
        let two = one.rotate_left(1) ^ change(entering[1], leaving[1]);
        let three = two.rotate_left(1) ^ change(entering[2], leaving[2]);
        let four = three.rotate_left(1) ^ change(entering[3], leaving[3]);
        let hashes = [
            hash.rotate_left(1) ^ one,
            hash.rotate_left(2) ^ two,
            hash.rotate_left(3) ^ three,
            hash.rotate_left(4) ^ four,
        ];
        if hashes.iter().any(|hash| divisor.passes(*hash)) {
            push(&divisor, position, hashes, found);
        }
        hash = hashes[STEP - 1];
        position += STEP;
    }
    for (entering, leaving) in entering_rest.iter().zip(leaving_rest) {
        hash = hash.rotate_left(1) ^ change(*entering, *leaving);
        position += 1;
        if divisor.passes(hash) {
            found.push(position as u32);
        }
    }
}

/// What a byte that enters the window and one that leaves it change in the hash.
#[inline(always)]
fn change(entering: u8, leaving: u8) -> u32 {
    TABLE[usize::from(entering)] ^ LEAVING[usize::from(leaving)]
}

/// Apart from the loop, which then keeps its registers.
#[cold]
#[inline(never)]
fn push(divisor: &Divisor, position: usize, hashes: [u32; STEP], found: &mut Vec<u32>) {
    for (at, hash) in hashes.into_iter().enumerate() {
        if divisor.passes(hash) {
            found.push((position + at + 1) as u32);
        }
    }
}

/// The constants as they are when 48 bytes have come in after theirs.
static LEAVING: [u32; 256] = {
    let mut rotated = TABLE;
    let mut at = 0;
    while at < rotated.len() {
        rotated[at] = rotated[at].rotate_left(WINDOW_BYTES as u32);
        at += 1;
    }
    rotated
};
