//! Stored blocks, read and checked in groups, of which the last few are kept.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use image::{Medium, Result};

use super::check::wrong_checksum;
use super::crc::{CHECKSUM_BYTES, Running, START};
use super::image::damaged;
use super::layout::Layout;
use super::{Checksums, Header, UsedBlocks, Version};

/// Stored blocks as one row of bytes without checksums, which are looked at on the way.
pub(super) struct Groups {
    layout: Layout,
    version: Version,
    block_bytes: u32,
    check: Check,
    /// Units that were read, the one that was wanted last at the end.
    kept: Mutex<VecDeque<(u64, Arc<Vec<u8>>)>>,
}

/// What is checked when something is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Check {
    /// Nothing: there are no checksums, or their groups are too long to be held in memory.
    Nothing,
    /// Units of so many groups, read together.
    Units { groups: u64, reseed: bool },
}

/// Small groups are read together, about so many bytes of them.
const UNIT_BYTES: u64 = 1 << 20;
/// A longer group is not held in memory.
const GROUP_BYTES_MAX: u64 = 64 << 20;
const KEPT_BYTES: u64 = 16 << 20;

impl Groups {
    /// Those of an image with this header.
    pub(super) fn new(header: &Header) -> Self {
        let layout = Layout::new(header);
        let group_bytes = layout.group_blocks.saturating_mul(u64::from(header.block_bytes));
        let check = match header.checksums {
            Checksums::Crc32 { reseed, .. } if group_bytes <= GROUP_BYTES_MAX => {
                Check::Units { groups: (UNIT_BYTES / group_bytes).max(1), reseed }
            }
            _ => Check::Nothing,
        };
        let (version, block_bytes) = (header.version, header.block_bytes);
        Groups { layout, version, block_bytes, check, kept: Mutex::default() }
    }

    /// Length of the whole stream in bytes.
    pub(super) fn len_bytes(&self) -> u64 {
        self.layout.len_bytes()
    }

    /// Fills `buf` from byte `at` of the row.
    ///
    /// # Errors
    ///
    /// `Damaged`, with the position in the stream; those of `medium`.
    pub(super) fn read(
        &self,
        medium: &dyn Medium,
        used: &UsedBlocks,
        mut buf: &mut [u8],
        mut at: u64,
    ) -> Result<()> {
        while !buf.is_empty() {
            let unit_bytes = self.unit_bytes();
            let unit = at / unit_bytes;
            let row = self.unit_row(unit);
            let len_bytes = (row.end - at).min(buf.len() as u64);
            let (part, rest) = buf.split_at_mut(len_bytes as usize);
            match self.check {
                Check::Nothing => medium.read_at(part, self.layout.data(at))?,
                Check::Units { groups: 1, reseed }
                    if at == row.start && at + len_bytes == row.end =>
                {
                    self.read_group(medium, used, unit, reseed, part)?;
                }
                Check::Units { groups, reseed } => {
                    let bytes = self.unit(medium, used, unit, groups, reseed)?;
                    let from = (at - row.start) as usize;
                    part.copy_from_slice(&bytes[from..from + part.len()]);
                }
            }
            at += len_bytes;
            buf = rest;
        }
        Ok(())
    }

    fn unit_bytes(&self) -> u64 {
        let groups = match self.check {
            Check::Nothing => 1,
            Check::Units { groups, .. } => groups,
        };
        groups.saturating_mul(self.layout.group_blocks).saturating_mul(u64::from(self.block_bytes))
    }

    /// The bytes of the row that are in `unit`.
    fn unit_row(&self, unit: u64) -> Range<u64> {
        let end = self.layout.stored * u64::from(self.block_bytes);
        let start = unit * self.unit_bytes();
        start..start.saturating_add(self.unit_bytes()).min(end)
    }

