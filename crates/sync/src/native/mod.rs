//! The native protocol: a BLAKE3 tree of two levels and a half, everything pipelined, a proof at the end.
//!
//! `docs/sync-protocol.md` says what goes over the wire. Each end has one thread that writes to it, one that reads, and
//! others that work on the image (`source/`, `target/`); `link` is what they all share.
//!
//! **No deadlock.** Who waits for whom: a source's worker for room on its way to the wire, that for the wire, that for the
//! target's reader, that for room on the target's desk, that for a target's worker, and that for the disk alone, since
//! its answers go into a queue that never waits (the target's reader refuses questions where it grows too long). A
//! source's reader waits for nothing, so the target's writing thread comes to an end as well. No chain has a ring.
//!
//! **No race.** A target takes the digest of a region before it tells it, refuses writes to what it did not tell, and
//! takes every region again that was written before it says that it holds it. A source sends nothing about a block while
//! a question about it is open.

mod book;
mod content;
mod cut;
mod frame;
mod hello;
mod link;
mod overhear;
mod row;
mod shape;
mod source;
mod target;

use std::io::Write as _;

use image::ranges::RangeSet;
use image::{Error, Image, Result, Task};

use crate::{Target, Wire};
pub use book::{Book, NoBook};
pub use cut::root_of;
use frame::Frame;
use hello::Hello;
pub use overhear::{Heard, Overhear};
pub use shape::{BLOCK_BYTES, Digest, PAGE_BYTES, Shape};

/// The first bytes that each end sends.
pub const MAGIC: [u8; 8] = *b"BLKPSYNC";

/// The oldest and the newest version of the protocol that is spoken here.
pub const VERSIONS: std::ops::RangeInclusive<u16> = 1..=1;

/// The largest image that is synced, in bytes: 1 PiB.
pub const SIZE_MAX_BYTES: u64 = 1 << 50;

/// The most blocks that one question is about.
const QUESTION_BLOCKS: u64 = 64;

/// What a source end sends, and how.
pub struct Source<'a> {
    /// What is sent.
    pub image: &'a dyn Image,
    /// Only this may differ; the rest is taken to be what the target has already. All of it if there is none.
    pub scope: Option<&'a RangeSet>,
    /// What the target is to hold before the sync, where that is known: its root digest.
    pub expected: Option<Digest>,
    /// Digests that are known.
    pub book: &'a dyn Book,
    /// Whether data is compressed.
    pub compress: bool,
    /// Whether nothing is written, only counted.
    pub dry_run: bool,
    /// How many threads read, take digests and compress.
    pub threads: usize,
    /// Asked before the work is called done: an error if the image was written to meanwhile.
    pub unchanged: &'a (dyn Fn() -> Result<()> + Sync),
}

/// How a target end works.
pub struct How<'a> {
    /// Digests that are known.
    pub book: &'a dyn Book,
    /// Whether the other end should compress.
    pub compress: bool,
    /// Whether nothing is written, only counted.
    pub dry_run: bool,
    /// How many threads read, take digests and write.
    pub threads: usize,
}

/// What was done, as either end knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Size of the source in bytes.
    pub source_bytes: u64,
    /// Size that the target had, in bytes.
    pub target_bytes: u64,
    /// Bytes that were compared: all, or the scope.
    pub compared_bytes: u64,
    /// Of those, bytes whose digests this end knew without reading them.
    pub known_bytes: u64,
    /// Bytes of data that differed and were sent (in a dry run: would be), before compression.
    pub data_bytes: u64,
    /// The same after compression.
    pub packed_bytes: u64,
    /// Bytes that were made zero without being sent.
    pub zeroed_bytes: u64,
    /// The digest of all that was compared, which both ends found alike; none in a dry run.
    pub root: Option<Digest>,
}

/// The source end.
///
/// # Errors
///
/// What the other end said, if it said something; `Changed` if the source was written to meanwhile, or the target holds
/// another thing in the end; `Damaged` for a peer that does not keep to the protocol.
pub fn source(what: &Source<'_>, wire: Wire<'_>, task: &Task) -> Result<Report> {
    source::run(what, wire, task)
}

/// The target end.
///
/// # Errors
///
/// As [`source`].
pub fn target(
    target: &mut dyn Target,
    how: &How<'_>,
    wire: Wire<'_>,
    task: &Task,
) -> Result<Report> {
    target::run(target, how, wire, task)
}

/// Tells the other end why there is no source or target here.
pub fn refuse(wire: Wire<'_>, error: &Error) -> Result<()> {
    let Wire { mut output, .. } = wire;
    let words = Frame::Error { kind: error.kind(), sentence: error.full_sentence() };
    let mut bytes = Hello::of(true, false).to_bytes().to_vec();
    bytes.extend_from_slice(&words.to_bytes());
    output
        .write_all(&bytes)
        .and_then(|()| output.flush())
        .map_err(|cause| Error::io("cannot tell the other end why there is no sync", cause))
}
