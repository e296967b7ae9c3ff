//! The search for candidates with AVX-512: 64 positions at a time, the table in registers.
//!
//! A word of four bytes is a lane, so that 16 lanes are 64 bytes that follow each other, and a hash vector holds
//! every fourth position. Within a lane the hash moves on byte by byte. From lane to lane, the hashes of 4, 8 and 16
//! bytes are doubled, each from itself and the one that ends where it begins, up to the window of 48. Nothing is
//! carried from block to block but the vectors of the one before, so that the blocks overlap in the pipeline;
//! positions come in order, and exactly.

use std::arch::x86_64::*;

use super::divisor::Divisor;
use super::table::TABLE;
use super::{WINDOW_BYTES, portable};

/// Bytes, and positions, in a block.
const BLOCK: usize = 64;

/// Adds to `found` each candidate of `bytes`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
pub(super) fn search(divisor: &Divisor, bytes: &[u8], found: &mut Vec<u32>) {
    if divisor.rotation == 0 {
        search_as::<false>(divisor, bytes, found);
    } else {
        search_as::<true>(divisor, bytes, found);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
fn search_as<const ROTATE: bool>(divisor: &Divisor, bytes: &[u8], found: &mut Vec<u32>) {
    let (blocks, _) = bytes.as_chunks::<BLOCK>();
    let Some((first, blocks)) = blocks.split_first() else {
        return portable::search(divisor, bytes, WINDOW_BYTES..=bytes.len(), found);
    };
    portable::search(divisor, bytes, WINDOW_BYTES..=BLOCK, found);
    let table = Table::new();
    let test = Test::<ROTATE>::new(divisor);
    let mut history = History::new();
    history.hashes(table.look_up(first));
    let mut position = BLOCK;
    for block in blocks {
        let quotients = test.quotients(history.hashes(table.look_up(block)));
        if test.any_may_pass(quotients) {
            push(position, test.passing(quotients), found);
        }
        position += BLOCK;
    }
    portable::search(divisor, bytes, position + 1..=bytes.len(), found);
}

/// The table as four planes: plane `n` has byte `n` of each word. A quarter of a plane fills a register.
struct Table {
    planes: [[__m512i; 4]; 4],
    by_place: __m512i,
}

impl Table {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
    fn new() -> Self {
        Table {
            planes: PLANES.each_ref().map(|plane| plane.each_ref().map(|quarter| load(quarter))),
            // Within each four lanes: first the first bytes of all, then the second ones.
            by_place: _mm512_broadcast_i32x4(_mm_setr_epi8(
                0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15,
            )),
        }
    }

    /// The words of the table for the first byte of each lane, for the second, the third and the fourth.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
    fn look_up(&self, block: &[u8; BLOCK]) -> [__m512i; 4] {
        let bytes = _mm512_shuffle_epi8(load(block), self.by_place);
        let is_upper = _mm512_movepi8_mask(bytes);
        macro_rules! plane {
            ($number:literal) => {{
                let quarters = &self.planes[$number];
                let lower = _mm512_permutex2var_epi8(quarters[0], bytes, quarters[1]);
                let upper = _mm512_permutex2var_epi8(quarters[2], bytes, quarters[3]);
                _mm512_mask_blend_epi8(is_upper, lower, upper)
            }};
        }
        let (plane_0, plane_1, plane_2, plane_3) = (plane!(0), plane!(1), plane!(2), plane!(3));
        let low_01 = _mm512_unpacklo_epi8(plane_0, plane_1);
        let low_23 = _mm512_unpacklo_epi8(plane_2, plane_3);
        let high_01 = _mm512_unpackhi_epi8(plane_0, plane_1);
        let high_23 = _mm512_unpackhi_epi8(plane_2, plane_3);
        [
            _mm512_unpacklo_epi16(low_01, low_23),
            _mm512_unpackhi_epi16(low_01, low_23),
            _mm512_unpacklo_epi16(high_01, high_23),
            _mm512_unpackhi_epi16(high_01, high_23),
        ]
    }
}

/// Vectors of the block before, for lanes whose window begins there.
///
/// It starts with zeros. They stand for bytes whose word is 0, and are as good as any other bytes for the context of
/// positions that nobody asks about.
struct History {
    /// Of each lane, the hash of the 4 bytes that end with it, of 8, of 16; of the window, its complement.
    four: __m512i,
    eight: __m512i,
    sixteen: __m512i,
    window: __m512i,
    /// The words of the first three bytes of each lane.
    words: [__m512i; 3],
}

/// The lanes moved on by some, the first of them filled from the end of the block before.
macro_rules! delayed {
    ($lanes:literal, $now:expr, $before:expr) => {
        _mm512_alignr_epi32::<{ 16 - $lanes }>($now, $before)
    };
}

macro_rules! xor3 {
    ($first:expr, $second:expr, $third:expr) => {
        _mm512_ternarylogic_epi32::<0x96>($first, $second, $third)
    };
}

macro_rules! not_xor3 {
    ($first:expr, $second:expr, $third:expr) => {
        _mm512_ternarylogic_epi32::<0x69>($first, $second, $third)
    };
}

impl History {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
    fn new() -> Self {
        let zero = _mm512_setzero_si512();
        History { four: zero, eight: zero, sixteen: zero, window: zero, words: [zero; 3] }
    }

    /// The complements of the hashes of the positions behind the first byte of each lane, the second, the third
    /// and the fourth.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
    fn hashes(&mut self, words: [__m512i; 4]) -> [__m512i; 4] {
        let [word_0, word_1, word_2, word_3] = words;
        let four = xor3!(
            _mm512_rol_epi32::<3>(word_0),
            _mm512_rol_epi32::<2>(word_1),
            _mm512_xor_si512(_mm512_rol_epi32::<1>(word_2), word_3)
        );
        let earlier_four = delayed!(1, four, self.four);
        let eight = _mm512_xor_si512(four, _mm512_rol_epi32::<4>(earlier_four));
        let earlier_eight = delayed!(2, eight, self.eight);
        let sixteen = _mm512_xor_si512(eight, _mm512_rol_epi32::<8>(earlier_eight));
        // The oldest 16 of the 48 bytes would be rotated by 32. The complement costs nothing here, and all hashes that
        // come of it are complements too.
        let window = not_xor3!(
            sixteen,
            _mm512_rol_epi32::<16>(delayed!(4, sixteen, self.sixteen)),
            delayed!(8, sixteen, self.sixteen)
        );
        // From the end of the lane before, byte by byte; the bytes that leave are 12 lanes back.
        macro_rules! moved_on {
            ($hash:expr, $entering:expr, $before:expr) => {
                xor3!(
                    _mm512_rol_epi32::<1>($hash),
                    $entering,
                    _mm512_rol_epi32::<16>(delayed!(12, $entering, $before))
                )
            };
        }
        let hash_0 = moved_on!(delayed!(1, window, self.window), word_0, self.words[0]);
        let hash_1 = moved_on!(hash_0, word_1, self.words[1]);
        let hash_2 = moved_on!(hash_1, word_2, self.words[2]);
        *self = History { four, eight, sixteen, window, words: [word_0, word_1, word_2] };
        [hash_0, hash_1, hash_2, window]
    }
}

/// The test of 64 hashes. Without `ROTATE`, for odd divisors only.
struct Test<const ROTATE: bool> {
    multiplier: __m512i,
    rotation: __m512i,
    lowest: __m512i,
    highest: __m512i,
}

impl<const ROTATE: bool> Test<ROTATE> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
    fn new(divisor: &Divisor) -> Self {
        Test {
            // The complement of a hash is -(hash + 1): with both negative, nothing needs to be added.
            multiplier: _mm512_set1_epi32(divisor.multiplier.wrapping_neg().cast_signed()),
            rotation: _mm512_set1_epi32(divisor.rotation.cast_signed()),
            lowest: _mm512_set1_epi32(divisor.lowest.cast_signed()),
            highest: _mm512_set1_epi32(divisor.highest.cast_signed()),
        }
    }

    /// What is compared, from the complements of the hashes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
    fn quotients(&self, complements: [__m512i; 4]) -> [__m512i; 4] {
        let mut quotients = complements;
        for quotient in &mut quotients {
            *quotient = _mm512_mullo_epi32(*quotient, self.multiplier);
            if ROTATE {
                *quotient = _mm512_rorv_epi32(*quotient, self.rotation);
            }
        }
        quotients
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
    fn any_may_pass(&self, [first, second, third, fourth]: [__m512i; 4]) -> bool {
        let least =
            _mm512_min_epu32(_mm512_min_epu32(first, second), _mm512_min_epu32(third, fourth));
        _mm512_cmple_epu32_mask(least, self.highest) != 0
    }

    /// A bit for each position of the block, the first being the lowest.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
    fn passing(&self, quotients: [__m512i; 4]) -> u64 {
        let mut passing = 0;
        for (place, quotient) in quotients.into_iter().enumerate() {
            let lanes = _mm512_cmple_epu32_mask(quotient, self.highest)
                & _mm512_cmpge_epu32_mask(quotient, self.lowest);
            passing |= every_fourth(lanes) << place;
        }
        passing
    }
}

/// Moves each bit `n` to `4 * n`.
fn every_fourth(bits: u16) -> u64 {
    let mut spread = u64::from(bits);
    spread = (spread | spread << 24) & 0x0000_00ff_0000_00ff;
    spread = (spread | spread << 12) & 0x000f_000f_000f_000f;
    spread = (spread | spread << 6) & 0x0303_0303_0303_0303;
    (spread | spread << 3) & 0x1111_1111_1111_1111
}

/// Adds the position behind each byte of the block at `start` whose bit is set. Apart from the loop, which then
/// keeps its registers.
#[cold]
#[inline(never)]
fn push(start: usize, mut passing: u64, found: &mut Vec<u32>) {
    found.reserve(BLOCK);
    while passing != 0 {
        found.push((start + passing.trailing_zeros() as usize + 1) as u32);
        passing &= passing - 1;
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
fn load(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: the reference vouches for 64 bytes, and the load asks for no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

static PLANES: [[[u8; 64]; 4]; 4] = {
    let mut planes = [[[0; 64]; 4]; 4];
    let mut byte = 0;
    while byte < 256 {
        let word = TABLE[byte].to_le_bytes();
        let mut number = 0;
        while number < 4 {
            planes[number][byte / 64][byte % 64] = word[number];
            number += 1;
        }
        byte += 1;
    }
    planes
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_spread_to_every_fourth_place() {
        for bit in 0..16 {
            assert_eq!(every_fourth(1 << bit), 1 << (4 * bit));
        }
        assert_eq!(every_fourth(u16::MAX), 0x1111_1111_1111_1111);
    }
}
