//! SHA-512, one message, with AVX-512: the message schedule of 8 blocks at once, ahead of their rounds.

use std::arch::x86_64::*;

use super::BLOCK_BYTES;
use super::avx512::{WIDTH, load_block, next_word};
use super::constants::K;
use super::portable::{compress_bmi, scalar_round};
use crate::rounds::sixteen_rounds;

/// Compresses whole blocks. The rounds of one message wait for each other, but not so its schedule.
#[target_feature(enable = "avx512f,avx512bw,bmi1,bmi2")]
pub(super) fn compress(state: &mut [u64; 8], blocks: &[u8]) {
    let (groups, rest) = blocks.as_chunks::<{ WIDTH * BLOCK_BYTES }>();
    // Less than a group must not pay for the memory of one.
    if !groups.is_empty() {
        compress_groups(state, groups);
    }
    compress_bmi(state, rest);
}

#[target_feature(enable = "avx512f,avx512bw,bmi1,bmi2")]
fn compress_groups(state: &mut [u64; 8], groups: &[[u8; WIDTH * BLOCK_BYTES]]) {
    let mut terms = Terms([[0; WIDTH]; 80 + 1]);
    for group in groups {
        schedule(group, &mut terms);
        for block in 0..WIDTH {
            rounds(state, &terms, block);
        }
    }
}

/// The sum of word and constant, for each round and each of the blocks. One row more than there are rounds, so that
/// 80 rows can be counted from the first term of any block: then one register is enough to find a term.
#[repr(align(64))]
struct Terms([[u64; WIDTH]; 80 + 1]);

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn schedule(group: &[u8; WIDTH * BLOCK_BYTES], terms: &mut Terms) {
    let mut data = [group.as_ptr(); WIDTH];
    for (pointer, block) in data.iter_mut().zip(group.as_chunks::<BLOCK_BYTES>().0) {
        *pointer = block.as_ptr();
    }
    // SAFETY: each pointer is the beginning of a block.
    let mut w = unsafe { load_block(&data, 0) };
    for (number, (terms, k)) in terms.0.as_chunks_mut::<16>().0.iter_mut().zip(&K).enumerate() {
        if number > 0 {
            macro_rules! step {
                ($($i:literal)*) => {
                    $(w[$i] = next_word(
                        w[$i],
                        w[($i + 1) & 15],
                        w[($i + 9) & 15],
                        w[($i + 14) & 15],
                    );)*
                };
            }
            step!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        }
        for ((term, word), k) in terms.iter_mut().zip(w).zip(k) {
            let sum = _mm512_add_epi64(word, _mm512_set1_epi64(k.cast_signed()));
            // SAFETY: the array has room for the 64 bytes that are written.
            unsafe { _mm512_storeu_si512(term.as_mut_ptr().cast(), sum) };
        }
    }
}

#[inline]
#[target_feature(enable = "bmi1,bmi2")]
fn rounds(state: &mut [u64; 8], terms: &Terms, block: usize) {
    let mut v = *state;
    let mut bc = v[1] ^ v[2];
    let column = &terms.0.as_flattened()[block..];
    for terms in column.as_chunks::<{ 16 * WIDTH }>().0 {
        macro_rules! round {
            ($i:expr, $($place:expr),*) => {
                scalar_round!(v, bc, terms[$i * WIDTH], $($place),*);
            };
        }
        sixteen_rounds!(round);
    }
    for (old, new) in state.iter_mut().zip(v) {
        *old = old.wrapping_add(new);
    }
}
