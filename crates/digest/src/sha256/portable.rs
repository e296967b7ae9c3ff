//! SHA-256, one message, in plain Rust.

use super::BLOCK_BYTES;
use super::constants::K;
use crate::rounds::sixteen_rounds;

/// Compresses whole blocks.
pub(super) fn compress(state: &mut [u32; 8], blocks: &[u8]) {
    for block in blocks.as_chunks::<BLOCK_BYTES>().0 {
        let mut w = [0u32; 16];
        for (word, bytes) in w.iter_mut().zip(block.as_chunks::<4>().0) {
            *word = u32::from_be_bytes(*bytes);
        }
        let mut v = *state;
        // (b ^ c) of a round is (a ^ b) of the round before.
        let mut bc = v[1] ^ v[2];
        let mut k = &K[0];
        macro_rules! round {
            ($i:expr, $a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr, $g:expr, $h:expr) => {
                let sum1 = v[$e].rotate_right(6) ^ v[$e].rotate_right(11) ^ v[$e].rotate_right(25);
                let choice = (v[$e] & v[$f]) ^ (!v[$e] & v[$g]);
                let t1 = v[$h].wrapping_add(w[$i]).wrapping_add(k[$i]);
                let t1 = t1.wrapping_add(choice).wrapping_add(sum1);
                let sum0 = v[$a].rotate_right(2) ^ v[$a].rotate_right(13) ^ v[$a].rotate_right(22);
                let ab = v[$a] ^ v[$b];
                let majority = v[$b] ^ (ab & bc);
                bc = ab;
                v[$d] = v[$d].wrapping_add(t1);
                v[$h] = t1.wrapping_add(majority).wrapping_add(sum0);
            };
        }
        macro_rules! scheduled_round {
            ($i:expr, $($place:expr),*) => {
                let (w15, w2) = (w[($i + 1) & 15], w[($i + 14) & 15]);
                let s0 = w15.rotate_right(7) ^ w15.rotate_right(18) ^ (w15 >> 3);
                let s1 = w2.rotate_right(17) ^ w2.rotate_right(19) ^ (w2 >> 10);
                let sum = w[$i].wrapping_add(s0).wrapping_add(w[($i + 9) & 15]);
                w[$i] = sum.wrapping_add(s1);
                round!($i, $($place),*);
            };
        }
        sixteen_rounds!(round);
        for next in &K[1..] {
            k = next;
            sixteen_rounds!(scheduled_round);
        }
        for (old, new) in state.iter_mut().zip(v) {
            *old = old.wrapping_add(new);
        }
    }
}
