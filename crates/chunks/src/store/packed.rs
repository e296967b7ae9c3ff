//! A chunk on its way into and out of a store: packed, unpacked, believed.
//!
//! ```text
//! Packed ──Unpacker──▶ Unverified ──digest──▶ Chunk ──seal──▶ Sealed ──▶ a store
//!                                                              ▲
//!                              bytes whose digest was taken ──Packer
//! ```
//!
//! Sources: casync 2 and desync 0.9.6. Compressed chunks are one zstd frame, xz stream or gzip member, told apart
//! by their first bytes, never by their names.

use std::borrow::Cow;

use digest::{Algorithm, Message};
use image::{Error, ErrorKind, Result};

use crate::ChunkId;

/// How the bytes of a chunk are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Form {
    /// One compressed frame: `.cacnk`. New ones are zstd.
    #[default]
    Compressed,
    /// As they are: a file without extension.
    Plain,
}

impl Form {
    /// The word for it in output.
    pub fn name(self) -> &'static str {
        match self {
            Form::Compressed => "compressed",
            Form::Plain => "plain",
        }
    }
}

/// What a store gave: bytes that nobody has looked at.
#[derive(Debug)]
pub struct Packed {
    /// The bytes as they lay there.
    pub bytes: Vec<u8>,
    /// What they should be.
    pub form: Form,
    /// Where they lay, for errors: a path, a URL.
    pub origin: String,
}

impl Packed {
    /// The same bytes, ready for another store: `chunk` proves that they are good.
    pub fn seal(self, chunk: &Chunk) -> Sealed<'static> {
        Sealed {
            id: chunk.id,
            form: self.form,
            bytes: Cow::Owned(self.bytes),
            len_bytes: chunk.bytes.len() as u64,
        }
    }
}

/// Plain bytes whose digest was not taken yet. Can be pushed into [`digest::Lanes`].
#[derive(Debug)]
pub struct Unverified {
    bytes: Vec<u8>,
    origin: String,
}

impl Unverified {
    /// What a frame held; only unpacking makes one.
    pub(super) fn new(bytes: Vec<u8>, origin: String) -> Self {
        Unverified { bytes, origin }
    }

    /// Takes the digest, and believes the bytes if it is `id`.
    ///
    /// # Errors
    ///
    /// `Damaged`, with the place that they came from.
    pub fn verify(self, id: &ChunkId, algorithm: Algorithm) -> Result<Chunk> {
        let digest = algorithm.digest(&self.bytes);
        self.believe(id, &digest)
    }

    /// Believes the bytes if their digest, taken by the caller from exactly these bytes, is `id`.
    ///
    /// # Errors
    ///
    /// `Damaged`, with the place that they came from.
    pub fn believe(self, id: &ChunkId, digest: &[u8; digest::DIGEST_BYTES]) -> Result<Chunk> {
        if *digest != id.0 {
            let found = ChunkId(*digest);
            let len = self.bytes.len();
            let sentence =
                format!("chunk {id} is damaged: its {len} bytes have the digest {found}");
            return Err(damaged(&self.origin, &sentence));
        }
        Ok(Chunk { id: *id, bytes: self.bytes })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none; no chunk is empty.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl Message for Unverified {
    fn piece(&self, number: usize) -> Option<&[u8]> {
        (number == 0).then_some(&self.bytes)
    }
}

/// The bytes of a chunk, which are what its name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    id: ChunkId,
    bytes: Vec<u8>,
}

impl Chunk {
    /// Its name.
    pub fn id(&self) -> &ChunkId {
        &self.id
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its bytes, to keep.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl Message for Chunk {
    fn piece(&self, number: usize) -> Option<&[u8]> {
        (number == 0).then_some(&self.bytes)
    }
}

/// A chunk that is ready for a store.
#[derive(Debug)]
pub struct Sealed<'a> {
    id: ChunkId,
    form: Form,
    bytes: Cow<'a, [u8]>,
    len_bytes: u64,
}

impl<'a> Sealed<'a> {
    /// Bytes in `form` of the chunk `id`, which has `len_bytes` when it is plain; only packing makes one.
    pub(super) fn new(id: ChunkId, form: Form, bytes: Cow<'a, [u8]>, len_bytes: u64) -> Self {
        Sealed { id, form, bytes, len_bytes }
    }
}

impl Sealed<'_> {
    /// Its name.
    pub fn id(&self) -> &ChunkId {
        &self.id
    }

    /// The form of its bytes.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The bytes that the store keeps.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Length of the plain chunk in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }
}

/// zstd's words for an error code.
pub(super) fn zstd_words(code: zstd_safe::ErrorCode) -> String {
    format!("zstd: {}", zstd_safe::get_error_name(code))
}

pub(super) fn damaged(origin: &str, sentence: &str) -> Error {
    Error::new(ErrorKind::Damaged, format!("{origin}: {sentence}")).at(origin, None)
}
