//! BLAKE2b, up to 8 messages at once, with AVX-512.

use std::arch::x86_64::*;

use super::constants::{INITIAL, SIGMA, twelve_rounds};
use super::{BLOCK_BYTES, State};
use crate::block::{Job, equal_blocks};
use crate::transpose::transpose_8;

/// Lanes of one vector.
pub(super) const WIDTH: usize = 8;

/// Compresses the blocks of 1 to 8 messages.
#[target_feature(enable = "avx512f")]
pub(super) fn compress_8(jobs: &mut [Job<'_, State>]) {
    let blocks = equal_blocks(jobs, BLOCK_BYTES);
    assert!((1..=WIDTH).contains(&jobs.len()));
    let zero = _mm512_setzero_si512();

    // A lane without a job reads the bytes of the first, and its state is dropped.
    let mut data = [jobs[0].blocks.as_ptr(); WIDTH];
    let mut state = [zero; 8];
    let mut counts = [0u64; WIDTH];
    let mut masks = [0u64; WIDTH];
    for (lane, job) in jobs.iter().enumerate() {
        data[lane] = job.blocks.as_ptr();
        // SAFETY: the array has the 64 bytes that are read.
        state[lane] = unsafe { _mm512_loadu_si512(job.state.words.as_ptr().cast()) };
        counts[lane] = job.state.count_bytes;
        masks[lane] = job.state.last_mask;
    }
    transpose_8(&mut state);
    // SAFETY: each array has the 64 bytes that are read.
    let (mut count, mask) = unsafe {
        (_mm512_loadu_si512(counts.as_ptr().cast()), _mm512_loadu_si512(masks.as_ptr().cast()))
    };

    for block in 0..blocks {
        // SAFETY: each job has `blocks` blocks, as was checked above.
        let m = unsafe { load_block(&data, block * BLOCK_BYTES) };
        count = _mm512_add_epi64(count, _mm512_set1_epi64(BLOCK_BYTES as i64));
        let mut v = [zero; 16];
        v[..8].copy_from_slice(&state);
        for (variable, initial) in v[8..].iter_mut().zip(INITIAL) {
            *variable = _mm512_set1_epi64(initial.cast_signed());
        }
        v[12] = _mm512_xor_si512(v[12], count);
        v[14] = _mm512_xor_si512(v[14], mask);
        macro_rules! mix {
            ($x:expr, $y:expr, $a:expr, $b:expr, $c:expr, $d:expr) => {
                v[$a] = _mm512_add_epi64(_mm512_add_epi64(v[$a], m[$x]), v[$b]);
                v[$d] = _mm512_ror_epi64::<32>(_mm512_xor_si512(v[$d], v[$a]));
                v[$c] = _mm512_add_epi64(v[$c], v[$d]);
                v[$b] = _mm512_ror_epi64::<24>(_mm512_xor_si512(v[$b], v[$c]));
                v[$a] = _mm512_add_epi64(_mm512_add_epi64(v[$a], m[$y]), v[$b]);
                v[$d] = _mm512_ror_epi64::<16>(_mm512_xor_si512(v[$d], v[$a]));
                v[$c] = _mm512_add_epi64(v[$c], v[$d]);
                v[$b] = _mm512_ror_epi64::<63>(_mm512_xor_si512(v[$b], v[$c]));
            };
        }
        twelve_rounds!(mix);
        for (i, word) in state.iter_mut().enumerate() {
            *word = _mm512_ternarylogic_epi64::<0x96>(*word, v[i], v[i + 8]);
        }
    }

    transpose_8(&mut state);
    for (job, row) in jobs.iter_mut().zip(state) {
        // SAFETY: the array has room for the 64 bytes that are written.
        unsafe { _mm512_storeu_si512(job.state.words.as_mut_ptr().cast(), row) };
        job.state.count_blocks(blocks);
    }
}

/// Word `i` of the block at `offset` of all lanes in vector `i`.
///
/// # Safety
///
/// A block must be readable at `offset` of each pointer.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_block(data: &[*const u8; WIDTH], offset: usize) -> [__m512i; 16] {
    let mut words = [_mm512_setzero_si512(); 16];
    let (halves, _) = words.as_chunks_mut::<8>();
    for (number, half) in halves.iter_mut().enumerate() {
        for (row, pointer) in half.iter_mut().zip(data) {
            // SAFETY: the caller promises 2 times 64 bytes here.
            *row = unsafe { _mm512_loadu_si512(pointer.add(offset + number * 64).cast()) };
        }
        transpose_8(half);
    }
    words
}
