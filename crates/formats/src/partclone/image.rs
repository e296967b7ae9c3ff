//! A partition image as the image of its partition.

use image::{Error, ErrorKind, Extent, ExtentKind, Image, Medium, Result};

use super::groups::Groups;
use super::header::BEGINNING_BYTES;
use super::map::MapReader;
use super::{Header, UsedBlocks};

/// A partition image as the image of its partition: used blocks are data, all others unspecified.
///
/// What is read has been checked against the checksum of its group, all of which is read for that; groups that were read
/// in part are kept for the next reader, 16 MiB of them. Not checked is an image that has no checksums, and one whose
/// groups are longer than 64 MiB: [`StreamCheck`](super::StreamCheck) does that in one pass. Checksums of version 0001 are
/// of the first byte of each block only.
pub struct PartcloneImage<M> {
    medium: M,
    header: Header,
    used: UsedBlocks,
    groups: Groups,
}

/// The map is read in pieces of this length.
const MAP_PIECE_BYTES: u64 = 1 << 20;

impl<M: Medium> PartcloneImage<M> {
    /// Opens the image whose unpacked stream is `medium`.
    ///
    /// # Errors
    ///
    /// `Damaged` for a header, a bitmap or a length that is wrong; `Unsupported`.
    pub fn open(medium: M) -> Result<Self> {
        let len_bytes = medium.len()?;
        let mut header = read_header(&medium, len_bytes)?;
        let used = read_map(&medium, len_bytes, &mut header)?;
        let groups = Groups::new(&header);
        let expected = groups.len_bytes();
        if len_bytes != expected {
            let stored = header.used_by_bitmap;
            let what = format!("it has {len_bytes} bytes, and its {stored} blocks need {expected}");
            let from = len_bytes.min(expected);
            return Err(damaged(&medium, &what, from..len_bytes.max(expected)));
        }
        Ok(PartcloneImage { medium, header, used, groups })
    }

    /// What it says about itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Which blocks are used.
    pub fn used(&self) -> &UsedBlocks {
        &self.used
    }

    /// The stream.
    pub fn medium(&self) -> &M {
        &self.medium
    }

    /// The end of the last block: what lies behind it on the device is in no image.
    fn blocks_end(&self) -> u64 {
        let blocks = self.header.total_blocks * u64::from(self.header.block_bytes);
        blocks.min(self.header.device_bytes)
    }

    /// The run of equally used bytes at `offset`, and whether they are used.
    fn run_at(&self, offset: u64) -> (std::ops::Range<u64>, bool) {
        if offset >= self.blocks_end() {
            return (offset..self.header.device_bytes, false);
        }
        let block_bytes = u64::from(self.header.block_bytes);
        let (run, is_used) = self.used.run_at(offset / block_bytes);
        (offset..(run.end * block_bytes).min(self.blocks_end()), is_used)
    }
}

impl<M: Medium> Image for PartcloneImage<M> {
    fn size(&self) -> u64 {
        self.header.device_bytes
    }

    /// What is unspecified reads as zeroes.
    fn read_at(&self, mut buf: &mut [u8], mut offset: u64) -> Result<()> {
        let block_bytes = u64::from(self.header.block_bytes);
        while !buf.is_empty() {
            let (run, is_used) = self.run_at(offset);
            let len_bytes = (run.end - run.start).min(buf.len() as u64) as usize;
            let (part, rest) = buf.split_at_mut(len_bytes);
            if is_used {
                let nth = self.used.used_before(offset / block_bytes);
                let at = nth * block_bytes + offset % block_bytes;
                self.groups.read(&self.medium, &self.used, part, at)?;
            } else {
                part.fill(0);
            }
            buf = rest;
            offset += len_bytes as u64;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        let (run, is_used) = self.run_at(offset);
        let kind = if is_used { ExtentKind::Data } else { ExtentKind::Unspecified };
        Ok(Extent::new(run, kind))
    }

    fn block_size_bytes(&self) -> u64 {
        u64::from(self.header.block_bytes)
    }
}

fn read_header(medium: &dyn Medium, len_bytes: u64) -> Result<Header> {
    let mut head = vec![0; len_bytes.min(BEGINNING_BYTES as u64) as usize];
    medium.read_at(&mut head, 0)?;
    let at = |error: Error, end: usize| {
        let name = medium.name();
        error.context(format!("{name} cannot be read")).at(name, Some(0..end as u64))
    };
    let whole = Header::len_at(&head).map_err(|error| at(error, head.len()))?;
    head.resize(len_bytes.min(whole as u64) as usize, 0);
    medium.read_at(&mut head, 0)?;
    Header::decode(&head).map(|(header, _)| header).map_err(|error| at(error, head.len()))
}

fn read_map(medium: &dyn Medium, len_bytes: u64, header: &mut Header) -> Result<UsedBlocks> {
    let mut map = MapReader::new(header);
    let end = header.data_offset();
    let start = end - map.left_bytes();
    if end > len_bytes {
        let what = format!("it ends at {len_bytes}, within its map of used blocks");
        return Err(damaged(medium, &what, len_bytes..end));
    }
    let mut piece = Vec::new();
    while map.left_bytes() > 0 {
        piece.resize(map.left_bytes().min(MAP_PIECE_BYTES) as usize, 0);
        medium.read_at(&mut piece, end - map.left_bytes())?;
        map.feed(&piece);
    }
    map.finish(header).map_err(|error| {
        let name = medium.name();
        error.context(format!("{name} is damaged")).at(name, Some(start..end))
    })
}

/// The error for what is wrong at `range` of the unpacked image.
pub(super) fn damaged(medium: &dyn Medium, what: &str, range: std::ops::Range<u64>) -> Error {
    let name = medium.name();
    Error::new(ErrorKind::Damaged, format!("{name} is damaged: {what}")).at(name, Some(range))
}
