//! Index files (`.caibx`): which chunks, in which order, make a blob.
//!
//! An [`Index`] stays where it lies: opening it checks every item once, in one pass; after that items are read
//! where they are needed. So the index of a disk of any size takes little memory.

mod layout;
mod reader;
mod writer;

pub use reader::{Chunks, Flags, Index};
pub use writer::IndexWriter;

use digest::Algorithm;

use crate::{ChunkId, ChunkSizes};

/// How many first bytes of a file tell whether it looks like an index.
pub const MARK_BYTES: usize = 16;

/// Whether a file that begins with `head` looks like an index. A disk may begin so, too: whoever writes to it
/// decides that.
pub fn looks_like_index(head: &[u8]) -> bool {
    head.len() >= MARK_BYTES
        && layout::word(head, 0) == layout::INDEX_BYTES
        && layout::word(head, 8) == layout::INDEX_TYPE
}

/// What stands in front of the items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The feature flags, which for a blob tell no more than the digest.
    pub flags: u64,
    /// The sizes that the chunks were cut with.
    pub sizes: ChunkSizes,
}

/// What casync is told to leave out of an archive, and notes in the flags of every index, also in that of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excluded {
    /// Files with the attribute `nodump`.
    pub nodump: bool,
    /// What is mounted below.
    pub submounts: bool,
    /// What `.caexclude` files name.
    pub listed: bool,
}

impl Default for Excluded {
    /// casync's default.
    fn default() -> Self {
        Excluded { nodump: true, submounts: false, listed: true }
    }
}

impl Header {
    /// That of a blob, as casync writes it.
    pub fn new(algorithm: Algorithm, sizes: ChunkSizes) -> Self {
        let digest = match algorithm {
            Algorithm::Sha512_256 => layout::FLAG_SHA512_256,
            Algorithm::Sha256 => 0,
        };
        Header { flags: digest, sizes }.excluding(Excluded::default())
    }

    /// The same with other notes of what was left out.
    pub fn excluding(self, excluded: Excluded) -> Self {
        let Excluded { nodump, submounts, listed } = excluded;
        let notes = [
            (nodump, layout::FLAG_NODUMP),
            (submounts, layout::FLAG_SUBMOUNTS),
            (listed, layout::FLAG_LISTED),
        ];
        let flags = notes.iter().fold(self.flags, |flags, &(is_set, bit)| match is_set {
            true => flags | bit,
            false => flags & !bit,
        });
        Header { flags, ..self }
    }

    /// The digest that names the chunks.
    pub fn algorithm(&self) -> Algorithm {
        if self.flags & layout::FLAG_SHA512_256 != 0 {
            Algorithm::Sha512_256
        } else {
            Algorithm::Sha256
        }
    }
}

/// A chunk, and where it stands in the blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its number in the index, from 0.
    pub number: u64,
    /// Where it begins in the blob, in bytes.
    pub offset: u64,
    /// How long it is, in bytes: at least 1, at most the largest size of the index.
    pub len_bytes: u64,
    /// Its name.
    pub id: ChunkId,
}

impl Span {
    /// The offset behind its last byte.
    pub fn end(&self) -> u64 {
        self.offset + self.len_bytes
    }

    /// The bytes of the blob that it covers.
    pub fn range(&self) -> std::ops::Range<u64> {
        self.offset..self.end()
    }
}
