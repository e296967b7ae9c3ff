//! SHA-256 (FIPS 180-4), by the kernel that fits.

mod constants;
#[cfg_attr(not(target_arch = "x86_64"), path = "elsewhere.rs")]
mod portable;

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod ni;

pub(crate) use constants::INITIAL;

use crate::block::{BlockHash, Engine, TAIL_BYTES, one_by_one, pad_with_length};
use crate::{DIGEST_BYTES, Kernel};

const BLOCK_BYTES: usize = 64;

const PORTABLE: Engine<[u32; 8]> =
    Engine { lanes: 1, one: portable::compress, many: |jobs| one_by_one(portable::compress, jobs) };

/// SHA-256 as blocks.
pub(crate) struct Sha256;

impl BlockHash for Sha256 {
    type State = [u32; 8];

    const BLOCK_BYTES: usize = BLOCK_BYTES;

    fn engine(kernel: Kernel) -> Engine<[u32; 8]> {
        kernel.require();
        match kernel {
            Kernel::Portable => PORTABLE,
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 if ni::is_available() => {
                Engine { lanes: 2, one: x86::one(), many: x86::pairs }
            }
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => Engine {
                lanes: avx512::WIDTH,
                one: x86::one(),
                // SAFETY: the processor has the instructions, as `require` has checked.
                many: |jobs| unsafe { x86::many_avx512(jobs) },
            },
            _ => PORTABLE,
        }
    }

    fn pad(
        _: &mut [u32; 8],
        tail: &mut [u8; TAIL_BYTES],
        filled: usize,
        total_bytes: u64,
    ) -> usize {
        pad_with_length(tail, filled, total_bytes, BLOCK_BYTES, 8)
    }
}

/// The digest that a state behind the last block stands for.
pub(crate) fn digest(state: &[u32; 8]) -> [u8; DIGEST_BYTES] {
    let mut digest = [0; DIGEST_BYTES];
    for (bytes, word) in digest.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    digest
}

/// Which kernel for how many messages.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{avx512, ni, portable};
    use crate::block::{Job, one_by_one};

    /// The best for one message.
    pub(super) fn one() -> fn(&mut [u32; 8], &[u8]) {
        if ni::is_available() {
            // SAFETY: the processor has the instructions, as was checked.
            |state, blocks| unsafe { ni::compress_1(state, blocks) }
        } else {
            portable::compress
        }
    }

    /// The best for a few messages.
    pub(super) fn pairs(jobs: &mut [Job<'_, [u32; 8]>]) {
        let (pairs, rest) =
            if ni::is_available() { jobs.as_chunks_mut::<2>() } else { (&mut [][..], jobs) };
        for pair in pairs {
            // SAFETY: the processor has the instructions, as was checked.
            unsafe { ni::compress_2(pair) };
        }
        one_by_one(one(), rest);
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn many_avx512(jobs: &mut [Job<'_, [u32; 8]>]) {
        let few = if ni::is_available() { 8 } else { 1 };
        if jobs.len() <= few { pairs(jobs) } else { avx512::compress_16(jobs) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::tests::check_engine;

    #[test]
    fn any_number_of_lanes_of_any_kernel_compresses_as_the_portable_code_does() {
        for kernel in Kernel::available() {
            check_engine::<Sha256, _>(kernel, &INITIAL, digest);
        }
    }
}
