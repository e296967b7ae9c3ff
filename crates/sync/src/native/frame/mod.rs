//! Frames: what is said after the hello, each with its kind and a length that is checked before memory is taken.

mod read;

use std::ops::Range;

use image::{Error, ErrorKind};

use super::Digest;
pub(super) use read::FrameReader;

/// The longest payload, in bytes.
pub(super) const PAYLOAD_MAX_BYTES: usize = 2 << 20;
/// Kind and length.
pub(super) const HEAD_BYTES: usize = 5;
/// The most plain data that one frame carries, in bytes.
pub(super) const DATA_MAX_BYTES: usize = 1 << 20;
/// The most parts that the data of one frame may lie in.
pub(super) const PARTS_MAX: usize = 512;
/// The longest sentence of an error, in bytes.
const SENTENCE_MAX_BYTES: usize = 4 << 10;

/// A BLAKE3 digest, of which the first half is enough: what it misses, the proof at the end finds.
pub(super) type Short = [u8; 16];

/// Whether the bytes of [`Data`] are as they are, or one zstd frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Plain,
    Zstd,
}

/// What is said. The comment is who says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// Both, first.
    Open { role: Role, size_bytes: u64, root: Option<Digest> },
    /// Both, when there was nothing else for a while.
    Alive,
    /// Both: gives up.
    Error { kind: ErrorKind, sentence: String },
    /// The source: a part of the scope, encoded.
    Scope(Vec<u8>),
    /// The source: go.
    Start { is_scoped: bool },
    /// The source: what are the digests of these blocks?
    AskBlocks { id: u32, first: u64, count: u16 },
    /// The source: what are the digests of the pages of these blocks?
    AskPages { id: u32, blocks: Vec<u64> },
    /// The source: this is to stand there.
    Data(Data),
    /// The source: this is to be zero.
    Zero(Range<u64>),
    /// The source: all that the regions below need was said.
    Settled { below: u64 },
    /// The source: all was said.
    Finish { root: Digest, sums: Sums },
    /// The target: digests of the next regions.
    Digests { first: u64, digests: Vec<Digest> },
    /// The target: the next regions are zero.
    Zeroes { first: u64, count: u64 },
    /// The target: the answer to `AskBlocks`.
    Blocks { id: u32, digests: Vec<Short> },
    /// The target: the answer to `AskPages`.
    Pages { id: u32, digests: Vec<Short> },
    /// The target: all is written, proven and durable.
    Done { root: Digest },
}

/// Which end somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Source = 0,
    Target = 1,
}

/// Data of one or more parts, one behind the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Data {
    /// In ascending order, neither empty nor overlapping; at most [`DATA_MAX_BYTES`] together.
    pub(super) parts: Vec<Range<u64>>,
    pub(super) encoding: Encoding,
    payload: Vec<u8>,
    start: usize,
}

/// What a source counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) data_bytes: u64,
    pub(super) packed_bytes: u64,
    pub(super) zeroed_bytes: u64,
    pub(super) compared_bytes: u64,
}

mod kind {
    pub(super) const OPEN: u8 = 0x01;
    pub(super) const ALIVE: u8 = 0x02;
    pub(super) const ERROR: u8 = 0x03;
    pub(super) const SCOPE: u8 = 0x10;
    pub(super) const START: u8 = 0x11;
    pub(super) const ASK_BLOCKS: u8 = 0x12;
    pub(super) const ASK_PAGES: u8 = 0x13;
    pub(super) const DATA: u8 = 0x14;
    pub(super) const ZERO: u8 = 0x15;
    pub(super) const SETTLED: u8 = 0x16;
    pub(super) const FINISH: u8 = 0x17;
    pub(super) const DIGESTS: u8 = 0x20;
    pub(super) const ZEROES: u8 = 0x21;
    pub(super) const BLOCKS: u8 = 0x22;
    pub(super) const PAGES: u8 = 0x23;
    pub(super) const DONE: u8 = 0x24;
}

