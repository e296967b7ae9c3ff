//! Files packed with Zstandard (RFC 8878).
//!
//! Ours begin with an empty frame and a skippable frame with a mark; then comes one frame for each segment, with the
//! length and the checksum of its content; behind them stand a skippable frame with our [`Table`], and last the seek
//! table of Zstandard's own seekable format (`contrib/seekable_format` of its sources). So every `zstd -d` reads them,
//! every reader of the seekable format reads any part of them, and no byte of them changes unseen.
//!
//! Files by others are read at any place by their seek table, or frame by frame where all frames are small and say how
//! long their content is. Within a frame there is no place to start from: of a file with long ones [`index`](super::index) keeps the
//! content, packed anew.

mod frames;
mod layout;
mod stream;

use std::sync::{Mutex, PoisonError};

use image::{Error, ErrorKind, Medium, Result, Task};
use zstd_safe::{CCtx, CParameter, DCtx};

use super::anew::Anew;
use super::tabled::{Codec, InOrder, Tabled, check_around};
use super::{Entry, Opened, PackedMedium, Packer, Packing, Table, Unpack};

use frames::Frames;
use stream::Stream;

/// How a new file is packed.
#[derive(Clone, Copy, Debug)]
pub struct ZstPacking {
    level: i32,
}

impl ZstPacking {
    /// As `zstd` does at `level`; at its own, 3, if none is given.
    pub fn new(level: Option<i32>) -> Self {
        ZstPacking { level: level.unwrap_or(3) }
    }
}

impl Packing for ZstPacking {
    fn segment_bytes(&self) -> usize {
        SEGMENT_BYTES
    }

    fn head(&self) -> Vec<u8> {
        layout::HEAD.to_vec()
    }

    fn packer(&self) -> Box<dyn Packer> {
        Box::new(ZstPacker {
            context: CCtx::create(),
            level: self.level,
            is_ready: false,
            packed: Vec::new(),
        })
    }

    fn tail(&self, segments: &[Entry]) -> Vec<u8> {
        layout::tail(segments)
    }
}

/// The shortest that packs a file of programs and libraries no worse than `zstd -3` packs it as one frame: half of it
/// takes as much, a quarter 1 % more.
const SEGMENT_BYTES: usize = 4 << 20;

struct ZstPacker {
    context: CCtx<'static>,
    level: i32,
    is_ready: bool,
    packed: Vec<u8>,
}

impl ZstPacker {
    fn pack_frame(&mut self, segment: &[u8]) -> Result<usize, zstd_safe::ErrorCode> {
        if !self.is_ready {
            let parameters = [
                CParameter::CompressionLevel(self.level),
                CParameter::ChecksumFlag(true),
                CParameter::ContentSizeFlag(true),
            ];
            for parameter in parameters {
                self.context.set_parameter(parameter)?;
            }
            self.is_ready = true;
        }
        self.packed.clear();
        self.packed.reserve(zstd_safe::compress_bound(segment.len()));
        self.context.compress2(&mut self.packed, segment)
    }
}

impl Packer for ZstPacker {
    fn pack(&mut self, segment: &[u8], out: &mut Vec<u8>) -> Result<Entry> {
        self.pack_frame(segment).map_err(|code| {
            let why = zstd_safe::get_error_name(code);
            let sentence = format!("cannot pack {} bytes with zstd: {why}", segment.len());
            Error::new(ErrorKind::Io, sentence)
        })?;
        out.extend_from_slice(&self.packed);
        Ok(Entry {
            len_bytes: segment.len() as u32,
            packed_bytes: self.packed.len() as u32,
            crc32: libdeflater::crc32(segment),
            packed_crc32: libdeflater::crc32(&self.packed),
        })
    }
}

/// Unpacks whole frames; keeps as many contexts as there were readers at once.
#[derive(Default)]
pub(super) struct ZstCodec {
    contexts: Mutex<Vec<DCtx<'static>>>,
}

impl Codec for ZstCodec {
    fn unpack(&self, packed: &[u8], out: &mut [u8]) -> Result<(), String> {
        let spare = self.contexts.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut context = spare.unwrap_or_else(DCtx::create);
        let unpacked = context.decompress(&mut out[..], packed);
        self.contexts.lock().unwrap_or_else(PoisonError::into_inner).push(context);
        match unpacked {
            Ok(len) if len == out.len() => Ok(()),
            Ok(len) => Err(format!("its content has {len} bytes instead of {}", out.len())),
            Err(code) => Err(format!("zstd: {}", zstd_safe::get_error_name(code))),
        }
    }

    fn check_rest(&self, file: &dyn Medium, table: &Table) -> Result<()> {
        check_around(file, table, &ZstPacking::new(None))
    }
}

/// The segments of one of our files; `None` for another's.
pub(super) fn segments(medium: &dyn Medium) -> Result<Option<Tabled<ZstCodec>>> {
    let table = layout::find_table(medium)?;
    Ok(table.map(|table| Tabled::new(table, ZstCodec::default())))
}

pub(super) fn open<M: Medium>(medium: M) -> Result<Opened<M>> {
    layout::check_head(&medium)?;
    if let Some(segments) = segments(&medium)? {
        return Ok(Opened::Indexed(PackedMedium::new(medium, Box::new(segments))));
    }
    Ok(match Frames::find(&medium)? {
        Some(frames) => Opened::Indexed(PackedMedium::new(medium, Box::new(frames))),
        None => Opened::Unindexed(medium),
    })
}

/// What is kept is the whole content, packed anew as one of our files.
pub(super) fn index<M: Medium>(
    medium: M,
    kept: Box<dyn Medium>,
    task: &Task,
) -> Result<PackedMedium<M>> {
    let anew = Anew::make(&medium, unpack, kept, task)?;
    Ok(PackedMedium::new(medium, Box::new(anew)))
}

pub(super) fn open_kept<M: Medium>(medium: M, kept: Box<dyn Medium>) -> Result<PackedMedium<M>> {
    let anew = Anew::open(unpack, kept)?;
    Ok(PackedMedium::new(medium, Box::new(anew)))
}

pub(super) fn unpack<'a>(medium: &'a dyn Medium) -> Result<Box<dyn Unpack + 'a>> {
    layout::check_head(medium)?;
    Ok(match segments(medium)? {
        Some(segments) => Box::new(InOrder::new(medium, segments)),
        None => Box::new(Stream::new(medium)?),
    })
}
