//! BLAKE2b, one message, in plain Rust; also compiled for processors with the BMI instructions.

use super::constants::{INITIAL, SIGMA, twelve_rounds};
use super::{BLOCK_BYTES, State};

/// Compresses whole blocks.
pub(super) fn compress(state: &mut State, blocks: &[u8]) {
    compress_inlined(state, blocks);
}

/// The same with rotations that keep their operand (`rorx`).
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "bmi1,bmi2")]
pub(super) fn compress_bmi(state: &mut State, blocks: &[u8]) {
    compress_inlined(state, blocks);
}

/// Inlined always, so that it is compiled with the instructions of its caller.
#[inline(always)]
fn compress_inlined(state: &mut State, blocks: &[u8]) {
    for block in blocks.as_chunks::<BLOCK_BYTES>().0 {
        let mut m = [0u64; 16];
        for (word, bytes) in m.iter_mut().zip(block.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        state.count_bytes = state.count_bytes.wrapping_add(BLOCK_BYTES as u64);
        let mut v = [0u64; 16];
        v[..8].copy_from_slice(&state.words);
        v[8..].copy_from_slice(&INITIAL);
        v[12] ^= state.count_bytes;
        v[14] ^= state.last_mask;
        macro_rules! mix {
            ($x:expr, $y:expr, $a:expr, $b:expr, $c:expr, $d:expr) => {
                v[$a] = v[$a].wrapping_add(m[$x]).wrapping_add(v[$b]);
                v[$d] = (v[$d] ^ v[$a]).rotate_right(32);
                v[$c] = v[$c].wrapping_add(v[$d]);
                v[$b] = (v[$b] ^ v[$c]).rotate_right(24);
                v[$a] = v[$a].wrapping_add(m[$y]).wrapping_add(v[$b]);
                v[$d] = (v[$d] ^ v[$a]).rotate_right(16);
                v[$c] = v[$c].wrapping_add(v[$d]);
                v[$b] = (v[$b] ^ v[$c]).rotate_right(63);
            };
        }
        twelve_rounds!(mix);
        for (i, word) in state.words.iter_mut().enumerate() {
            *word ^= v[i] ^ v[i + 8];
        }
    }
}
