//! What stands around the frames of one of our files.

use image::{Error, ErrorKind, Medium, Result};

use crate::packed::{Entry, Table};

/// Length of the frame of nothing that [`HEAD`] begins with, in bytes.
const NOTHING_BYTES: u64 = 13;
/// The magic number of a frame.
pub(super) const FRAME: u32 = 0xfd2f_b528;
/// The skippable frames that hold what is ours; Zstandard leaves sixteen numbers to whoever wants one.
const OURS: u32 = 0x184d_2a5b;
/// The skippable frame that a seek table stands in.
pub(super) const SEEK_TABLE: u32 = 0x184d_2a5e;
/// The last four bytes of a seek table.
pub(super) const SEEKABLE: u32 = 0x8f92_eab1;
/// Length of the end of a seek table in bytes: number of frames, what it holds, [`SEEKABLE`].
pub(super) const FOOTER_BYTES: usize = 9;
/// Length of a skippable frame's magic number and length in bytes.
pub(super) const SKIPPABLE_HEAD_BYTES: usize = 8;
/// Frames in the seek table that are no segments: the head, and our table.
const OTHER_FRAMES: usize = 2;

/// What one of our files begins with: a frame of nothing, so that the file begins like any other, and a skippable frame
/// with a mark. By these a file that has lost its end is told from a whole one by somebody else: not even the frame of
/// nothing is as `zstd` makes it, since it does not say that it has no content, and has the shortest window there is.
pub(super) const HEAD: [u8; 29] = *b"\x28\xb5\x2f\xfd\x04\x00\x01\x00\x00\x99\xe9\xd8\x51\
    \x5b\x2a\x4d\x18\x08\x00\x00\x00BPSEGZST";

/// Whether a skippable frame has this magic number.
pub(super) fn is_skippable(magic: u32) -> bool {
    magic & 0xffff_fff0 == 0x184d_2a50
}

/// What stands behind `segments`.
///
/// # Panics
///
/// Above 2²⁷ segments, for whose table the seekable format has no length.
pub(super) fn tail(segments: &[Entry]) -> Vec<u8> {
    assert!(segments.len() <= 1 << 27, "{} segments are too many", segments.len());
    let table = Table::new(HEAD.len() as u32, segments.to_vec()).encode();
    let frames = segments.len() + OTHER_FRAMES;
    let mut tail = Vec::with_capacity(tail_bytes(segments.len()));
    put(&mut tail, &[OURS, table.len() as u32]);
    tail.extend(&table);
    put(&mut tail, &[SEEK_TABLE, (frames * 8 + FOOTER_BYTES) as u32]);
    put(&mut tail, &[HEAD.len() as u32, 0]);
    for segment in segments {
        put(&mut tail, &[segment.packed_bytes, segment.len_bytes]);
    }
    put(&mut tail, &[(SKIPPABLE_HEAD_BYTES + table.len()) as u32, 0]);
    put(&mut tail, &[frames as u32]);
    // It holds no checksums: each frame has its own.
    tail.push(0);
    put(&mut tail, &[SEEKABLE]);
    tail
}

/// Length of what stands behind so many segments, in bytes.
fn tail_bytes(segments: usize) -> usize {
    let seek_table = (segments + OTHER_FRAMES) * 8 + FOOTER_BYTES;
    2 * SKIPPABLE_HEAD_BYTES + Table::encoded_bytes(segments) + seek_table
}

fn put(out: &mut Vec<u8>, words: &[u32]) {
    for word in words {
        out.extend(word.to_le_bytes());
    }
}

/// That the file begins as one of Zstandard's does.
pub(super) fn check_head(medium: &dyn Medium) -> Result<()> {
    let magic = match medium.len()? {
        0..4 => None,
        _ => Some(u32::from_le_bytes(read(medium, 0)?)),
    };
    if magic.is_some_and(|magic| magic == FRAME || is_skippable(magic)) {
        return Ok(());
    }
    let sentence = format!("{} does not begin as a file of zstd does", medium.name());
    Err(Error::new(ErrorKind::Damaged, sentence).at(medium.name(), Some(0..4)))
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
    let is_ours = len >= NOTHING_BYTES && HEAD.starts_with(&head);
    let Some((start, segments)) = table_place(medium, len)? else {
        if is_ours {
            let why = "the table of its segments, which should be its end, is damaged or cut off";
            return Err(damaged(medium, why, 0..len));
        }
        return Ok(None);
    };
    let mut bytes = vec![0; Table::encoded_bytes(segments)];
    medium.read_at(&mut bytes, start)?;
    let range = start..start + bytes.len() as u64;
    let table = Table::decode(&bytes, start).map_err(|error| {
        error
            .context(format!("{} is damaged", medium.name()))
            .at(medium.name(), Some(range.clone()))
    })?;
    let end = start - SKIPPABLE_HEAD_BYTES as u64;
    if table.head_bytes() != HEAD.len() as u64 || table.packed_end() != end {
        let why = "its segments are not where they should be";
        return Err(damaged(medium, why, range));
    }
    Ok(Some(table))
}

/// Where our table lies, and how many segments it has, if both ends of it look like ours.
fn table_place(medium: &dyn Medium, len: u64) -> Result<Option<(u64, usize)>> {
    if len < (HEAD.len() + tail_bytes(0)) as u64 {
        return Ok(None);
    }
    let footer: [u8; FOOTER_BYTES] = read(medium, len - FOOTER_BYTES as u64)?;
    let frames = word(&footer, 0) as usize;
    if footer[4] != 0 || word(&footer, 5) != SEEKABLE || frames < OTHER_FRAMES {
        return Ok(None);
    }
    let segments = frames - OTHER_FRAMES;
    let Some(tail) = len.checked_sub(tail_bytes(segments) as u64) else { return Ok(None) };
    let head: [u8; 16] = read(medium, tail)?;
    let expected = Table::encoded_bytes(segments) as u32;
    let is_table = word(&head, 0) == OURS && word(&head, 4) == expected && head[8..] == Table::MARK;
    Ok(is_table.then_some((tail + SKIPPABLE_HEAD_BYTES as u64, segments)))
}

fn damaged(medium: &dyn Medium, why: &str, range: std::ops::Range<u64>) -> Error {
    let sentence = format!("{} is damaged: {why}", medium.name());
    Error::new(ErrorKind::Damaged, sentence).at(medium.name(), Some(range))
}

/// The `N` bytes at `offset`.
pub(super) fn read<const N: usize>(medium: &dyn Medium, offset: u64) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    medium.read_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// The number at `at`.
pub(super) fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
