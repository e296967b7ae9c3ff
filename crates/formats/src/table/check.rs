//! Reading sectors of a disk, and the rules that hold for the partitions of every table.

use std::ops::Range;

use image::{Error, ErrorKind, Medium, Result};

/// Reads a disk by sectors.
pub(super) struct Reader<'a> {
    medium: &'a dyn Medium,
    pub(super) disk_sectors: u64,
    pub(super) sector_bytes: u32,
}

/// What lies on a disk, in sectors, and what to call it.
pub(super) struct Area {
    pub(super) sectors: Range<u64>,
    pub(super) name: String,
}

impl<'a> Reader<'a> {
    pub(super) fn new(medium: &'a dyn Medium, sector_bytes: u32) -> Result<Self> {
        let disk_sectors = medium.len()? / u64::from(sector_bytes);
        Ok(Reader { medium, disk_sectors, sector_bytes })
    }

    pub(super) fn name(&self) -> &str {
        self.medium.name()
    }

    /// `count` sectors from `first` on. Whoever asks has checked both against the disk.
    pub(super) fn sectors(&self, first: u64, count: u64) -> Result<Vec<u8>> {
        let sector_bytes = u64::from(self.sector_bytes);
        let mut bytes = vec![0; (count * sector_bytes) as usize];
        self.medium.read_at(&mut bytes, first * sector_bytes)?;
        Ok(bytes)
    }

    /// The table is wrong in `sectors`, for a reason that completes the sentence.
    pub(super) fn refuse(&self, kind: ErrorKind, sectors: Range<u64>, reason: &str) -> Error {
        let sector_bytes = u64::from(self.sector_bytes);
        let range =
            sectors.start.saturating_mul(sector_bytes)..sectors.end.saturating_mul(sector_bytes);
        let sentence = format!("the partition table of {} cannot be used: {reason}", self.name());
        Error::new(kind, sentence).at(self.name(), Some(range))
    }

    /// No two of `areas` have a sector in common.
    pub(super) fn check_apart(&self, mut areas: Vec<Area>) -> Result<()> {
        areas.sort_by_key(|area| area.sectors.start);
        for pair in areas.windows(2) {
            if pair[1].sectors.start < pair[0].sectors.end {
                let reason = format!("{} and {} overlap", pair[0].name, pair[1].name);
                return Err(self.refuse(ErrorKind::Damaged, pair[1].sectors.clone(), &reason));
            }
        }
        Ok(())
    }
}

/// Little-endian numbers of a record. Whoever asks knows that the record is long enough.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

pub(super) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}
