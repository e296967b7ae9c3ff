//! diskrsync's protocol `BSNC0002`, both ends, byte for byte.
//!
//! Each end sends a header with the size of its image and takes the digests of a tree over the size that both have in
//! common ([`Shape`]). Then the target sends the digests of the nodes, the root first and each node before its
//! children, and the source answers each with one byte: equal, another, or a leaf of zeroes. Behind a leaf that is
//! another comes its data. What the source has beyond the common size follows as blocks and lengths of zeroes, up to
//! the end of the stream.
//!
//! Wire format: diskrsync 1.3.0; [docs/diskrsync.md](../../../../docs/diskrsync.md) says where it leaves a choice, and
//! what is refused here that diskrsync takes.

mod header;
mod holes;
mod incoming;
mod outgoing;
mod patch;
mod shape;
mod source;
mod target;
mod tree;

use image::Result;

pub use header::MAGIC;
pub use shape::{Node, Shape};
pub use source::source;
pub use target::target;

/// How an end works.
pub struct How<'a> {
    /// How many threads take digests.
    pub threads: usize,
    /// Asked by a source before it calls the work done: an error if the image was written to meanwhile.
    pub unchanged: &'a (dyn Fn() -> Result<()> + Sync),
}

/// What an end did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Size of the source in bytes.
    pub source_bytes: u64,
    /// Size that the target had, in bytes.
    pub target_bytes: u64,
    /// Bytes that were compared by their digests.
    pub compared_bytes: u64,
    /// Bytes of data that were sent, or came.
    pub data_bytes: u64,
    /// Bytes that were made zero without being sent.
    pub zeroed_bytes: u64,
}

/// What the source answers to the digest of a node.
mod reply {
    /// A leaf that differs and is all zero in the source. No data follows.
    pub(super) const HOLE: u8 = 0;
    /// The digests are equal, and so is everything below.
    pub(super) const EQUAL: u8 = 2;
    /// The digests differ: the first child is next, or the data of the leaf follows.
    pub(super) const DIFFERENT: u8 = 3;
}

/// What stands behind the common size.
mod tail {
    /// A length follows, eight bytes, signed: so many zeroes.
    pub(super) const HOLE: u8 = 0;
    /// A chunk of data follows.
    pub(super) const BLOCK: u8 = 1;
    /// Length of a chunk in bytes, counted from the common size on; only the last may be shorter.
    pub(super) const CHUNK_BYTES: u64 = 131_072;
}

/// What people call the ends.
const SOURCE: &str = "the source";
const TARGET: &str = "the target";
