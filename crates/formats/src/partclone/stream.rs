//! The bytes of a partition image, made of a filesystem's blocks: any part of it, by any thread.

use std::ops::Range;

use image::{Error, ErrorKind, Image, Result};

use super::crc::{CHECKSUM_BYTES, checksum};
use super::layout::Layout;
use super::{Checksums, Header, UsedBlocks, Version};

/// The bytes of a partition image of version 2, as `partclone -c` would write them. They are made when they are asked
/// for, so that many threads can make different parts at once.
#[derive(Clone, Debug)]
pub struct Stream {
    header: Header,
    used: UsedBlocks,
    layout: Layout,
}

/// Partclone puts a checksum behind so many bytes of blocks.
const GROUP_BYTES: u32 = 1 << 20;

impl Stream {
    /// The stream of a filesystem with that header and those used blocks, with a CRC-32 behind each MiB of stored
    /// blocks, begun anew each time. `used_by_bitmap` and `checksums` of `header` are set accordingly.
    pub fn new(header: Header, used: UsedBlocks) -> Self {
        let blocks = (GROUP_BYTES / header.block_bytes.max(1)).max(1);
        let header = Header {
            version: Version::V2,
            used_by_bitmap: used.used(),
            total_blocks: used.total(),
            checksums: Checksums::Crc32 { blocks, reseed: true },
            ..header
        };
        let layout = Layout::new(&header);
        Stream { header, used, layout }
    }

    /// Its header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Which blocks it stores.
    pub fn used(&self) -> &UsedBlocks {
        &self.used
    }

    /// Length of the whole stream in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.layout.len_bytes()
    }

    /// Cuts the stream into parts of about `wish_bytes`, in order and without gaps, none of which parts a block from
    /// the checksum behind it: the first part is the header with the bitmap.
    pub fn parts(&self, wish_bytes: usize) -> Vec<Range<u64>> {
        let group = self.layout.group(0);
        let step = (wish_bytes as u64 / (group.end - group.start).max(1)).max(1);
        let groups = self.layout.groups();
        let data = (0..groups).step_by(step as usize).map(|first| {
            let end = groups.min(first + step);
            self.layout.group(first).start..self.layout.group(end).start
        });
        std::iter::once(0..self.layout.data_offset).chain(data).collect()
    }

    /// Replaces `out` by the bytes of one of the [`parts`](Stream::parts), read from `source`, the image of the device. Of
    /// `source` only used blocks are read, neighbours in one call.
    ///
    /// # Errors
    ///
    /// Those of `source`; `Damaged` if that is too small for a used block.
    pub fn fill(&self, source: &dyn Image, part: Range<u64>, out: &mut Vec<u8>) -> Result<()> {
        if part.start < self.layout.data_offset {
            out.clear();
            out.extend(self.header.encode());
            let map = self.used.map();
            out.extend(&map);
            out.extend(checksum(&map).to_le_bytes());
            return Ok(());
        }
        // What was there before is overwritten: memory that is used again is not cleared.
        out.resize((part.end - part.start) as usize, 0);
        let groups = self.layout.group_at(part.start)..self.layout.group_at(part.end);
        for group in groups {
            let range = self.layout.group(group);
            let (from, to) = (range.start - part.start, range.end - part.start);
            let (blocks, check) =
                out[from as usize..to as usize].split_at_mut((to - from - CHECKSUM_BYTES) as usize);
            self.read_group(source, group, blocks)?;
            check.copy_from_slice(&checksum(blocks).to_le_bytes());
        }
        Ok(())
    }

    /// Fills `out` with the blocks of `group`.
    fn read_group(&self, source: &dyn Image, group: u64, mut out: &mut [u8]) -> Result<()> {
        let block_bytes = u64::from(self.header.block_bytes);
        let first = self.layout.blocks(group).start;
        let mut next = self.used.nth_used(first).unwrap_or(self.used.total());
        while !out.is_empty() {
            let (run, is_used) = self.used.run_at(next);
            next = run.end;
            if !is_used {
                continue;
            }
            let len_bytes = ((run.end - run.start) * block_bytes).min(out.len() as u64);
            let (part, rest) = out.split_at_mut(len_bytes as usize);
            let offset = run.start * block_bytes;
            if offset + len_bytes > source.size() {
                let sentence = format!(
                    "the filesystem uses blocks up to {}, and its device ends at {}: the map of used blocks is not of this device",
                    offset + len_bytes,
                    source.size()
                );
                return Err(Error::new(ErrorKind::Damaged, sentence));
            }
            source.read_at(part, offset)?;
            out = rest;
        }
        Ok(())
    }
}