    /// A group straight to where it is wanted.
    fn read_group(
        &self,
        medium: &dyn Medium,
        used: &UsedBlocks,
        group: u64,
        reseed: bool,
        out: &mut [u8],
    ) -> Result<()> {
        let range = self.layout.group(group);
        medium.read_at(out, range.start)?;
        let mut stored = [0; CHECKSUM_BYTES as usize];
        medium.read_at(&mut stored, range.end - CHECKSUM_BYTES)?;
        let mut before = START;
        if !reseed && group > 0 {
            let mut bytes = [0; CHECKSUM_BYTES as usize];
            medium.read_at(&mut bytes, range.start - CHECKSUM_BYTES)?;
            before = u32::from_le_bytes(bytes);
        }
        self.compare(medium, used, group, before, out, stored)
    }

    /// A unit, from memory or checked. Nothing is locked while it is read: two threads that want the same one may both
    /// read it.
    fn unit(
        &self,
        medium: &dyn Medium,
        used: &UsedBlocks,
        unit: u64,
        groups: u64,
        reseed: bool,
    ) -> Result<Arc<Vec<u8>>> {
        if let Some(bytes) = self.find(unit) {
            return Ok(bytes);
        }
        let groups = unit * groups..((unit + 1) * groups).min(self.layout.groups());
        let (start, end) =
            (self.layout.group(groups.start).start, self.layout.group(groups.end).start);
        let mut bytes = vec![0; (end - start) as usize];
        medium.read_at(&mut bytes, start)?;
        let mut before = START;
        if !reseed && groups.start > 0 {
            let mut last = [0; CHECKSUM_BYTES as usize];
            medium.read_at(&mut last, start - CHECKSUM_BYTES)?;
            before = u32::from_le_bytes(last);
        }
        let mut row = 0;
        for group in groups {
            let range = self.layout.group(group);
            let from = (range.start - start) as usize;
            let border = (range.end - CHECKSUM_BYTES - start) as usize;
            let mut stored = [0; CHECKSUM_BYTES as usize];
            stored.copy_from_slice(&bytes[border..][..CHECKSUM_BYTES as usize]);
            self.compare(medium, used, group, before, &bytes[from..border], stored)?;
            if !reseed {
                before = u32::from_le_bytes(stored);
            }
            bytes.copy_within(from..border, row);
            row += border - from;
        }
        bytes.truncate(row);
        let bytes = Arc::new(bytes);
        self.keep(unit, Arc::clone(&bytes));
        Ok(bytes)
    }

    fn compare(
        &self,
        medium: &dyn Medium,
        used: &UsedBlocks,
        group: u64,
        before: u32,
        bytes: &[u8],
        stored: [u8; CHECKSUM_BYTES as usize],
    ) -> Result<()> {
        let mut crc = Running::new(self.version, self.block_bytes, before);
        crc.update(bytes);
        if crc.value().to_le_bytes() == stored {
            return Ok(());
        }
        let (blocks, range) = (self.layout.blocks(group), self.layout.group(group));
        let number = |nth| used.nth_used(nth).unwrap_or_default();
        let numbers = number(blocks.start)..=number(blocks.end - 1);
        Err(damaged(medium, &wrong_checksum(numbers, range.clone()), range))
    }

    fn find(&self, unit: u64) -> Option<Arc<Vec<u8>>> {
        let mut kept = self.kept();
        let at = kept.iter().position(|(number, _)| *number == unit)?;
        let found = kept.remove(at)?;
        let bytes = Arc::clone(&found.1);
        kept.push_back(found);
        Some(bytes)
    }

    fn keep(&self, unit: u64, bytes: Arc<Vec<u8>>) {
        let mut kept = self.kept();
        if kept.iter().any(|(number, _)| *number == unit) {
            return;
        }
        while kept.len() as u64 >= (KEPT_BYTES / self.unit_bytes()).max(1) {
            kept.pop_front();
        }
        kept.push_back((unit, bytes));
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<(u64, Arc<Vec<u8>>)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
