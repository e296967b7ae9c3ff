//! The map of used blocks as it stands in a partition image, read in pieces.

use image::{Error, ErrorKind, Result};

use super::crc::checksum;
use super::header::MAP_END_V1;
use super::{Header, UsedBlocks, Version};

/// Takes the bytes of the map in pieces, so that it takes only as much memory as there really are bytes.
pub(super) struct MapReader {
    version: Version,
    total: u64,
    bits: Vec<u8>,
    /// What was taken of the map itself, in bytes.
    taken_bytes: u64,
    /// What stands behind it.
    end: Vec<u8>,
}

impl MapReader {
    /// Of the map behind `header`.
    pub(super) fn new(header: &Header) -> Self {
        let (version, total) = (header.version, header.total_blocks);
        MapReader { version, total, bits: Vec::new(), taken_bytes: 0, end: Vec::new() }
    }

    /// How much is still to come, with what checks it, in bytes.
    pub(super) fn left_bytes(&self) -> u64 {
        self.map_left_bytes() + (self.end_bytes() - self.end.len()) as u64
    }

    /// The next bytes, at most as many as are still to come.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let (map, end) = bytes.split_at(self.map_left_bytes().min(bytes.len() as u64) as usize);
        match self.version {
            Version::V2 => self.bits.extend(map),
            Version::V1 => {
                for (at, &byte) in (self.taken_bytes..).zip(map) {
                    if at.is_multiple_of(8) {
                        self.bits.push(0);
                    }
                    // Other values than 0 and 1 have been seen: partclone takes those blocks for unused.
                    if let Some(last) = self.bits.last_mut() {
                        *last |= u8::from(byte == 1) << (at % 8);
                    }
                }
            }
        }
        self.taken_bytes += map.len() as u64;
        self.end.extend(end);
    }

    /// The map, once all of it was taken. What `header` did not tell is set in it.
    ///
    /// # Errors
    ///
    /// `Damaged`.
    pub(super) fn finish(self, header: &mut Header) -> Result<UsedBlocks> {
        let is_right = match self.version {
            Version::V1 => self.end == MAP_END_V1,
            Version::V2 => self.end == checksum(&self.bits).to_le_bytes(),
        };
        if !is_right {
            let sentence = "the map of used blocks is damaged: what should check it is wrong";
            return Err(Error::new(ErrorKind::Damaged, sentence));
        }
        let used = UsedBlocks::new(self.bits, self.total);
        match self.version {
            Version::V1 => header.used_by_bitmap = used.used(),
            Version::V2 if used.used() != header.used_by_bitmap => {
                let sentence = format!(
                    "the map of used blocks is damaged: it has {} of them, and the header says {}",
                    used.used(),
                    header.used_by_bitmap
                );
                return Err(Error::new(ErrorKind::Damaged, sentence));
            }
            Version::V2 => {}
        }
        Ok(used)
    }

    fn map_left_bytes(&self) -> u64 {
        let whole = match self.version {
            Version::V1 => self.total,
            Version::V2 => self.total.div_ceil(8),
        };
        whole - self.taken_bytes
    }

    fn end_bytes(&self) -> usize {
        match self.version {
            Version::V1 => MAP_END_V1.len(),
            Version::V2 => 4,
        }
    }
}
