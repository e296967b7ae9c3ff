//! SHA-512 with the initial values of SHA-512/256 (FIPS 180-4), by the kernel that fits.

mod constants;
#[cfg_attr(not(target_arch = "x86_64"), path = "elsewhere.rs")]
mod portable;

#[cfg(target_arch = "x86_64")]
mod ahead;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

pub(crate) use constants::INITIAL;

use crate::block::{BlockHash, Engine, TAIL_BYTES, one_by_one, pad_with_length};
use crate::{DIGEST_BYTES, Kernel};

const BLOCK_BYTES: usize = 128;

/// SHA-512 as blocks.
pub(crate) struct Sha512;

impl BlockHash for Sha512 {
    type State = [u64; 8];

    const BLOCK_BYTES: usize = BLOCK_BYTES;

    fn engine(kernel: Kernel) -> Engine<[u64; 8]> {
        kernel.require();
        match kernel {
            Kernel::Portable => Engine {
                lanes: 1,
                one: portable::compress,
                many: |jobs| one_by_one(portable::compress, jobs),
            },
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => Engine {
                lanes: avx2::WIDTH,
                one: x86::one(kernel),
                // SAFETY: the processor has the instructions, as `require` has checked.
                many: |jobs| unsafe { x86::many_avx2(jobs) },
            },
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => Engine {
                lanes: x86::lanes_avx512(),
                one: x86::one(kernel),
                // SAFETY: the processor has the instructions, as `require` has checked.
                many: |jobs| unsafe { x86::many_avx512(jobs) },
            },
            #[cfg(not(target_arch = "x86_64"))]
            Kernel::Avx2 | Kernel::Avx512 => unreachable!("was refused above"),
        }
    }

    fn pad(
        _: &mut [u64; 8],
        tail: &mut [u8; TAIL_BYTES],
        filled: usize,
        total_bytes: u64,
    ) -> usize {
        pad_with_length(tail, filled, total_bytes, BLOCK_BYTES, 16)
    }
}

/// The digest that a state behind the last block stands for.
pub(crate) fn digest(state: &[u64; 8]) -> [u8; DIGEST_BYTES] {
    let mut digest = [0; DIGEST_BYTES];
    for (bytes, word) in digest.as_chunks_mut::<8>().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    digest
}

/// Which kernel for how many messages.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::__cpuid;

    use super::{ahead, avx2, avx512, portable};
    use crate::Kernel;
    use crate::block::{Job, one_by_one};

    /// The best for one message, on a processor with that kernel.
    pub(super) fn one(kernel: Kernel) -> fn(&mut [u64; 8], &[u8]) {
        kernel.require();
        if !is_x86_feature_detected!("bmi1") || !is_x86_feature_detected!("bmi2") {
            portable::compress
        } else if kernel < Kernel::Avx512 {
            // SAFETY: the processor has the instructions, as was checked.
            |state, blocks| unsafe { portable::compress_bmi(state, blocks) }
        } else {
            // SAFETY: as above.
            |state, blocks| unsafe { ahead::compress(state, blocks) }
        }
    }

    /// How many messages [`many_avx512`] likes to get. Where the result of an instruction is there in the next cycle,
    /// as on Intel's processors, one group of 8 is enough, and it needs no memory for its variables: measured 6 %
    /// faster. AMD's Zen 5 takes two cycles: there 16 are 24 % faster.
    pub(super) fn lanes_avx512() -> usize {
        // Safe to call in newer compilers only.
        #[allow(unused_unsafe)]
        // SAFETY: every processor of this architecture has the instruction.
        let vendor = unsafe { __cpuid(0) };
        let is_intel =
            [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat() == b"GenuineIntel";
        if is_intel { avx512::WIDTH } else { 2 * avx512::WIDTH }
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn many_avx2(jobs: &mut [Job<'_, [u64; 8]>]) {
        for jobs in jobs.chunks_mut(avx2::WIDTH) {
            match jobs.len() {
                0..=2 => one_by_one(one(Kernel::Avx2), jobs),
                _ => avx2::compress_4(jobs),
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn many_avx512(jobs: &mut [Job<'_, [u64; 8]>]) {
        match jobs.len() {
            0..=1 => one_by_one(one(Kernel::Avx512), jobs),
            2..=8 => avx512::compress_8(jobs),
            _ => avx512::compress_16(jobs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::tests::check_engine;

    #[test]
    fn any_number_of_lanes_of_any_kernel_compresses_as_the_portable_code_does() {
        for kernel in Kernel::available() {
            check_engine::<Sha512, _>(kernel, &INITIAL, digest);
        }
    }
}
