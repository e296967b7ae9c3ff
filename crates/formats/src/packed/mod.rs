//! Compressed files that can be read at any place: what a partition image is packed in.
//!
//! A file is a head, segments that were packed each by itself, and a tail with a table of them. Every tool reads it as
//! an ordinary `.gz`, `.zst` or `.lz4`; who knows the table reads any part of it without the rest, and on all cores.
//! A file by another tool has no table: [`open`] says so, and [`index`] makes one in a single pass, to be kept.

mod anew;
pub mod gz;
pub mod lz4;
mod medium;
pub mod plain;
mod table;
mod tabled;
pub mod zst;

use image::{Medium, Result, Task};

pub use medium::{PackedMedium, Segments};
pub use table::{Entry, Table};

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// gzip (RFC 1952).
    Gz,
    /// Not at all.
    Uncompressed,
    /// Zstandard (RFC 8878).
    Zst,
    /// The frame format of LZ4.
    Lz4,
}

impl Compression {
    /// All of them, in the order in which people are offered them.
    pub const ALL: [Compression; 4] =
        [Compression::Gz, Compression::Uncompressed, Compression::Zst, Compression::Lz4];

    /// Its name: the ending of file names.
    pub fn name(self) -> &'static str {
        match self {
            Compression::Gz => "gz",
            Compression::Uncompressed => "uncompressed",
            Compression::Zst => "zst",
            Compression::Lz4 => "lz4",
        }
    }

    /// The one of that name; `zstd` is an old name of `zst`.
    pub fn by_name(name: &str) -> Option<Self> {
        let name = if name == "zstd" { "zst" } else { name };
        Compression::ALL.into_iter().find(|compression| compression.name() == name)
    }

    /// The one that a file has by its first four bytes; `None` where they are nobody's mark.
    pub fn by_mark(head: &[u8]) -> Option<Self> {
        match head {
            [0x1f, 0x8b, ..] => Some(Compression::Gz),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Compression::Zst),
            [0x04, 0x22, 0x4d, 0x18, ..] => Some(Compression::Lz4),
            _ => None,
        }
    }

    /// How a new file is packed; `level` as its tool counts them, or our default.
    pub fn packing(self, level: Option<i32>) -> Box<dyn Packing> {
        match self {
            Compression::Gz => Box::new(gz::GzPacking::new(level)),
            Compression::Uncompressed => Box::new(plain::PlainPacking),
            Compression::Zst => Box::new(zst::ZstPacking::new(level)),
            Compression::Lz4 => Box::new(lz4::Lz4Packing::new(level)),
        }
    }
}

/// How a new file is packed: head, segments in their order, tail.
pub trait Packing: Send + Sync {
    /// How much is best packed as one segment, in bytes. Every segment but the last should have about this length.
    fn segment_bytes(&self) -> usize;

    /// What stands before the first segment.
    fn head(&self) -> Vec<u8>;

    /// What packs segments: one for each thread.
    fn packer(&self) -> Box<dyn Packer>;

    /// What stands after the last segment. `segments` are all of them, in order.
    fn tail(&self, segments: &[Entry]) -> Vec<u8>;
}

/// Packs one segment after the other, in any order.
pub trait Packer: Send {
    /// Appends `segment`, packed, to `out`, and says what a table needs to know of it. `segment` is not empty.
    fn pack(&mut self, segment: &[u8], out: &mut Vec<u8>) -> Result<Entry>;
}

/// What [`open`] found.
pub enum Opened<M: Medium> {
    /// It can be read at any place.
    Indexed(PackedMedium<M>),
    /// It is from another tool, and has no table.
    Unindexed(M),
}

/// Opens a compressed file. The file's own table is believed only as far as it is consistent: see [`Table`].
///
/// # Errors
///
/// `Damaged` for a head that is none, and for a table that is there but wrong.
pub fn open<M: Medium>(medium: M, compression: Compression) -> Result<Opened<M>> {
    match compression {
        Compression::Gz => gz::open(medium),
        Compression::Uncompressed => plain::open(medium),
        Compression::Zst => zst::open(medium),
        Compression::Lz4 => lz4::open(medium),
    }
}

/// Reads the whole of a file without a table once, and writes to `kept` what makes it readable at any place: [`open_kept`]
/// reads that again. Every byte of the file is checked on the way.
///
/// # Errors
///
/// `Damaged`, with the position; those of the two media.
pub fn index<M: Medium>(
    medium: M,
    compression: Compression,
    kept: Box<dyn Medium>,
    task: &Task,
) -> Result<PackedMedium<M>> {
    match compression {
        Compression::Gz => gz::index(medium, kept, task),
        Compression::Uncompressed => plain::index(medium, kept, task),
        Compression::Zst => zst::index(medium, kept, task),
        Compression::Lz4 => lz4::index(medium, kept, task),
    }
}

/// Opens a file by what [`index`] has kept of it. That it is the same file is for the caller to know.
///
/// # Errors
///
/// `Damaged` where `kept` is not whole.
pub fn open_kept<M: Medium>(
    medium: M,
    compression: Compression,
    kept: Box<dyn Medium>,
) -> Result<PackedMedium<M>> {
    match compression {
        Compression::Gz => gz::open_kept(medium, kept),
        Compression::Uncompressed => plain::open_kept(medium, kept),
        Compression::Zst => zst::open_kept(medium, kept),
        Compression::Lz4 => lz4::open_kept(medium, kept),
    }
}

/// Reads a compressed file from front to back, whoever made it, in one pass. What it gives has been checked as far as
/// the compression has checksums; a file that ends early, or goes on after its end, is an error, never an end.
pub trait Unpack: Send {
    /// Fills `buf` from the front and says how much; less than its length only at the end.
    ///
    /// # Errors
    ///
    /// `Damaged`, with the position in the packed file.
    fn read(&mut self, buf: &mut [u8]) -> Result<usize>;

    /// How much of the packed file has been read, in bytes.
    fn packed_position(&self) -> u64;
}

/// A reader of the whole file, from front to back.
///
/// # Errors
///
/// `Damaged` for a head that is none.
pub fn unpack<'a>(
    medium: &'a dyn Medium,
    compression: Compression,
) -> Result<Box<dyn Unpack + 'a>> {
    match compression {
        Compression::Gz => gz::unpack(medium),
        Compression::Uncompressed => plain::unpack(medium),
        Compression::Zst => zst::unpack(medium),
        Compression::Lz4 => lz4::unpack(medium),
    }
}
