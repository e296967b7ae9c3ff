//! Digests of many messages at once: a queue that keeps all lanes of the best kernel busy.

use crate::block::BlockHash as _;
use crate::queue::Queue;
use crate::sha256::{self, Sha256};
use crate::sha512::{self, Sha512};
use crate::{Algorithm, DIGEST_BYTES, Kernel};

/// Bytes to be hashed, in one or more pieces.
pub trait Message {
    /// The piece with that number, counted from 0; `None` behind the last. The same each time it is asked for.
    /// A piece may be empty.
    fn piece(&self, number: usize) -> Option<&[u8]>;
}

impl Message for Vec<u8> {
    fn piece(&self, number: usize) -> Option<&[u8]> {
        (number == 0).then_some(self)
    }
}

impl Message for &[u8] {
    fn piece(&self, number: usize) -> Option<&[u8]> {
        (number == 0).then_some(self)
    }
}

/// Hashes messages of any lengths in parallel lanes of one thread. A lane that ends takes the next message, so
/// that all of them are busy until the last few.
pub struct Lanes<M>(Queues<M>);

enum Queues<M> {
    Sha512_256(Queue<M, Sha512>),
    Sha256(Queue<M, Sha256>),
}

impl<M: Message> Lanes<M> {
    /// Empty lanes of the best kernel that this machine has.
    pub fn new(algorithm: Algorithm) -> Self {
        Self::with_kernel(algorithm, Kernel::best())
    }

    /// Empty lanes of that kernel, for tests and measurements.
    ///
    /// # Panics
    ///
    /// If the kernel is not one of [`Kernel::available`].
    pub fn with_kernel(algorithm: Algorithm, kernel: Kernel) -> Self {
        Lanes(match algorithm {
            Algorithm::Sha512_256 => {
                Queues::Sha512_256(Queue::new(Sha512::engine(kernel), sha512::INITIAL))
            }
            Algorithm::Sha256 => {
                Queues::Sha256(Queue::new(Sha256::engine(kernel), sha256::INITIAL))
            }
        })
    }

    /// Takes one more message. When all lanes are busy, works until one is free: `done` gets each message that
    /// is finished meanwhile, with its digest, in no particular order.
    ///
    /// # Panics
    ///
    /// If a message does not give the same pieces each time.
    pub fn push(&mut self, message: M, done: &mut impl FnMut(M, [u8; DIGEST_BYTES])) {
        match &mut self.0 {
            Queues::Sha512_256(queue) => {
                queue.push(message, &mut |message, state| done(message, sha512::digest(state)));
            }
            Queues::Sha256(queue) => {
                queue.push(message, &mut |message, state| done(message, sha256::digest(state)));
            }
        }
    }

    /// Works until all messages are finished.
    pub fn finish(&mut self, done: &mut impl FnMut(M, [u8; DIGEST_BYTES])) {
        match &mut self.0 {
            Queues::Sha512_256(queue) => {
                queue.finish(&mut |message, state| done(message, sha512::digest(state)));
            }
            Queues::Sha256(queue) => {
                queue.finish(&mut |message, state| done(message, sha256::digest(state)));
            }
        }
    }

    /// How many messages are taken and not finished.
    pub fn len(&self) -> usize {
        match &self.0 {
            Queues::Sha512_256(queue) => queue.len(),
            Queues::Sha256(queue) => queue.len(),
        }
    }

    /// Whether no message is under way.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
