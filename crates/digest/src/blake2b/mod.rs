//! BLAKE2b (RFC 7693), without a key: one message at once, piece by piece, and many in parallel lanes.

mod constants;
mod portable;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use crate::block::{BlockHash, Engine, Stream, TAIL_BYTES, one_by_one};
use crate::queue::Queue;
use crate::{Kernel, Message};

const BLOCK_BYTES: usize = 128;

/// The digest of `bytes`, `N` bytes long. `N` is 1 to 64; a shorter digest is not the beginning of a longer one.
pub fn hash<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut hasher = Hasher::new();
    hasher.update(bytes);
    hasher.finish()
}

/// One digest of `N` bytes (1 to 64) over bytes that come piece by piece.
pub struct Hasher<const N: usize>(Stream<Blake2b>);

impl<const N: usize> Hasher<N> {
    /// Nothing hashed yet.
    pub fn new() -> Self {
        Self::with_kernel(Kernel::best())
    }

    /// Nothing hashed yet, by that kernel, for tests and measurements.
    ///
    /// # Panics
    ///
    /// If the kernel is not one of [`Kernel::available`].
    pub fn with_kernel(kernel: Kernel) -> Self {
        Hasher(Stream::new(kernel, State::initial::<N>()))
    }

    /// Adds `bytes` behind those before.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes that were added.
    pub fn finish(self) -> [u8; N] {
        self.0.finish().digest()
    }
}

impl<const N: usize> Default for Hasher<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// Digests of `N` bytes (1 to 64) of messages of any lengths, in parallel lanes of one thread, as [`crate::Lanes`].
pub struct Lanes<M, const N: usize>(Queue<M, Blake2b>);

impl<M: Message, const N: usize> Lanes<M, N> {
    /// Empty lanes of the best kernel that this machine has.
    pub fn new() -> Self {
        Self::with_kernel(Kernel::best())
    }

    /// Empty lanes of that kernel, for tests and measurements.
    ///
    /// # Panics
    ///
    /// If the kernel is not one of [`Kernel::available`].
    pub fn with_kernel(kernel: Kernel) -> Self {
        Lanes(Queue::new(Blake2b::engine(kernel), State::initial::<N>()))
    }

    /// Takes one more message. When all lanes are busy, works until one is free: `done` gets each message that
    /// is finished meanwhile, with its digest, in no particular order.
    ///
    /// # Panics
    ///
    /// If a message does not give the same pieces each time.
    pub fn push(&mut self, message: M, done: &mut impl FnMut(M, [u8; N])) {
        self.0.push(message, &mut |message, state| done(message, state.digest()));
    }

    /// Works until all messages are finished.
    pub fn finish(&mut self, done: &mut impl FnMut(M, [u8; N])) {
        self.0.finish(&mut |message, state| done(message, state.digest()));
    }

    /// How many messages are taken and not finished.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no message is under way.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<M: Message, const N: usize> Default for Lanes<M, N> {
    fn default() -> Self {
        Self::new()
    }
}

/// BLAKE2b as blocks.
struct Blake2b;

/// What is known of the bytes before.
#[derive(Clone)]
struct State {
    words: [u64; 8],
    /// Of the message, up to the end of the last block that was compressed. A longer message than 2^64 bytes there
    /// is not. A tail that is not a whole block makes it wrap: it is set back by what will be too much.
    count_bytes: u64,
    /// All bits set when the next block is the last.
    last_mask: u64,
}

impl State {
    fn initial<const N: usize>() -> Self {
        const { assert!(1 <= N && N <= 64, "a digest of BLAKE2b has 1 to 64 bytes") };
        let mut words = constants::INITIAL;
        // The parameter block: the length of the digest, no key, fan-out 1, depth 1.
        words[0] ^= 0x0101_0000 ^ N as u64;
        State { words, count_bytes: 0, last_mask: 0 }
    }

    fn digest<const N: usize>(&self) -> [u8; N] {
        let mut digest = [0; N];
        for (bytes, word) in digest.chunks_mut(8).zip(self.words) {
            bytes.copy_from_slice(&word.to_le_bytes()[..bytes.len()]);
        }
        digest
    }

    #[cfg(target_arch = "x86_64")]
    fn count_blocks(&mut self, blocks: usize) {
        self.count_bytes = self.count_bytes.wrapping_add((blocks * BLOCK_BYTES) as u64);
    }
}

impl BlockHash for Blake2b {
    type State = State;

    const BLOCK_BYTES: usize = BLOCK_BYTES;

    fn engine(kernel: Kernel) -> Engine<State> {
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
                one: x86::one(),
                // SAFETY: the processor has the instructions, as `require` has checked.
                many: |jobs| unsafe { x86::many_avx2(jobs) },
            },
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => Engine {
                lanes: avx512::WIDTH,
                one: x86::one(),
                // SAFETY: the processor has the instructions, as `require` has checked.
                many: |jobs| unsafe { x86::many_avx512(jobs) },
            },
            #[cfg(not(target_arch = "x86_64"))]
            Kernel::Avx2 | Kernel::Avx512 => unreachable!("was refused above"),
        }
    }

    fn pad(
        state: &mut State,
        tail: &mut [u8; TAIL_BYTES],
        filled: usize,
        total_bytes: u64,
    ) -> usize {
        tail[filled..BLOCK_BYTES].fill(0);
        state.count_bytes = total_bytes.wrapping_sub(BLOCK_BYTES as u64);
        state.last_mask = u64::MAX;
        BLOCK_BYTES
    }
}

/// Which kernel for how many messages.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{State, avx2, avx512, portable};
    use crate::block::{Job, one_by_one};

    /// The best for one message.
    pub(super) fn one() -> fn(&mut State, &[u8]) {
        if is_x86_feature_detected!("bmi1") && is_x86_feature_detected!("bmi2") {
            // SAFETY: the processor has the instructions.
            |state, blocks| unsafe { portable::compress_bmi(state, blocks) }
        } else {
            portable::compress
        }
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn many_avx2(jobs: &mut [Job<'_, State>]) {
        for jobs in jobs.chunks_mut(avx2::WIDTH) {
            match jobs.len() {
                0..=1 => one_by_one(one(), jobs),
                _ => avx2::compress_4(jobs),
            }
        }
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn many_avx512(jobs: &mut [Job<'_, State>]) {
        for jobs in jobs.chunks_mut(avx512::WIDTH) {
            match jobs.len() {
                0..=1 => one_by_one(one(), jobs),
                _ => avx512::compress_8(jobs),
            }
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
            check_engine::<Blake2b, _>(kernel, &State::initial::<64>(), State::digest::<64>);
        }
    }
}
