//! BLAKE2b, up to 4 messages at once, with AVX2.

use std::arch::x86_64::*;

use super::constants::{INITIAL, SIGMA, twelve_rounds};
use super::{BLOCK_BYTES, State};
use crate::block::{Job, equal_blocks};
use crate::transpose::{load_rows_4, store_rows_4, transpose_4};

/// Lanes of one vector.
pub(super) const WIDTH: usize = 4;

/// Compresses the blocks of 1 to 4 messages.
#[target_feature(enable = "avx2")]
pub(super) fn compress_4(jobs: &mut [Job<'_, State>]) {
    let blocks = equal_blocks(jobs, BLOCK_BYTES);
    assert!((1..=WIDTH).contains(&jobs.len()));

    // A lane without a job reads the bytes of the first, and its state is dropped.
    let mut data = [jobs[0].blocks.as_ptr(); WIDTH];
    let mut rows = [[0; 8]; WIDTH];
    let mut counts = [0u64; WIDTH];
    let mut masks = [0u64; WIDTH];
    for (lane, job) in jobs.iter().enumerate() {
        data[lane] = job.blocks.as_ptr();
        rows[lane] = job.state.words;
        counts[lane] = job.state.count_bytes;
        masks[lane] = job.state.last_mask;
    }
    let mut state = load_rows_4(&rows);
    // SAFETY: each array has the 32 bytes that are read.
    let (mut count, mask) = unsafe {
        (_mm256_loadu_si256(counts.as_ptr().cast()), _mm256_loadu_si256(masks.as_ptr().cast()))
    };

    for block in 0..blocks {
        // SAFETY: each job has `blocks` blocks, as was checked above.
        let m = unsafe { load_block(&data, block * BLOCK_BYTES) };
        count = _mm256_add_epi64(count, _mm256_set1_epi64x(BLOCK_BYTES as i64));
        let mut v = [_mm256_setzero_si256(); 16];
        v[..8].copy_from_slice(&state);
        for (variable, initial) in v[8..].iter_mut().zip(INITIAL) {
            *variable = _mm256_set1_epi64x(initial.cast_signed());
        }
        v[12] = _mm256_xor_si256(v[12], count);
        v[14] = _mm256_xor_si256(v[14], mask);
        macro_rules! mix {
            ($x:expr, $y:expr, $a:expr, $b:expr, $c:expr, $d:expr) => {
                v[$a] = _mm256_add_epi64(_mm256_add_epi64(v[$a], m[$x]), v[$b]);
                v[$d] = _mm256_shuffle_epi32::<0xb1>(_mm256_xor_si256(v[$d], v[$a]));
                v[$c] = _mm256_add_epi64(v[$c], v[$d]);
                v[$b] = rotate_right_24(_mm256_xor_si256(v[$b], v[$c]));
                v[$a] = _mm256_add_epi64(_mm256_add_epi64(v[$a], m[$y]), v[$b]);
                v[$d] = rotate_right_16(_mm256_xor_si256(v[$d], v[$a]));
                v[$c] = _mm256_add_epi64(v[$c], v[$d]);
                v[$b] = rotate_right_63(_mm256_xor_si256(v[$b], v[$c]));
            };
        }
        twelve_rounds!(mix);
        for (i, word) in state.iter_mut().enumerate() {
            *word = _mm256_xor_si256(*word, _mm256_xor_si256(v[i], v[i + 8]));
        }
    }

    let rows = store_rows_4(state);
    for (job, row) in jobs.iter_mut().zip(rows) {
        job.state.words = row;
        job.state.count_blocks(blocks);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn rotate_right_24(words: __m256i) -> __m256i {
    let order = _mm_set_epi8(10, 9, 8, 15, 14, 13, 12, 11, 2, 1, 0, 7, 6, 5, 4, 3);
    _mm256_shuffle_epi8(words, _mm256_broadcastsi128_si256(order))
}

#[inline]
#[target_feature(enable = "avx2")]
fn rotate_right_16(words: __m256i) -> __m256i {
    let order = _mm_set_epi8(9, 8, 15, 14, 13, 12, 11, 10, 1, 0, 7, 6, 5, 4, 3, 2);
    _mm256_shuffle_epi8(words, _mm256_broadcastsi128_si256(order))
}

#[inline]
#[target_feature(enable = "avx2")]
fn rotate_right_63(words: __m256i) -> __m256i {
    _mm256_or_si256(_mm256_srli_epi64::<63>(words), _mm256_add_epi64(words, words))
}

/// Word `i` of the block at `offset` of all lanes in vector `i`.
///
/// # Safety
///
/// A block must be readable at `offset` of each pointer.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_block(data: &[*const u8; WIDTH], offset: usize) -> [__m256i; 16] {
    let mut words = [_mm256_setzero_si256(); 16];
    let (quarters, _) = words.as_chunks_mut::<4>();
    for (number, quarter) in quarters.iter_mut().enumerate() {
        for (row, pointer) in quarter.iter_mut().zip(data) {
            // SAFETY: the caller promises 4 times 32 bytes here.
            *row = unsafe { _mm256_loadu_si256(pointer.add(offset + number * 32).cast()) };
        }
        transpose_4(quarter);
    }
    words
}
