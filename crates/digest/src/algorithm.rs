//! The digests that name chunks: SHA-512/256 and SHA-256.

use crate::Kernel;
use crate::block::Stream;
use crate::sha256::{self, Sha256};
use crate::sha512::{self, Sha512};

/// Length of a digest in bytes, the same for each [`Algorithm`].
pub const DIGEST_BYTES: usize = 32;

/// A digest that can name a chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// SHA-512/256 of FIPS 180-4: SHA-512 with its own initial values, cut to 256 bits.
    #[default]
    Sha512_256,
    /// SHA-256 of FIPS 180-4.
    Sha256,
}

impl Algorithm {
    /// The digest of `bytes`, one stream.
    pub fn digest(self, bytes: &[u8]) -> [u8; DIGEST_BYTES] {
        let mut hasher = Hasher::new(self);
        hasher.update(bytes);
        hasher.finish()
    }

    /// Its name in options and in output: `sha512-256`, `sha256`.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha512_256 => "sha512-256",
            Algorithm::Sha256 => "sha256",
        }
    }
}

/// One digest over bytes that come piece by piece.
pub struct Hasher(State);

enum State {
    Sha512_256(Stream<Sha512>),
    Sha256(Stream<Sha256>),
}

impl Hasher {
    /// Nothing hashed yet.
    pub fn new(algorithm: Algorithm) -> Self {
        Self::with_kernel(algorithm, Kernel::best())
    }

    /// Nothing hashed yet, by that kernel, for tests and measurements.
    ///
    /// # Panics
    ///
    /// If the kernel is not one of [`Kernel::available`].
    pub fn with_kernel(algorithm: Algorithm, kernel: Kernel) -> Self {
        Hasher(match algorithm {
            Algorithm::Sha512_256 => State::Sha512_256(Stream::new(kernel, sha512::INITIAL)),
            Algorithm::Sha256 => State::Sha256(Stream::new(kernel, sha256::INITIAL)),
        })
    }

    /// Adds `bytes` behind those before.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha512_256(stream) => stream.update(bytes),
            State::Sha256(stream) => stream.update(bytes),
        }
    }

    /// The digest of all bytes that were added.
    pub fn finish(self) -> [u8; DIGEST_BYTES] {
        match self.0 {
            State::Sha512_256(stream) => sha512::digest(&stream.finish()),
            State::Sha256(stream) => sha256::digest(&stream.finish()),
        }
    }
}
