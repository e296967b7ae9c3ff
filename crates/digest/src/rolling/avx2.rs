//! The search for candidates with AVX2: lookups one by one, everything else in vectors.
//!
//! A table of 1 KiB is too large for the shuffles of AVX2, and its gathers are slow on many processors. So a first
//! pass goes through the bytes and writes down, for each position, the hash of *all* bytes so far. The hash of a
//! window is the difference of two such sums, 48 bytes apart, which a second pass takes and tests for eight positions
//! at once. Positions come in order, and exactly.

use std::arch::x86_64::*;

use super::divisor::Divisor;
use super::table::TABLE;
use super::{WINDOW_BYTES, portable};

/// Sums that are made at the same time, since each byte waits for the sum before it.
const LANES: usize = 4;

/// Positions of a lane. All sums together have to stay well within 32 KiB, the smallest usual L1 cache.
const LANE: usize = 1024;

/// Positions that are tested with one branch.
const BLOCK: usize = 32;

/// Adds to `found` each candidate of `bytes`.
#[target_feature(enable = "avx2")]
pub(super) fn search(divisor: &Divisor, bytes: &[u8], found: &mut Vec<u32>) {
    if divisor.rotation == 0 {
        search_as::<false>(divisor, bytes, found);
    } else {
        search_as::<true>(divisor, bytes, found);
    }
}

#[target_feature(enable = "avx2")]
fn search_as<const ROTATE: bool>(divisor: &Divisor, bytes: &[u8], found: &mut Vec<u32>) {
    let test = Test::<ROTATE>::new(divisor);
    let mut sums = [[0; WINDOW_BYTES + LANE]; LANES];
    let mut tested = WINDOW_BYTES.min(bytes.len());
    portable::search(divisor, bytes, WINDOW_BYTES..=tested, found);
    while bytes.len() - tested >= LANES * LANE {
        let start = tested - WINDOW_BYTES;
        sum_up(&bytes[start..tested + LANES * LANE], &mut sums);
        for lane in &sums {
            let (older, _) = lane[..LANE].as_chunks::<BLOCK>();
            let (newer, _) = lane[WINDOW_BYTES..].as_chunks::<BLOCK>();
            for (older, newer) in older.iter().zip(newer) {
                let quotients = test.quotients(older, newer);
                if test.any_may_pass(quotients) {
                    push(tested, test.passing(quotients), found);
                }
                tested += BLOCK;
            }
        }
    }
    portable::search(divisor, bytes, tested + 1..=bytes.len(), found);
}

/// The sums of each lane, from 48 bytes before its first position on.
#[inline]
#[target_feature(enable = "avx2")]
fn sum_up(bytes: &[u8], sums: &mut [[u32; WINDOW_BYTES + LANE]; LANES]) {
    const WORD: usize = 8;
    let lanes: [&[[u8; WORD]]; LANES] =
        std::array::from_fn(|lane| bytes[lane * LANE..][..WINDOW_BYTES + LANE].as_chunks().0);
    let mut sum = [0u32; LANES];
    for word in 0..(WINDOW_BYTES + LANE) / WORD {
        let words = lanes.map(|lane| u64::from_le_bytes(lane[word]));
        for byte in 0..WORD {
            for lane in 0..LANES {
                let value = (words[lane] >> (8 * byte)) as u8;
                sum[lane] = sum[lane].rotate_left(1) ^ TABLE[usize::from(value)];
                sums[lane][word * WORD + byte] = sum[lane];
            }
        }
    }
}

/// The test of the hashes of a block. Without `ROTATE`, for odd divisors only.
struct Test<const ROTATE: bool> {
    multiplier: __m256i,
    right: __m128i,
    left: __m128i,
    lowest: __m256i,
    highest: __m256i,
    swapped_halves: __m256i,
}

impl<const ROTATE: bool> Test<ROTATE> {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(divisor: &Divisor) -> Self {
        Test {
            multiplier: _mm256_set1_epi32(divisor.multiplier.cast_signed()),
            right: _mm_cvtsi32_si128(divisor.rotation.cast_signed()),
            left: _mm_cvtsi32_si128(32 - divisor.rotation.cast_signed()),
            lowest: _mm256_set1_epi32(divisor.lowest.cast_signed()),
            highest: _mm256_set1_epi32(divisor.highest.cast_signed()),
            swapped_halves: _mm256_broadcastsi128_si256(_mm_setr_epi8(
                2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13,
            )),
        }
    }

    /// What is compared, from the sums before and behind the windows.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn quotients(&self, older: &[u32; BLOCK], newer: &[u32; BLOCK]) -> [__m256i; 4] {
        let (older, _) = older.as_chunks::<8>();
        let (newer, _) = newer.as_chunks::<8>();
        let mut quotients = [_mm256_setzero_si256(); 4];
        for (at, quotient) in quotients.iter_mut().enumerate() {
            // The older sum has meanwhile been rotated by 48.
            let older = _mm256_shuffle_epi8(load(&older[at]), self.swapped_halves);
            let hash = _mm256_xor_si256(load(&newer[at]), older);
            let product = _mm256_mullo_epi32(hash, self.multiplier);
            *quotient = _mm256_add_epi32(product, self.multiplier);
            if ROTATE {
                *quotient = _mm256_or_si256(
                    _mm256_srl_epi32(*quotient, self.right),
                    _mm256_sll_epi32(*quotient, self.left),
                );
            }
        }
        quotients
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn any_may_pass(&self, [first, second, third, fourth]: [__m256i; 4]) -> bool {
        let least =
            _mm256_min_epu32(_mm256_min_epu32(first, second), _mm256_min_epu32(third, fourth));
        is_at_most(least, self.highest) != 0
    }

    /// A bit for each position of the block, the first being the lowest.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn passing(&self, quotients: [__m256i; 4]) -> u32 {
        let mut passing = 0;
        for (at, quotient) in quotients.into_iter().enumerate() {
            let is_low = is_at_most(quotient, self.highest);
            passing |= (is_low & is_at_most(self.lowest, quotient)) << (8 * at);
        }
        passing
    }
}

/// A bit for each lane in which `first <= second`.
#[inline]
#[target_feature(enable = "avx2")]
fn is_at_most(first: __m256i, second: __m256i) -> u32 {
    // AVX2 compares signed numbers only.
    let is_least = _mm256_cmpeq_epi32(_mm256_min_epu32(first, second), first);
    _mm256_movemask_ps(_mm256_castsi256_ps(is_least)).cast_unsigned()
}

/// Adds the position behind each byte that follows on `tested` and whose bit is set. Apart from the loop, which then
/// keeps its registers.
#[cold]
#[inline(never)]
fn push(tested: usize, mut passing: u32, found: &mut Vec<u32>) {
    found.reserve(BLOCK);
    while passing != 0 {
        found.push((tested + passing.trailing_zeros() as usize + 1) as u32);
        passing &= passing - 1;
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(words: &[u32; 8]) -> __m256i {
    // SAFETY: the reference vouches for 32 bytes, and the load asks for no alignment.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}
