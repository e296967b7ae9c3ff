//! Files packed with nothing: the file is its own content.
//!
//! There is no head, no tail and no checksum, so there is nothing that could be found damaged here: what the content is
//! has to know that.

use std::ops::Range;

use image::{Medium, Result, Task};

use super::{Entry, Opened, PackedMedium, Packer, Packing, Segments, Unpack};

const SEGMENT_BYTES: u64 = 1 << 20;

/// Writes it as it is.
#[derive(Clone, Copy, Debug)]
pub struct PlainPacking;

impl Packing for PlainPacking {
    fn segment_bytes(&self) -> usize {
        SEGMENT_BYTES as usize
    }

    fn head(&self) -> Vec<u8> {
        Vec::new()
    }

    fn packer(&self) -> Box<dyn Packer> {
        Box::new(PlainPacker)
    }

    fn tail(&self, _segments: &[Entry]) -> Vec<u8> {
        Vec::new()
    }
}

struct PlainPacker;

impl Packer for PlainPacker {
    fn pack(&mut self, segment: &[u8], out: &mut Vec<u8>) -> Result<Entry> {
        out.extend_from_slice(segment);
        let (len_bytes, crc32) = (segment.len() as u32, libdeflater::crc32(segment));
        Ok(Entry { len_bytes, packed_bytes: len_bytes, crc32, packed_crc32: crc32 })
    }
}

/// Cuts the file where it pleases.
struct PlainSegments {
    len_bytes: u64,
}

impl Segments for PlainSegments {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn find(&self, offset: u64) -> (usize, Range<u64>) {
        let at = offset / SEGMENT_BYTES;
        (at as usize, at * SEGMENT_BYTES..self.len_bytes.min((at + 1) * SEGMENT_BYTES))
    }

    fn is_plain(&self) -> bool {
        true
    }

    fn unpack(&self, file: &dyn Medium, at: usize, out: &mut Vec<u8>) -> Result<()> {
        let (_, range) = self.find(at as u64 * SEGMENT_BYTES);
        out.resize((range.end - range.start) as usize, 0);
        file.read_at(out, range.start)
    }

    fn check_rest(&self, _file: &dyn Medium) -> Result<()> {
        Ok(())
    }
}

pub(super) fn open<M: Medium>(medium: M) -> Result<Opened<M>> {
    Ok(Opened::Indexed(opened(medium)?))
}

/// There is nothing to keep.
pub(super) fn index<M: Medium>(
    medium: M,
    _kept: Box<dyn Medium>,
    _task: &Task,
) -> Result<PackedMedium<M>> {
    opened(medium)
}

pub(super) fn open_kept<M: Medium>(medium: M, _kept: Box<dyn Medium>) -> Result<PackedMedium<M>> {
    opened(medium)
}

fn opened<M: Medium>(medium: M) -> Result<PackedMedium<M>> {
    let len_bytes = medium.len()?;
    Ok(PackedMedium::new(medium, Box::new(PlainSegments { len_bytes })))
}

pub(super) fn unpack<'a>(medium: &'a dyn Medium) -> Result<Box<dyn Unpack + 'a>> {
    Ok(Box::new(PlainUnpack { medium, position: 0, len_bytes: medium.len()? }))
}

struct PlainUnpack<'a> {
    medium: &'a dyn Medium,
    position: u64,
    len_bytes: u64,
}

impl Unpack for PlainUnpack<'_> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let len = (self.len_bytes - self.position).min(buf.len() as u64) as usize;
        self.medium.read_at(&mut buf[..len], self.position)?;
        self.position += len as u64;
        Ok(len)
    }

    fn packed_position(&self) -> u64 {
        self.position
    }
}
