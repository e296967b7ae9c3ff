//! SHA-512, up to 4 messages at once, with AVX2.

use std::arch::x86_64::*;

use super::BLOCK_BYTES;
use super::constants::K;
use crate::block::{Job, equal_blocks};
use crate::rounds::sixteen_rounds;
use crate::transpose::{load_rows_4, store_rows_4, transpose_4};

/// Lanes of one vector.
pub(super) const WIDTH: usize = 4;

/// Compresses the blocks of 1 to 4 messages.
#[target_feature(enable = "avx2")]
pub(super) fn compress_4(jobs: &mut [Job<'_, [u64; 8]>]) {
    let blocks = equal_blocks(jobs, BLOCK_BYTES);
    assert!((1..=WIDTH).contains(&jobs.len()));

    // A lane without a job reads the bytes of the first, and its state is dropped.
    let mut data = [jobs[0].blocks.as_ptr(); WIDTH];
    let mut rows = [[0; 8]; WIDTH];
    for (lane, job) in jobs.iter().enumerate() {
        data[lane] = job.blocks.as_ptr();
        rows[lane] = *job.state;
    }
    let mut state = load_rows_4(&rows);

    for block in 0..blocks {
        // SAFETY: each job has `blocks` blocks, as was checked above.
        let mut w = unsafe { load_block(&data, block * BLOCK_BYTES) };
        let mut v = state;
        // (b ^ c) of a round is (a ^ b) of the round before.
        let mut bc = _mm256_xor_si256(v[1], v[2]);
        let mut k = &K[0];
        macro_rules! round {
            ($i:expr, $a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr, $g:expr, $h:expr) => {
                let constant = _mm256_set1_epi64x(k[$i].cast_signed());
                let t1 = _mm256_add_epi64(v[$h], _mm256_add_epi64(w[$i], constant));
                let choice = _mm256_xor_si256(
                    _mm256_and_si256(v[$e], v[$f]),
                    _mm256_andnot_si256(v[$e], v[$g]),
                );
                let t1 = _mm256_add_epi64(t1, choice);
                let sum1 = xor3(
                    rotate_right::<14, 50>(v[$e]),
                    rotate_right::<18, 46>(v[$e]),
                    rotate_right::<41, 23>(v[$e]),
                );
                let t1 = _mm256_add_epi64(t1, sum1);
                let sum0 = xor3(
                    rotate_right::<28, 36>(v[$a]),
                    rotate_right::<34, 30>(v[$a]),
                    rotate_right::<39, 25>(v[$a]),
                );
                let ab = _mm256_xor_si256(v[$a], v[$b]);
                let majority = _mm256_xor_si256(v[$b], _mm256_and_si256(ab, bc));
                bc = ab;
                v[$d] = _mm256_add_epi64(v[$d], t1);
                v[$h] = _mm256_add_epi64(t1, _mm256_add_epi64(majority, sum0));
            };
        }
        macro_rules! scheduled_round {
            ($i:expr, $($place:expr),*) => {
                let (w15, w2) = (w[($i + 1) & 15], w[($i + 14) & 15]);
                let s0 = xor3(
                    rotate_right::<1, 63>(w15),
                    rotate_right_8(w15),
                    _mm256_srli_epi64::<7>(w15),
                );
                let s1 = xor3(
                    rotate_right::<19, 45>(w2),
                    rotate_right::<61, 3>(w2),
                    _mm256_srli_epi64::<6>(w2),
                );
                let sum = _mm256_add_epi64(_mm256_add_epi64(w[$i], s0), w[($i + 9) & 15]);
                w[$i] = _mm256_add_epi64(sum, s1);
                round!($i, $($place),*);
            };
        }
        sixteen_rounds!(round);
        for next in &K[1..] {
            k = next;
            sixteen_rounds!(scheduled_round);
        }
        for (old, new) in state.iter_mut().zip(v) {
            *old = _mm256_add_epi64(*old, new);
        }
    }

    for (job, row) in jobs.iter_mut().zip(store_rows_4(state)) {
        *job.state = row;
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn rotate_right<const RIGHT: i32, const LEFT: i32>(words: __m256i) -> __m256i {
    const { assert!(RIGHT + LEFT == 64) };
    _mm256_or_si256(_mm256_srli_epi64::<RIGHT>(words), _mm256_slli_epi64::<LEFT>(words))
}

#[inline]
#[target_feature(enable = "avx2")]
fn rotate_right_8(words: __m256i) -> __m256i {
    let order = _mm_set_epi8(8, 15, 14, 13, 12, 11, 10, 9, 0, 7, 6, 5, 4, 3, 2, 1);
    _mm256_shuffle_epi8(words, _mm256_broadcastsi128_si256(order))
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor3(a: __m256i, b: __m256i, c: __m256i) -> __m256i {
    _mm256_xor_si256(_mm256_xor_si256(a, b), c)
}

/// Word `i` of the block at `offset` of all lanes in vector `i`.
///
/// # Safety
///
/// A block must be readable at `offset` of each pointer.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_block(data: &[*const u8; WIDTH], offset: usize) -> [__m256i; 16] {
    let order = _mm_set_epi8(8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
    let big_endian = _mm256_broadcastsi128_si256(order);
    let mut words = [_mm256_setzero_si256(); 16];
    let (quarters, _) = words.as_chunks_mut::<4>();
    for (number, quarter) in quarters.iter_mut().enumerate() {
        for (row, pointer) in quarter.iter_mut().zip(data) {
            // SAFETY: the caller promises 4 times 32 bytes here.
            let bytes = unsafe { _mm256_loadu_si256(pointer.add(offset + number * 32).cast()) };
            *row = _mm256_shuffle_epi8(bytes, big_endian);
        }
        transpose_4(quarter);
    }
    words
}
