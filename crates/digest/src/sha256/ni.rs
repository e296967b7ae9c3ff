//! SHA-256, one or two messages, with the SHA instructions of x86.

use std::arch::x86_64::*;

use super::BLOCK_BYTES;
use super::constants::K;
use crate::block::{Job, equal_blocks};

/// Whether the processor has what this file uses.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("sha")
        && is_x86_feature_detected!("ssse3")
        && is_x86_feature_detected!("sse4.1")
}

/// Compresses the blocks of one message.
#[target_feature(enable = "sha,ssse3,sse4.1")]
pub(super) fn compress_1(state: &mut [u32; 8], blocks: &[u8]) {
    compress(&mut [Job { state, blocks }]);
}

/// Compresses the blocks of two messages, whose instructions take turns: each alone waits for its own results.
#[target_feature(enable = "sha,ssse3,sse4.1")]
pub(super) fn compress_2(jobs: &mut [Job<'_, [u32; 8]>; 2]) {
    compress(jobs);
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn compress<const STREAMS: usize>(jobs: &mut [Job<'_, [u32; 8]>; STREAMS]) {
    let blocks = equal_blocks(jobs, BLOCK_BYTES);
    let big_endian = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
    let zero = _mm_setzero_si128();

    let mut state = [[zero; 2]; STREAMS];
    for (state, job) in state.iter_mut().zip(jobs.iter()) {
        *state = load_state(job.state);
    }
    for block in 0..blocks {
        let mut w = [[zero; 4]; STREAMS];
        let mut v = state;
        for stream in 0..STREAMS {
            let at =
                jobs[stream].blocks.as_ptr().wrapping_add(block * BLOCK_BYTES).cast::<__m128i>();
            for (part, words) in w[stream].iter_mut().enumerate() {
                // SAFETY: each job has `blocks` blocks, as was checked above, and a block has 4 parts.
                let bytes = unsafe { _mm_loadu_si128(at.add(part)) };
                *words = _mm_shuffle_epi8(bytes, big_endian);
            }
        }
        // Four rounds; the words are those of the rounds.
        macro_rules! rounds {
            ($i:expr) => {
                let constants = &K[$i / 4].as_chunks::<4>().0[$i % 4];
                // SAFETY: the array has the 16 bytes that are read.
                let constants = unsafe { _mm_loadu_si128(constants.as_ptr().cast()) };
                for (v, w) in v.iter_mut().zip(&w) {
                    let sum = _mm_add_epi32(w[$i % 4], constants);
                    v[1] = _mm_sha256rnds2_epu32(v[1], v[0], sum);
                    v[0] = _mm_sha256rnds2_epu32(v[0], v[1], _mm_shuffle_epi32::<0x0e>(sum));
                }
            };
        }
        macro_rules! scheduled_rounds {
            ($i:expr) => {
                for w in &mut w {
                    let w7 = _mm_alignr_epi8::<4>(w[($i + 3) % 4], w[($i + 2) % 4]);
                    let sum = _mm_add_epi32(_mm_sha256msg1_epu32(w[$i % 4], w[($i + 1) % 4]), w7);
                    w[$i % 4] = _mm_sha256msg2_epu32(sum, w[($i + 3) % 4]);
                }
                rounds!($i);
            };
        }
        rounds!(0);
        rounds!(1);
        rounds!(2);
        rounds!(3);
        scheduled_rounds!(4);
        scheduled_rounds!(5);
        scheduled_rounds!(6);
        scheduled_rounds!(7);
        scheduled_rounds!(8);
        scheduled_rounds!(9);
        scheduled_rounds!(10);
        scheduled_rounds!(11);
        scheduled_rounds!(12);
        scheduled_rounds!(13);
        scheduled_rounds!(14);
        scheduled_rounds!(15);
        for (state, v) in state.iter_mut().zip(v) {
            for (old, new) in state.iter_mut().zip(v) {
                *old = _mm_add_epi32(*old, new);
            }
        }
    }
    for (state, job) in state.into_iter().zip(jobs) {
        store_state(state, job.state);
    }
}

/// The state in the order of the instructions: the variables f e b a and h g d c, from the lowest word.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn load_state(state: &[u32; 8]) -> [__m128i; 2] {
    // SAFETY: the array has the two times 16 bytes that are read.
    let (abcd, efgh) = unsafe {
        let at = state.as_ptr().cast::<__m128i>();
        (_mm_loadu_si128(at), _mm_loadu_si128(at.add(1)))
    };
    let badc = _mm_shuffle_epi32::<0xb1>(abcd);
    let hgfe = _mm_shuffle_epi32::<0x1b>(efgh);
    [_mm_alignr_epi8::<8>(badc, hgfe), _mm_blend_epi16::<0xf0>(hgfe, badc)]
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn store_state([feba, hgdc]: [__m128i; 2], state: &mut [u32; 8]) {
    let abef = _mm_shuffle_epi32::<0x1b>(feba);
    let ghcd = _mm_shuffle_epi32::<0xb1>(hgdc);
    let abcd = _mm_blend_epi16::<0xf0>(abef, ghcd);
    let efgh = _mm_alignr_epi8::<8>(ghcd, abef);
    // SAFETY: the array has room for the two times 16 bytes that are written.
    unsafe {
        let at = state.as_mut_ptr().cast::<__m128i>();
        _mm_storeu_si128(at, abcd);
        _mm_storeu_si128(at.add(1), efgh);
    }
}
