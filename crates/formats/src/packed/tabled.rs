//! The content of a file that has a [`Table`]: in any order, or from front to back.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use image::{Error, ErrorKind, Medium, Result};

use super::{Packing, Segments, Table, Unpack};

/// What a compression knows of the segments of a table, and of what stands around them.
pub(super) trait Codec: Send + Sync {
    /// Unpacks the whole segment `packed` to `out`, which it must fill; else says why it cannot.
    fn unpack(&self, packed: &[u8], out: &mut [u8]) -> Result<(), String>;

    /// Checks what stands in `file` before and behind the segments of `table`.
    fn check_rest(&self, file: &dyn Medium, table: &Table) -> Result<()>;
}

/// The segments of a table.
pub(super) struct Tabled<C> {
    table: Table,
    codec: C,
    /// Memory for packed segments, as much as there were readers at once.
    spare: Mutex<Vec<Vec<u8>>>,
}

impl<C: Codec> Tabled<C> {
    pub(super) fn new(table: Table, codec: C) -> Self {
        Tabled { table, codec, spare: Mutex::default() }
    }

    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    pub(super) fn codec(&self) -> &C {
        &self.codec
    }
}

impl<C: Codec> Segments for Tabled<C> {
    fn len_bytes(&self) -> u64 {
        self.table.len_bytes()
    }

    fn find(&self, offset: u64) -> (usize, Range<u64>) {
        let at = self.table.find(offset);
        let start = self.table.offset(at);
        (at, start..start + u64::from(self.table.entries()[at].len_bytes))
    }

    fn unpack(&self, file: &dyn Medium, at: usize, out: &mut Vec<u8>) -> Result<()> {
        out.resize(self.table.entries()[at].len_bytes as usize, 0);
        self.unpack_into(file, at, out)
    }

    fn unpack_into(&self, file: &dyn Medium, at: usize, out: &mut [u8]) -> Result<()> {
        let entry = self.table.entries()[at];
        let start = self.table.packed_offset(at);
        let spare = |spare: &Mutex<Vec<Vec<u8>>>| {
            spare.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
        };
        let mut packed = spare(&self.spare);
        packed.resize(entry.packed_bytes as usize, 0);
        file.read_at(&mut packed, start)?;
        let unpacked = if libdeflater::crc32(&packed) != entry.packed_crc32 {
            Err("its packed bytes have another checksum than the table says".to_string())
        } else {
            self.codec.unpack(&packed, out)
        };
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(packed);
        let checked = unpacked.and_then(|()| {
            let is_right = libdeflater::crc32(out) == entry.crc32;
            let why = "its content has another checksum than the table says";
            is_right.then_some(()).ok_or_else(|| why.to_string())
        });
        checked.map_err(|why| {
            let end = start + u64::from(entry.packed_bytes);
            let sentence = format!("segment {at} of {} is damaged: {why}", file.name());
            Error::new(ErrorKind::Damaged, sentence).at(file.name(), Some(start..end))
        })
    }

    fn check_rest(&self, file: &dyn Medium) -> Result<()> {
        self.codec.check_rest(file, &self.table)
    }
}

/// Holds what stands around the segments of one of our files against what `packing` writes there: every byte of it
/// follows from the table.
pub(super) fn check_around(file: &dyn Medium, table: &Table, packing: &dyn Packing) -> Result<()> {
    check_bytes(file, 0, &packing.head())?;
    let tail = packing.tail(table.entries());
    check_bytes(file, table.packed_end(), &tail)?;
    check_end(file, table.packed_end() + tail.len() as u64)
}

/// That `expected` stands at `start` of `file`.
pub(super) fn check_bytes(file: &dyn Medium, start: u64, expected: &[u8]) -> Result<()> {
    let held = file.len()?.saturating_sub(start).min(expected.len() as u64);
    let mut found = vec![0; held as usize];
    file.read_at(&mut found, start)?;
    let differing = found.iter().zip(expected).position(|(found, expected)| found != expected);
    let Some(at) = differing.or((found.len() < expected.len()).then_some(found.len())) else {
        return Ok(());
    };
    let at = start + at as u64;
    let sentence = format!(
        "{} is damaged: at {at} stands something else than its segments ask for",
        file.name()
    );
    Err(Error::new(ErrorKind::Damaged, sentence).at(file.name(), Some(at..at + 1)))
}

/// That `file` ends at `end`.
pub(super) fn check_end(file: &dyn Medium, end: u64) -> Result<()> {
    let len = file.len()?;
    if len == end {
        return Ok(());
    }
    let sentence = format!("{} is damaged: it should end at {end}, and ends at {len}", file.name());
    let range = end.min(len)..end.max(len);
    Err(Error::new(ErrorKind::Damaged, sentence).at(file.name(), Some(range)))
}

/// Reads one segment after the other. What stands around them is checked at the end.
pub(super) struct InOrder<'a, C> {
    file: &'a dyn Medium,
    segments: Tabled<C>,
    /// The segment that comes next.
    next: usize,
    /// The one before, if it was not read as a whole, and how much of it was read.
    content: Vec<u8>,
    read: usize,
    is_checked: bool,
}

impl<'a, C: Codec> InOrder<'a, C> {
    pub(super) fn new(file: &'a dyn Medium, segments: Tabled<C>) -> Self {
        InOrder { file, segments, next: 0, content: Vec::new(), read: 0, is_checked: false }
    }
}

impl<C: Codec> Unpack for InOrder<'_, C> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            let part = (self.content.len() - self.read).min(buf.len() - filled);
            if part > 0 {
                buf[filled..filled + part]
                    .copy_from_slice(&self.content[self.read..self.read + part]);
                self.read += part;
                filled += part;
                continue;
            }
            let Some(entry) = self.segments.table().entries().get(self.next) else { break };
            match buf[filled..].get_mut(..entry.len_bytes as usize) {
                Some(whole) => {
                    self.segments.unpack_into(self.file, self.next, whole)?;
                    filled += whole.len();
                }
                None => {
                    let mut content = std::mem::take(&mut self.content);
                    self.read = 0;
                    self.segments.unpack(self.file, self.next, &mut content)?;
                    self.content = content;
                }
            }
            self.next += 1;
        }
        if filled < buf.len() && !self.is_checked {
            self.segments.check_rest(self.file)?;
            self.is_checked = true;
        }
        Ok(filled)
    }

    fn packed_position(&self) -> u64 {
        match self.segments.table().entries().len() {
            _ if self.is_checked => self.file.len().unwrap_or(0),
            count if self.next == count => self.segments.table().packed_end(),
            _ => self.segments.table().packed_offset(self.next),
        }
    }
}