/// The numbers of error kinds on the wire.
const ERROR_KINDS: [ErrorKind; 12] = [
    ErrorKind::NotFound,
    ErrorKind::Exists,
    ErrorKind::Denied,
    ErrorKind::InUse,
    ErrorKind::TooSmall,
    ErrorKind::Full,
    ErrorKind::Unsupported,
    ErrorKind::Invalid,
    ErrorKind::Damaged,
    ErrorKind::Changed,
    ErrorKind::Io,
    ErrorKind::Cancelled,
];

/// The error for a peer that `did` what it must not.
pub(super) fn breach(did: impl std::fmt::Display) -> Error {
    let sentence = format!("the other end does not keep to the sync protocol: it {did}");
    Error::new(ErrorKind::Damaged, sentence)
}

impl Data {
    /// The bytes, as `encoding` says.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.payload[self.start..]
    }

    /// How many bytes the parts have together.
    pub(super) fn plain_bytes(&self) -> usize {
        // Checked when it was read: far below the limits of either type.
        self.parts.iter().map(|part| (part.end - part.start) as usize).sum()
    }

    /// A frame of `parts`, whose data is `bytes`.
    pub(super) fn frame(parts: &[Range<u64>], encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
        let mut out = Out::new(kind::DATA, 3 + 12 * parts.len() + bytes.len());
        out.put(&[encoding as u8]);
        out.put(&(parts.len() as u16).to_le_bytes());
        for part in parts {
            out.put(&part.start.to_le_bytes());
            out.put(&((part.end - part.start) as u32).to_le_bytes());
        }
        out.put(bytes);
        out.done()
    }
}

impl Frame {
    /// As it goes over the wire.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Frame::Open { role, size_bytes, root } => {
                let mut out = Out::new(kind::OPEN, 42);
                out.put(&[*role as u8]);
                out.put(&size_bytes.to_le_bytes());
                out.put(&[u8::from(root.is_some())]);
                out.put(&root.unwrap_or_default());
                out.done()
            }
            Frame::Alive => Out::new(kind::ALIVE, 0).done(),
            Frame::Error { kind, sentence } => {
                let number = ERROR_KINDS.iter().position(|known| known == kind);
                let mut out = Out::new(kind::ERROR, 1 + sentence.len());
                out.put(&[number.unwrap_or(10) as u8]);
                out.put(&sentence.as_bytes()[..sentence.floor_char_boundary(SENTENCE_MAX_BYTES)]);
                out.done()
            }
            Frame::Scope(bytes) => {
                let mut out = Out::new(kind::SCOPE, bytes.len());
                out.put(bytes);
                out.done()
            }
            Frame::Start { is_scoped } => {
                let mut out = Out::new(kind::START, 1);
                out.put(&[u8::from(*is_scoped)]);
                out.done()
            }
            Frame::AskBlocks { id, first, count } => {
                let mut out = Out::new(kind::ASK_BLOCKS, 14);
                out.put(&id.to_le_bytes());
                out.put(&first.to_le_bytes());
                out.put(&count.to_le_bytes());
                out.done()
            }
            Frame::AskPages { id, blocks } => {
                let mut out = Out::new(kind::ASK_PAGES, 4 + 8 * blocks.len());
                out.put(&id.to_le_bytes());
                blocks.iter().for_each(|block| out.put(&block.to_le_bytes()));
                out.done()
            }
            Frame::Data(data) => Data::frame(&data.parts, data.encoding, data.bytes()),
            Frame::Zero(range) => {
                let mut out = Out::new(kind::ZERO, 16);
                out.put(&range.start.to_le_bytes());
                out.put(&(range.end - range.start).to_le_bytes());
                out.done()
            }
            Frame::Settled { below } => {
                let mut out = Out::new(kind::SETTLED, 8);
                out.put(&below.to_le_bytes());
                out.done()
            }
            Frame::Finish { root, sums } => {
                let mut out = Out::new(kind::FINISH, 64);
                out.put(root);
                out.put(&sums.data_bytes.to_le_bytes());
                out.put(&sums.packed_bytes.to_le_bytes());
                out.put(&sums.zeroed_bytes.to_le_bytes());
                out.put(&sums.compared_bytes.to_le_bytes());
                out.done()
            }
            Frame::Digests { first, digests } => {
                let mut out = Out::new(kind::DIGESTS, 8 + 32 * digests.len());
                out.put(&first.to_le_bytes());
                digests.iter().for_each(|digest| out.put(digest));
                out.done()
            }
            Frame::Zeroes { first, count } => {
                let mut out = Out::new(kind::ZEROES, 16);
                out.put(&first.to_le_bytes());
                out.put(&count.to_le_bytes());
                out.done()
            }
            Frame::Blocks { id, digests } => short_digests(kind::BLOCKS, *id, digests),
            Frame::Pages { id, digests } => short_digests(kind::PAGES, *id, digests),
            Frame::Done { root } => {
                let mut out = Out::new(kind::DONE, 32);
                out.put(root);
                out.done()
            }
        }
    }

    /// Whether frames of that kind say something about an end or the work as a whole.
    pub(super) fn tells_of_the_whole(kind: u8) -> bool {
        matches!(kind, kind::OPEN | kind::ERROR | kind::FINISH | kind::DONE)
    }

    /// Its name in the documentation.
    pub(super) fn name(&self) -> &'static str {
        let kind = match self {
            Frame::Open { .. } => kind::OPEN,
            Frame::Alive => kind::ALIVE,
            Frame::Error { .. } => kind::ERROR,
            Frame::Scope(_) => kind::SCOPE,
            Frame::Start { .. } => kind::START,
            Frame::AskBlocks { .. } => kind::ASK_BLOCKS,
            Frame::AskPages { .. } => kind::ASK_PAGES,
            Frame::Data(_) => kind::DATA,
            Frame::Zero(_) => kind::ZERO,
            Frame::Settled { .. } => kind::SETTLED,
            Frame::Finish { .. } => kind::FINISH,
            Frame::Digests { .. } => kind::DIGESTS,
            Frame::Zeroes { .. } => kind::ZEROES,
            Frame::Blocks { .. } => kind::BLOCKS,
            Frame::Pages { .. } => kind::PAGES,
            Frame::Done { .. } => kind::DONE,
        };
        name_of(kind).unwrap_or("unknown")
    }
}

