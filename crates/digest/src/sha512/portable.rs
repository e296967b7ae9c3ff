//! SHA-512, one message, in plain Rust; also compiled for processors with the BMI instructions.

use super::BLOCK_BYTES;
use super::constants::K;
use crate::rounds::sixteen_rounds;

/// One round on the variables `v`, with the sum of its word and its constant. `bc` is `v[b] ^ v[c]`, which is
/// `v[a] ^ v[b]` of the round before.
macro_rules! scalar_round {
    (
        $v:ident, $bc:ident, $term:expr,
        $a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr, $g:expr, $h:expr
    ) => {
        let sum1 = $v[$e].rotate_right(14) ^ $v[$e].rotate_right(18) ^ $v[$e].rotate_right(41);
        let choice = ($v[$e] & $v[$f]) ^ (!$v[$e] & $v[$g]);
        let t1 = $v[$h].wrapping_add($term).wrapping_add(choice).wrapping_add(sum1);
        let sum0 = $v[$a].rotate_right(28) ^ $v[$a].rotate_right(34) ^ $v[$a].rotate_right(39);
        let ab = $v[$a] ^ $v[$b];
        let majority = $v[$b] ^ (ab & $bc);
        $bc = ab;
        $v[$d] = $v[$d].wrapping_add(t1);
        $v[$h] = t1.wrapping_add(majority).wrapping_add(sum0);
    };
}

#[cfg(target_arch = "x86_64")]
pub(super) use scalar_round;

/// Compresses whole blocks.
pub(super) fn compress(state: &mut [u64; 8], blocks: &[u8]) {
    compress_inlined(state, blocks);
}

/// The same with rotations that keep their operand (`rorx`) and with `andn`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "bmi1,bmi2")]
pub(super) fn compress_bmi(state: &mut [u64; 8], blocks: &[u8]) {
    compress_inlined(state, blocks);
}

/// Inlined always, so that it is compiled with the instructions of its caller.
#[inline(always)]
fn compress_inlined(state: &mut [u64; 8], blocks: &[u8]) {
    for block in blocks.as_chunks::<BLOCK_BYTES>().0 {
        let mut w = [0u64; 16];
        for (word, bytes) in w.iter_mut().zip(block.as_chunks::<8>().0) {
            *word = u64::from_be_bytes(*bytes);
        }
        let mut v = *state;
        let mut bc = v[1] ^ v[2];
        let mut k = &K[0];
        macro_rules! round {
            ($i:expr, $($place:expr),*) => {
                scalar_round!(v, bc, w[$i].wrapping_add(k[$i]), $($place),*);
            };
        }
        macro_rules! scheduled_round {
            ($i:expr, $($place:expr),*) => {
                let (w15, w2) = (w[($i + 1) & 15], w[($i + 14) & 15]);
                let s0 = w15.rotate_right(1) ^ w15.rotate_right(8) ^ (w15 >> 7);
                let s1 = w2.rotate_right(19) ^ w2.rotate_right(61) ^ (w2 >> 6);
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
