//! What the hashes share: a state, blocks that are compressed into it, and a padded tail.

use crate::Kernel;

/// The most lanes that any kernel has.
pub(crate) const MAX_LANES: usize = 16;

/// Room for the tail of a message: two of the longest blocks.
pub(crate) const TAIL_BYTES: usize = 256;

/// A hash that compresses a message block by block.
///
/// The tail of a message are its last 1 to [`BLOCK_BYTES`](Self::BLOCK_BYTES) bytes (none if the message is
/// empty), also when they are a whole block: BLAKE2b must know its last block, and the others do not mind.
pub(crate) trait BlockHash: Sized + 'static {
    /// What is known of the bytes before.
    type State: Clone + Send + Sync;

    /// Length of a block.
    const BLOCK_BYTES: usize;

    /// The functions for that kernel. Panics if this processor does not have it.
    fn engine(kernel: Kernel) -> Engine<Self::State>;

    /// Makes blocks of a tail: `tail` begins with its `filled` bytes, and `total_bytes` is the length of the whole
    /// message. Returns the length of the blocks in bytes; they are the next and the last to be compressed.
    fn pad(
        state: &mut Self::State,
        tail: &mut [u8; TAIL_BYTES],
        filled: usize,
        total_bytes: u64,
    ) -> usize;
}

/// The functions of one hash for one kernel.
#[derive(Debug)]
pub(crate) struct Engine<S> {
    /// How many messages `many` likes to get, 1 to [`MAX_LANES`].
    pub(crate) lanes: usize,
    /// Compresses the blocks of one message.
    pub(crate) one: fn(&mut S, &[u8]),
    /// Compresses the blocks of up to [`MAX_LANES`] messages, the same number for each. Chooses by itself what is
    /// fastest for so many.
    pub(crate) many: fn(&mut [Job<'_, S>]),
}

// Derived, these would ask for `S: Clone`.
impl<S> Clone for Engine<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Engine<S> {}

/// Whole blocks that are to be compressed into a state.
pub(crate) struct Job<'a, S> {
    pub(crate) state: &'a mut S,
    pub(crate) blocks: &'a [u8],
}

/// How many blocks each of the jobs has. Kernels read without further checks what this has checked.
#[cfg(target_arch = "x86_64")]
pub(crate) fn equal_blocks<S>(jobs: &[Job<'_, S>], block_bytes: usize) -> usize {
    let len = jobs.first().map_or(0, |job| job.blocks.len());
    assert!(jobs.iter().all(|job| job.blocks.len() == len), "lanes of unequal length");
    len / block_bytes
}

/// Compresses the jobs one after the other.
pub(crate) fn one_by_one<S>(one: fn(&mut S, &[u8]), jobs: &mut [Job<'_, S>]) {
    for job in jobs {
        one(job.state, job.blocks);
    }
}

/// One message that comes piece by piece.
pub(crate) struct Stream<H: BlockHash> {
    engine: Engine<H::State>,
    state: H::State,
    /// The bytes behind the last block that was compressed, at most one block of them.
    tail: [u8; TAIL_BYTES],
    filled: usize,
    total_bytes: u64,
}

impl<H: BlockHash> Stream<H> {
    pub(crate) fn new(kernel: Kernel, initial: H::State) -> Self {
        let engine = H::engine(kernel);
        Stream { engine, state: initial, tail: [0; TAIL_BYTES], filled: 0, total_bytes: 0 }
    }

    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        self.total_bytes += bytes.len() as u64;
        let room = H::BLOCK_BYTES - self.filled;
        if bytes.len() > room {
            if self.filled > 0 {
                let (head, rest) = bytes.split_at(room);
                self.tail[self.filled..H::BLOCK_BYTES].copy_from_slice(head);
                (self.engine.one)(&mut self.state, &self.tail[..H::BLOCK_BYTES]);
                self.filled = 0;
                bytes = rest;
            }
            let whole = (bytes.len() - 1) / H::BLOCK_BYTES * H::BLOCK_BYTES;
            let (blocks, rest) = bytes.split_at(whole);
            (self.engine.one)(&mut self.state, blocks);
            bytes = rest;
        }
        self.tail[self.filled..self.filled + bytes.len()].copy_from_slice(bytes);
        self.filled += bytes.len();
    }

    /// The state behind the last block.
    pub(crate) fn finish(mut self) -> H::State {
        let len = H::pad(&mut self.state, &mut self.tail, self.filled, self.total_bytes);
        (self.engine.one)(&mut self.state, &self.tail[..len]);
        self.state
    }
}

/// Pads as FIPS 180-4 5.1 says: a set bit, zeroes, and the length in bits as the last `length_bytes` of a block.
pub(crate) fn pad_with_length(
    tail: &mut [u8; TAIL_BYTES],
    filled: usize,
    total_bytes: u64,
    block_bytes: usize,
    length_bytes: usize,
) -> usize {
    let len = (filled + 1 + length_bytes).next_multiple_of(block_bytes);
    tail[filled..len].fill(0);
    tail[filled] = 0x80;
    // 16 bytes hold the longest length; what does not fit into `length_bytes` is 0 for any message below 2^61 bytes.
    let bits = (u128::from(total_bytes) * 8).to_be_bytes();
    tail[len - length_bytes..len].copy_from_slice(&bits[16 - length_bytes..]);
    len
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Compares `many`, for all numbers of jobs that it may get, and `one` with the portable code. The queue does not
    /// come to all of them: how many lanes it keeps busy depends on the processor.
    pub(crate) fn check_engine<H: BlockHash, const N: usize>(
        kernel: Kernel,
        initial: &H::State,
        digest: fn(&H::State) -> [u8; N],
    ) {
        let (engine, portable) = (H::engine(kernel), H::engine(Kernel::Portable));
        assert!(engine.lanes <= MAX_LANES);
        for jobs in 1..=MAX_LANES {
            for blocks in [0, 1, 3, 20] {
                let bytes: Vec<Vec<u8>> = (0..jobs)
                    .map(|_| (0..blocks * H::BLOCK_BYTES).map(|_| fastrand::u8(..)).collect())
                    .collect();
                let mut states = vec![initial.clone(); jobs];
                let mut list: Vec<_> = states
                    .iter_mut()
                    .zip(&bytes)
                    .map(|(state, blocks)| Job { state, blocks })
                    .collect();
                (engine.many)(&mut list);
                for (state, bytes) in states.iter().zip(&bytes) {
                    let (mut alone, mut judge) = (initial.clone(), initial.clone());
                    (engine.one)(&mut alone, bytes);
                    (portable.one)(&mut judge, bytes);
                    assert_eq!(digest(state), digest(&judge), "{kernel:?}: {jobs} x {blocks}");
                    assert_eq!(digest(&alone), digest(&judge), "{kernel:?}: alone, {blocks}");
                }
            }
        }
    }
}
