//! Files packed with LZ4, in its frame format (`doc/lz4_Frame_format.md` of its sources).
//!
//! Ours are one frame of blocks that stand alone, one for each segment, and a skippable frame with our [`Table`] behind
//! it. Every `lz4 -d` reads them. The length of the table and a mark stand at the very end, so that it is found from
//! there.
//!
//! [`Table`]: super::Table
//!
//! Files by others: blocks that stand alone (what `lz4` makes unless it is told otherwise) are read where they are, by
//! a table that [`index`](super::index) keeps; of a file with blocks that need each other it keeps the content, packed anew.

mod frame;
mod layout;
mod stream;
mod walk;

use image::{Medium, Result, Task};
use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};

use super::anew::Anew;
use super::tabled::{InOrder, Tabled};
use super::{Entry, Opened, PackedMedium, Packer, Packing, Unpack};

use frame::PLAIN;
use layout::Blocks;
use stream::Stream;

/// How a new file is packed.
#[derive(Clone, Copy, Debug)]
pub struct Lz4Packing;

impl Lz4Packing {
    /// There is one way of packing, the fast one, whatever the `level`.
    pub fn new(_level: Option<i32>) -> Self {
        Lz4Packing
    }
}

/// Shorter than the longest block that the head of our files announces: see [`layout::HEAD`].
const SEGMENT_BYTES: usize = 1 << 20;

impl Packing for Lz4Packing {
    fn segment_bytes(&self) -> usize {
        SEGMENT_BYTES
    }

    fn head(&self) -> Vec<u8> {
        layout::HEAD.to_vec()
    }

    fn packer(&self) -> Box<dyn Packer> {
        Box::new(Lz4Packer { table: CompressTable::large() })
    }

    fn tail(&self, segments: &[Entry]) -> Vec<u8> {
        layout::tail(segments)
    }
}

struct Lz4Packer {
    table: CompressTable,
}

impl Packer for Lz4Packer {
    fn pack(&mut self, segment: &[u8], out: &mut Vec<u8>) -> Result<Entry> {
        let start = out.len();
        out.resize(start + 4 + get_maximum_output_size(segment.len()), 0);
        let block = &mut out[start + 4..];
        let packed = compress_into_with_table(segment, block, &mut self.table);
        let (len, plain) = match packed {
            Ok(len) if len < segment.len() => (len, 0),
            // What does not become shorter stands there as it is.
            _ => {
                block[..segment.len()].copy_from_slice(segment);
                (segment.len(), PLAIN)
            }
        };
        out[start..start + 4].copy_from_slice(&(len as u32 | plain).to_le_bytes());
        out.truncate(start + 4 + len);
        Ok(Entry {
            len_bytes: segment.len() as u32,
            packed_bytes: (out.len() - start) as u32,
            crc32: libdeflater::crc32(segment),
            packed_crc32: libdeflater::crc32(&out[start..]),
        })
    }
}

fn segments(medium: &dyn Medium) -> Result<Option<Tabled<Blocks>>> {
    frame::check_head(medium)?;
    let table = layout::find_table(medium)?;
    Ok(table.map(|table| Tabled::new(table, Blocks::ours())))
}

pub(super) fn open<M: Medium>(medium: M) -> Result<Opened<M>> {
    Ok(match segments(&medium)? {
        Some(segments) => Opened::Indexed(PackedMedium::new(medium, Box::new(segments))),
        None => Opened::Unindexed(medium),
    })
}

pub(super) fn index<M: Medium>(
    medium: M,
    kept: Box<dyn Medium>,
    task: &Task,
) -> Result<PackedMedium<M>> {
    match walk::walk(&medium, task)? {
        Some(blocks) => {
            walk::keep(&blocks, &*kept)?;
            Ok(PackedMedium::new(medium, Box::new(blocks)))
        }
        None => {
            let anew = Anew::make(&medium, unpack, kept, task)?;
            Ok(PackedMedium::new(medium, Box::new(anew)))
        }
    }
}

pub(super) fn open_kept<M: Medium>(medium: M, kept: Box<dyn Medium>) -> Result<PackedMedium<M>> {
    Ok(match walk::open_kept(&medium, &*kept)? {
        Some(blocks) => PackedMedium::new(medium, Box::new(blocks)),
        None => PackedMedium::new(medium, Box::new(Anew::open(unpack, kept)?)),
    })
}

pub(super) fn unpack<'a>(medium: &'a dyn Medium) -> Result<Box<dyn Unpack + 'a>> {
    Ok(match segments(medium)? {
        Some(segments) => Box::new(InOrder::new(medium, segments)),
        None => Box::new(Stream::new(medium)?),
    })
}