fn name_of(kind: u8) -> Option<&'static str> {
    Some(match kind {
        kind::OPEN => "OPEN",
        kind::ALIVE => "ALIVE",
        kind::ERROR => "ERROR",
        kind::SCOPE => "SCOPE",
        kind::START => "START",
        kind::ASK_BLOCKS => "ASK_BLOCKS",
        kind::ASK_PAGES => "ASK_PAGES",
        kind::DATA => "DATA",
        kind::ZERO => "ZERO",
        kind::SETTLED => "SETTLED",
        kind::FINISH => "FINISH",
        kind::DIGESTS => "DIGESTS",
        kind::ZEROES => "ZEROES",
        kind::BLOCKS => "BLOCKS",
        kind::PAGES => "PAGES",
        kind::DONE => "DONE",
        _ => return None,
    })
}

fn short_digests(kind: u8, id: u32, digests: &[Short]) -> Vec<u8> {
    let mut out = Out::new(kind, 4 + 16 * digests.len());
    out.put(&id.to_le_bytes());
    digests.iter().for_each(|digest| out.put(digest));
    out.done()
}

/// A frame that is being made.
struct Out(Vec<u8>);

impl Out {
    fn new(kind: u8, len: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + len);
        bytes.extend_from_slice(&[kind, 0, 0, 0, 0]);
        Out(bytes)
    }

    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn done(mut self) -> Vec<u8> {
        let len = self.0.len() - HEAD_BYTES;
        debug_assert!(len <= PAYLOAD_MAX_BYTES, "a frame of {len} bytes");
        self.0[1..HEAD_BYTES].copy_from_slice(&(len as u32).to_le_bytes());
        self.0
    }
}
