//! What stands around the segments of one of our files.

use image::{Error, ErrorKind, Medium, Result};

use super::crc::Combined;
use crate::packed::{Entry, Table};

/// What one of our files begins with: the header of a member (no time, no name, fastest, unknown system), with a
/// subfield `BP` of version 1. By it a file that has lost its end is told from a whole one by somebody else.
pub(super) const HEAD: [u8; 20] = *b"\x1f\x8b\x08\x04\0\0\0\0\x04\xff\x08\0BP\x04\0\x01\0\0\0";
/// The last block of a member, which holds nothing.
pub(super) const LAST_BLOCK: [u8; 2] = [3, 0];
/// The first bytes of a member of nothing with extra fields; their length follows.
const EXTRA: [u8; 10] = *b"\x1f\x8b\x08\x04\0\0\0\0\x04\xff";
/// The subfields that hold a part of our table.
const TABLE_ID: [u8; 2] = *b"BT";
/// The subfield that says where the first of them begins.
const END_ID: [u8; 2] = *b"BE";
/// How long the content of one subfield can be, in bytes: so long are all parts of the table but the last.
const PART_BYTES_MAX: usize = 65_535 - 4;
/// What stands before the content of the one subfield of a member, in bytes.
const BEFORE_BYTES: usize = EXTRA.len() + 2 + 4;
/// What stands behind it: a last block, checksum and length of nothing.
const BEHIND_BYTES: usize = 10;
/// Last block, checksum and length of the member with the segments.
const CLOSING_BYTES: usize = 10;
/// Length of the last member, in bytes.
const END_BYTES: usize = BEFORE_BYTES + 8 + BEHIND_BYTES;
/// The most segments that a table is read for: for more than a hundred tebibytes.
const SEGMENTS_MAX: u64 = 1 << 27;

/// What stands behind `segments`.
pub(super) fn tail(segments: &[Entry]) -> Vec<u8> {
    let table = Table::new(HEAD.len() as u32, segments.to_vec());
    let mut content = Combined::default();
    for segment in segments {
        content.add(segment.crc32, segment.len_bytes);
    }
    let mut tail = Vec::with_capacity(tail_bytes(segments.len()));
    tail.extend(LAST_BLOCK);
    tail.extend(content.crc32().to_le_bytes());
    // As the format has it: modulo 2³².
    tail.extend((table.len_bytes() as u32).to_le_bytes());
    let start = table.packed_end() + tail.len() as u64;
    for part in table.encode().chunks(PART_BYTES_MAX) {
        put_member(&mut tail, TABLE_ID, part);
    }
    put_member(&mut tail, END_ID, &start.to_le_bytes());
    tail
}

/// Length of what stands behind so many segments, in bytes.
fn tail_bytes(segments: usize) -> usize {
    let table = Table::encoded_bytes(segments);
    let members = table.div_ceil(PART_BYTES_MAX);
    CLOSING_BYTES + table + members * (BEFORE_BYTES + BEHIND_BYTES) + END_BYTES
}

/// A member of nothing with `content` in its header.
fn put_member(out: &mut Vec<u8>, id: [u8; 2], content: &[u8]) {
    out.extend(EXTRA);
    out.extend((content.len() as u16 + 4).to_le_bytes());
    out.extend(id);
    out.extend((content.len() as u16).to_le_bytes());
    out.extend(content);
    out.extend(LAST_BLOCK);
    out.extend([0; 8]);
}

/// That the file begins as one of gzip's does.
pub(super) fn check_head(medium: &dyn Medium) -> Result<()> {
    let mut mark = [0; 2];
    if medium.len()? >= 2 {
        medium.read_at(&mut mark, 0)?;
    }
    if mark == HEAD[..2] {
        return Ok(());
    }
    let sentence = format!("{} does not begin as a file of gzip does", medium.name());
    Err(Error::new(ErrorKind::Damaged, sentence).at(medium.name(), Some(0..2)))
}

/// The table of one of our files; `None` for another's.
///
/// # Errors
///
/// `Damaged` where either end says that the file is ours, and its table is not what it should be.
pub(super) fn find_table(medium: &dyn Medium) -> Result<Option<Table>> {
    let len = medium.len()?;
    let mut head = vec![0; len.min(HEAD.len() as u64) as usize];
    medium.read_at(&mut head, 0)?;
    let Some(start) = table_start(medium, len)? else {
        // A header of ten bytes is everybody's.
        if head.len() > EXTRA.len() && HEAD.starts_with(&head) {
            let why = "the table of its segments, which should be its end, is damaged or cut off";
            return Err(damaged(medium, why, 0..len));
        }
        return Ok(None);
    };
    let range = start..len - END_BYTES as u64;
    let bytes = table_bytes(medium, range.clone())?;
    let table = Table::decode(&bytes, start).map_err(|error| {
        let sentence = format!("{} is damaged", medium.name());
        error.context(sentence).at(medium.name(), Some(range.clone()))
    })?;
    let end = start.checked_sub(CLOSING_BYTES as u64);
    if table.head_bytes() != HEAD.len() as u64 || Some(table.packed_end()) != end {
        return Err(damaged(medium, "its segments are not where they should be", range));
    }
    Ok(Some(table))
}

/// Where the first member with a part of the table begins, if the last member is ours and says so.
fn table_start(medium: &dyn Medium, len: u64) -> Result<Option<u64>> {
    let Some(end) = len.checked_sub((HEAD.len() + tail_bytes(0)) as u64) else { return Ok(None) };
    let mut found = [0; END_BYTES];
    medium.read_at(&mut found, len - END_BYTES as u64)?;
    let mut start = [0; 8];
    start.copy_from_slice(&found[BEFORE_BYTES..BEFORE_BYTES + 8]);
    let mut expected = Vec::with_capacity(END_BYTES);
    put_member(&mut expected, END_ID, &start);
    let start = u64::from_le_bytes(start);
    let possible = HEAD.len() as u64..=end + (HEAD.len() + CLOSING_BYTES) as u64;
    Ok((found == *expected && possible.contains(&start)).then_some(start))
}

/// The table out of the members in `range`.
fn table_bytes(medium: &dyn Medium, range: std::ops::Range<u64>) -> Result<Vec<u8>> {
    let mut head = [0; BEFORE_BYTES + 24];
    medium.read_at(&mut head, range.start)?;
    let mut segments = [0; 8];
    segments.copy_from_slice(&head[BEFORE_BYTES + 16..]);
    let segments = u64::from_le_bytes(segments);
    let around = (CLOSING_BYTES + END_BYTES) as u64;
    let fits = segments <= SEGMENTS_MAX
        && tail_bytes(segments as usize) as u64 == range.end - range.start + around;
    if !fits {
        let why = "the table of its segments has not the length that it claims";
        return Err(damaged(medium, why, range));
    }
    let table_bytes = Table::encoded_bytes(segments as usize);
    let mut table = Vec::with_capacity(table_bytes);
    let mut at = range.start;
    while table.len() < table_bytes {
        let part = (table_bytes - table.len()).min(PART_BYTES_MAX);
        let before = table.len();
        table.resize(before + part, 0);
        medium.read_at(&mut table[before..], at + BEFORE_BYTES as u64)?;
        at += (BEFORE_BYTES + part + BEHIND_BYTES) as u64;
    }
    Ok(table)
}

fn damaged(medium: &dyn Medium, why: &str, range: std::ops::Range<u64>) -> Error {
    let sentence = format!("{} is damaged: {why}", medium.name());
    Error::new(ErrorKind::Damaged, sentence).at(medium.name(), Some(range))
}
