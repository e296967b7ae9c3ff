//! Files packed with gzip (RFC 1952).
//!
//! Ours have the whole content in their first member, so that every reader gets all of it. Each of its segments begins
//! and ends with a byte and looks back at nothing before it. Behind it stand members of nothing with our [`Table`] in
//! the extra fields of their headers, and one that says where these begin. So `gzip`, `pigz` and all others read them,
//! and no byte of them changes unseen.
//!
//! Of files by others [`index`](super::index) keeps places to start from, about every 4 MiB of content.
//!
//! [`Table`]: super::Table

mod crc;
mod deflate;
mod inflate;
mod layout;
mod members;
mod points;

use std::sync::{Mutex, PoisonError};

use flate2::{Compress, FlushCompress};
use image::{Error, ErrorKind, Medium, Result, Task};
use libdeflater::{DecompressionError, Decompressor};

use super::tabled::{Codec, InOrder, Tabled, check_around};
use super::{Entry, Opened, PackedMedium, Packer, Packing, Table, Unpack};

use deflate::Deflater;
use members::Members;
use points::Points;

/// How a new file is packed.
#[derive(Clone, Copy, Debug)]
pub struct GzPacking {
    level: i32,
}

impl GzPacking {
    /// Level 1, a compressor of our own, if none is given. From 2 to 9 it is zlib's, which takes longer.
    pub fn new(level: Option<i32>) -> Self {
        GzPacking { level: level.unwrap_or(1).clamp(1, 9) }
    }
}

/// Of 1 MiB a file would be a thousandth shorter; but who reads a MiB anywhere would unpack two, not one and a half.
const SEGMENT_BYTES: usize = 512 << 10;

impl Packing for GzPacking {
    fn segment_bytes(&self) -> usize {
        SEGMENT_BYTES
    }

    fn head(&self) -> Vec<u8> {
        layout::HEAD.to_vec()
    }

    fn packer(&self) -> Box<dyn Packer> {
        Box::new(match self.level {
            1 => GzPacker::Fast(Box::new(Deflater::new())),
            level => {
                let level = flate2::Compression::new(level.unsigned_abs());
                GzPacker::Thorough(Compress::new(level, false))
            }
        })
    }

    fn tail(&self, segments: &[Entry]) -> Vec<u8> {
        layout::tail(segments)
    }
}

enum GzPacker {
    Fast(Box<Deflater>),
    Thorough(Compress),
}

impl Packer for GzPacker {
    fn pack(&mut self, segment: &[u8], out: &mut Vec<u8>) -> Result<Entry> {
        let start = out.len();
        match self {
            GzPacker::Fast(deflater) => deflater.append(segment, out),
            GzPacker::Thorough(compress) => append(compress, segment, out).map_err(|cause| {
                let sentence = format!("cannot pack {} bytes with zlib", segment.len());
                Error::new(ErrorKind::Io, sentence).because(cause)
            })?,
        }
        let packed = &out[start..];
        Ok(Entry {
            len_bytes: segment.len() as u32,
            packed_bytes: packed.len() as u32,
            crc32: libdeflater::crc32(segment),
            packed_crc32: libdeflater::crc32(packed),
        })
    }
}

/// Appends `segment` as zlib packs it: as [`Deflater::append`] does.
fn append(
    compress: &mut Compress,
    segment: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), flate2::CompressError> {
    compress.reset();
    loop {
        let read = compress.total_in() as usize;
        out.reserve((segment.len() - read) / 2 + 4096);
        compress.compress_vec(&segment[read..], out, FlushCompress::Full)?;
        // What had space left has written all it had.
        if out.len() < out.capacity() {
            return Ok(());
        }
    }
}

/// Unpacks segments; keeps as many tools as there were readers at once.
#[derive(Default)]
struct GzCodec {
    tools: Mutex<Vec<(Decompressor, Vec<u8>)>>,
}

impl Codec for GzCodec {
    fn unpack(&self, packed: &[u8], out: &mut [u8]) -> Result<(), String> {
        let spare = self.tools.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let (mut inflate, mut whole) = spare.unwrap_or_else(|| (Decompressor::new(), Vec::new()));
        // A segment has no last block, which the library wants.
        whole.clear();
        whole.extend_from_slice(packed);
        whole.extend(layout::LAST_BLOCK);
        let unpacked = inflate.deflate_decompress(&whole, out);
        self.tools.lock().unwrap_or_else(PoisonError::into_inner).push((inflate, whole));
        match unpacked {
            Ok(len) if len == out.len() => Ok(()),
            Ok(len) => Err(format!("its content has {len} bytes instead of {}", out.len())),
            Err(DecompressionError::InsufficientSpace) => {
                Err(format!("its content has more than {} bytes", out.len()))
            }
            Err(DecompressionError::BadData) => Err("it is no deflated data".to_string()),
        }
    }

    fn check_rest(&self, file: &dyn Medium, table: &Table) -> Result<()> {
        check_around(file, table, &GzPacking::new(None))
    }
}

/// The segments of one of our files; `None` for another's.
fn segments(medium: &dyn Medium) -> Result<Option<Tabled<GzCodec>>> {
    let table = layout::find_table(medium)?;
    Ok(table.map(|table| Tabled::new(table, GzCodec::default())))
}

pub(super) fn open<M: Medium>(medium: M) -> Result<Opened<M>> {
    layout::check_head(&medium)?;
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
    points::keep(&medium, &*kept, task)?;
    open_kept(medium, kept)
}

pub(super) fn open_kept<M: Medium>(medium: M, kept: Box<dyn Medium>) -> Result<PackedMedium<M>> {
    let points = Points::open(kept)?;
    Ok(PackedMedium::new(medium, Box::new(points)))
}

pub(super) fn unpack<'a>(medium: &'a dyn Medium) -> Result<Box<dyn Unpack + 'a>> {
    layout::check_head(medium)?;
    Ok(match segments(medium)? {
        Some(segments) => Box::new(InOrder::new(medium, segments)),
        None => Box::new(Members::new(medium)?),
    })
}
