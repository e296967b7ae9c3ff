//! SHA-512, up to 8 or up to 16 messages at once, with AVX-512.

use std::arch::x86_64::*;

use super::BLOCK_BYTES;
use super::constants::K;
use crate::block::{Job, equal_blocks};
use crate::rounds::sixteen_rounds;
use crate::transpose::transpose_8;

/// Lanes of one vector.
pub(super) const WIDTH: usize = 8;

/// Compresses the blocks of 1 to 8 messages.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn compress_8(jobs: &mut [Job<'_, [u64; 8]>]) {
    compress::<1>(jobs);
}

/// Compresses the blocks of 1 to 16 messages, as two groups whose instructions take turns: one group alone waits for
/// its own results.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn compress_16(jobs: &mut [Job<'_, [u64; 8]>]) {
    compress::<2>(jobs);
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn compress<const GROUPS: usize>(jobs: &mut [Job<'_, [u64; 8]>]) {
    let blocks = equal_blocks(jobs, BLOCK_BYTES);
    assert!((1..=GROUPS * WIDTH).contains(&jobs.len()));
    let zero = _mm512_setzero_si512();

    // A lane without a job reads the bytes of the first, and its state is dropped.
    let mut data = [[jobs[0].blocks.as_ptr(); WIDTH]; GROUPS];
    let mut state = [[zero; 8]; GROUPS];
    for (lane, job) in jobs.iter().enumerate() {
        data[lane / WIDTH][lane % WIDTH] = job.blocks.as_ptr();
        // SAFETY: the array has the 64 bytes that are read.
        state[lane / WIDTH][lane % WIDTH] =
            unsafe { _mm512_loadu_si512(job.state.as_ptr().cast()) };
    }
    for group in &mut state {
        transpose_8(group);
    }

    for block in 0..blocks {
        let mut w = [[zero; 16]; GROUPS];
        for group in 0..GROUPS {
            // SAFETY: each job has `blocks` blocks, as was checked above.
            w[group] = unsafe { load_block(&data[group], block * BLOCK_BYTES) };
        }
        let mut v = state;
        let mut k = &K[0];
        macro_rules! round {
            ($i:expr, $a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr, $g:expr, $h:expr) => {
                let constant = _mm512_set1_epi64(k[$i].cast_signed());
                for (v, w) in v.iter_mut().zip(&w) {
                    let sum1 = _mm512_ternarylogic_epi64::<XOR3>(
                        _mm512_ror_epi64::<14>(v[$e]),
                        _mm512_ror_epi64::<18>(v[$e]),
                        _mm512_ror_epi64::<41>(v[$e]),
                    );
                    let choice = _mm512_ternarylogic_epi64::<CHOICE>(v[$e], v[$f], v[$g]);
                    let t1 = _mm512_add_epi64(v[$h], _mm512_add_epi64(w[$i], constant));
                    let t1 = _mm512_add_epi64(_mm512_add_epi64(t1, choice), sum1);
                    let sum0 = _mm512_ternarylogic_epi64::<XOR3>(
                        _mm512_ror_epi64::<28>(v[$a]),
                        _mm512_ror_epi64::<34>(v[$a]),
                        _mm512_ror_epi64::<39>(v[$a]),
                    );
                    let majority = _mm512_ternarylogic_epi64::<MAJORITY>(v[$a], v[$b], v[$c]);
                    v[$d] = _mm512_add_epi64(v[$d], t1);
                    v[$h] = _mm512_add_epi64(t1, _mm512_add_epi64(sum0, majority));
                }
            };
        }
        macro_rules! scheduled_round {
            ($i:expr, $($place:expr),*) => {
                for w in &mut w {
                    w[$i] = next_word(w[$i], w[($i + 1) & 15], w[($i + 9) & 15], w[($i + 14) & 15]);
                }
                round!($i, $($place),*);
            };
        }
        sixteen_rounds!(round);
        for next in &K[1..] {
            k = next;
            sixteen_rounds!(scheduled_round);
        }
        for (state, v) in state.iter_mut().zip(v) {
            for (old, new) in state.iter_mut().zip(v) {
                *old = _mm512_add_epi64(*old, new);
            }
        }
    }

    for group in &mut state {
        transpose_8(group);
    }
    for (lane, job) in jobs.iter_mut().enumerate() {
        let row = state[lane / WIDTH][lane % WIDTH];
        // SAFETY: the array has room for the 64 bytes that are written.
        unsafe { _mm512_storeu_si512(job.state.as_mut_ptr().cast(), row) };
    }
}

/// Truth tables of `vpternlog`.
const XOR3: i32 = 0x96;
const CHOICE: i32 = 0xca;
const MAJORITY: i32 = 0xe8;

/// The word of the message schedule that comes 16 behind `w16`, from those 16, 15, 7 and 2 before it.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn next_word(w16: __m512i, w15: __m512i, w7: __m512i, w2: __m512i) -> __m512i {
    let s0 = _mm512_ternarylogic_epi64::<XOR3>(
        _mm512_ror_epi64::<1>(w15),
        rotate_right_8(w15),
        _mm512_srli_epi64::<7>(w15),
    );
    let s1 = _mm512_ternarylogic_epi64::<XOR3>(
        _mm512_ror_epi64::<19>(w2),
        _mm512_ror_epi64::<61>(w2),
        _mm512_srli_epi64::<6>(w2),
    );
    _mm512_add_epi64(_mm512_add_epi64(_mm512_add_epi64(w16, s0), w7), s1)
}

/// On Intel a byte shuffle runs on another port than the rotations, which are the bottleneck.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn rotate_right_8(words: __m512i) -> __m512i {
    let order = _mm_set_epi8(8, 15, 14, 13, 12, 11, 10, 9, 0, 7, 6, 5, 4, 3, 2, 1);
    _mm512_shuffle_epi8(words, _mm512_broadcast_i32x4(order))
}

/// Word `i` of the block at `offset` of all lanes in vector `i`.
///
/// # Safety
///
/// A block must be readable at `offset` of each pointer.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn load_block(data: &[*const u8; WIDTH], offset: usize) -> [__m512i; 16] {
    let order = _mm_set_epi8(8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
    let big_endian = _mm512_broadcast_i32x4(order);
    let mut low = [_mm512_setzero_si512(); 8];
    let mut high = low;
    for lane in 0..WIDTH {
        // SAFETY: the caller promises 128 bytes here.
        let (a, b) = unsafe {
            let at = data[lane].add(offset);
            (_mm512_loadu_si512(at.cast()), _mm512_loadu_si512(at.add(64).cast()))
        };
        low[lane] = _mm512_shuffle_epi8(a, big_endian);
        high[lane] = _mm512_shuffle_epi8(b, big_endian);
    }
    transpose_8(&mut low);
    transpose_8(&mut high);
    let mut words = [_mm512_setzero_si512(); 16];
    words[..8].copy_from_slice(&low);
    words[8..].copy_from_slice(&high);
    words
}
