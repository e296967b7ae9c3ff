//! SHA-256, up to 16 messages at once, with AVX-512.

use std::arch::x86_64::*;

use super::BLOCK_BYTES;
use super::constants::K;
use crate::block::{Job, equal_blocks};
use crate::rounds::sixteen_rounds;
use crate::transpose::transpose_16;

/// Lanes of one vector.
pub(super) const WIDTH: usize = 16;

/// Compresses the blocks of 1 to 16 messages.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn compress_16(jobs: &mut [Job<'_, [u32; 8]>]) {
    let blocks = equal_blocks(jobs, BLOCK_BYTES);
    assert!((1..=WIDTH).contains(&jobs.len()));
    let order = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
    let big_endian = _mm512_broadcast_i32x4(order);

    // A lane without a job reads the bytes of the first, and its state is dropped.
    let mut data = [jobs[0].blocks.as_ptr(); WIDTH];
    let mut rows = [_mm512_setzero_si512(); WIDTH];
    for (lane, job) in jobs.iter().enumerate() {
        data[lane] = job.blocks.as_ptr();
        // SAFETY: the array has the 32 bytes that are read.
        let row = unsafe { _mm256_loadu_si256(job.state.as_ptr().cast()) };
        rows[lane] = _mm512_zextsi256_si512(row);
    }
    transpose_16(&mut rows);
    // A state fills half of its row; the other half stays empty.
    let mut state = [_mm512_setzero_si512(); 8];
    state.copy_from_slice(&rows[..8]);

    for block in 0..blocks {
        let mut w = [_mm512_setzero_si512(); 16];
        for (row, pointer) in w.iter_mut().zip(data) {
            // SAFETY: each job has `blocks` blocks of 64 bytes, as was checked above.
            let bytes = unsafe { _mm512_loadu_si512(pointer.add(block * BLOCK_BYTES).cast()) };
            *row = _mm512_shuffle_epi8(bytes, big_endian);
        }
        transpose_16(&mut w);
        let mut v = state;
        let mut k = &K[0];
        macro_rules! round {
            ($i:expr, $a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr, $g:expr, $h:expr) => {
                let constant = _mm512_set1_epi32(k[$i].cast_signed());
                let sum1 = _mm512_ternarylogic_epi32::<XOR3>(
                    _mm512_ror_epi32::<6>(v[$e]),
                    _mm512_ror_epi32::<11>(v[$e]),
                    _mm512_ror_epi32::<25>(v[$e]),
                );
                let choice = _mm512_ternarylogic_epi32::<CHOICE>(v[$e], v[$f], v[$g]);
                let t1 = _mm512_add_epi32(v[$h], _mm512_add_epi32(w[$i], constant));
                let t1 = _mm512_add_epi32(_mm512_add_epi32(t1, choice), sum1);
                let sum0 = _mm512_ternarylogic_epi32::<XOR3>(
                    _mm512_ror_epi32::<2>(v[$a]),
                    _mm512_ror_epi32::<13>(v[$a]),
                    _mm512_ror_epi32::<22>(v[$a]),
                );
                let majority = _mm512_ternarylogic_epi32::<MAJORITY>(v[$a], v[$b], v[$c]);
                v[$d] = _mm512_add_epi32(v[$d], t1);
                v[$h] = _mm512_add_epi32(t1, _mm512_add_epi32(sum0, majority));
            };
        }
        macro_rules! scheduled_round {
            ($i:expr, $($place:expr),*) => {
                let (w15, w2) = (w[($i + 1) & 15], w[($i + 14) & 15]);
                let s0 = _mm512_ternarylogic_epi32::<XOR3>(
                    _mm512_ror_epi32::<7>(w15),
                    _mm512_ror_epi32::<18>(w15),
                    _mm512_srli_epi32::<3>(w15),
                );
                let s1 = _mm512_ternarylogic_epi32::<XOR3>(
                    _mm512_ror_epi32::<17>(w2),
                    _mm512_ror_epi32::<19>(w2),
                    _mm512_srli_epi32::<10>(w2),
                );
                let sum = _mm512_add_epi32(_mm512_add_epi32(w[$i], s0), w[($i + 9) & 15]);
                w[$i] = _mm512_add_epi32(sum, s1);
                round!($i, $($place),*);
            };
        }
        sixteen_rounds!(round);
        for next in &K[1..] {
            k = next;
            sixteen_rounds!(scheduled_round);
        }
        for (old, new) in state.iter_mut().zip(v) {
            *old = _mm512_add_epi32(*old, new);
        }
    }

    rows[..8].copy_from_slice(&state);
    transpose_16(&mut rows);
    for (job, row) in jobs.iter_mut().zip(rows) {
        let row = _mm512_castsi512_si256(row);
        // SAFETY: the array has room for the 32 bytes that are written.
        unsafe { _mm256_storeu_si256(job.state.as_mut_ptr().cast(), row) };
    }
}

/// Truth tables of `vpternlog`.
const XOR3: i32 = 0x96;
const CHOICE: i32 = 0xca;
const MAJORITY: i32 = 0xe8;
