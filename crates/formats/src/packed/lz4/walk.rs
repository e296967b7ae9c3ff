//! A table for a file by somebody else whose blocks stand alone: made in one pass, and kept.

use image::{Error, ErrorKind, Medium, Phase, Result, Task};

use super::layout::{Around, Blocks, Others};
use super::stream::Stream;
use crate::packed::tabled::Tabled;
use crate::packed::{Entry, Segments, Table, Unpack};

/// What begins what is kept. Behind it: the lengths of head and tail and of the table (u32 each), those themselves, and
/// a CRC-32 of all that.
const MARK: [u8; 8] = *b"BPLZ4IDX";
const FIXED_BYTES: usize = MARK.len() + 12;
/// More behind the last block than this is not kept: the file is packed anew.
const TAIL_BYTES_MAX: u64 = 64 << 10;

/// Unpacks all of `medium` and makes a table of its blocks; `None` if it is not one frame of blocks that stand alone.
pub(super) fn walk(medium: &dyn Medium, task: &Task) -> Result<Option<Tabled<Blocks>>> {
    let len = medium.len()?;
    task.begin(Phase::Map, len);
    let mut stream = Stream::new(medium)?;
    let mut entries = Vec::new();
    let mut place: Option<(u64, u64)> = None;
    while stream.next_block()? {
        task.checkpoint()?;
        let (packed, content) = (stream.packed(), stream.content());
        let start = stream.packed_position() - packed.len() as u64;
        let (head, end) = place.unwrap_or((start, start));
        if !stream.stands_alone() || content.is_empty() || start != end || head > 19 {
            return Ok(None);
        }
        entries.push(Entry {
            len_bytes: content.len() as u32,
            packed_bytes: packed.len() as u32,
            crc32: libdeflater::crc32(content),
            packed_crc32: libdeflater::crc32(packed),
        });
        place = Some((head, stream.packed_position()));
        task.advance(packed.len() as u64);
    }
    let Some((head, end)) = place.filter(|(_, end)| len - end <= TAIL_BYTES_MAX) else {
        return Ok(None);
    };
    let read = |range: std::ops::Range<u64>| {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        medium.read_at(&mut bytes, range.start).map(|()| bytes)
    };
    let others = Others { head: read(0..head)?, tail: read(end..len)? };
    Ok(Some(Tabled::new(Table::new(head as u32, entries), Blocks::others(others))))
}

/// Writes what [`open_kept`] reads.
pub(super) fn keep(blocks: &Tabled<Blocks>, kept: &dyn Medium) -> Result<()> {
    let Around::Others(others) = blocks.codec().around() else { return Ok(()) };
    let table = blocks.table().encode();
    let mut bytes = MARK.to_vec();
    for part in [&others.head, &others.tail, &table] {
        bytes.extend((part.len() as u32).to_le_bytes());
    }
    for part in [&others.head, &others.tail, &table] {
        bytes.extend(part);
    }
    bytes.extend(libdeflater::crc32(&bytes).to_le_bytes());
    kept.set_len(0)?;
    kept.write_at(&bytes, 0)?;
    kept.sync()
}

/// What [`keep`] wrote; `None` if something else was kept.
pub(super) fn open_kept(medium: &dyn Medium, kept: &dyn Medium) -> Result<Option<Tabled<Blocks>>> {
    let mut mark = [0; MARK.len()];
    let len = kept.len()?;
    if len < (FIXED_BYTES + 4) as u64 {
        return Ok(None);
    }
    kept.read_at(&mut mark, 0)?;
    if mark != MARK {
        return Ok(None);
    }
    // It was written by us, and in one piece: a table of a few bytes for each block.
    let mut bytes = vec![0; len as usize];
    kept.read_at(&mut bytes, 0)?;
    let damaged = || {
        let name = kept.name();
        let sentence =
            format!("{name} is damaged: what was kept of {} is not whole", medium.name());
        Error::new(ErrorKind::Damaged, sentence).at(name, Some(0..len))
    };
    let Some((bytes, crc32)) = bytes.split_last_chunk::<4>() else { return Err(damaged()) };
    if libdeflater::crc32(bytes) != u32::from_le_bytes(*crc32) {
        return Err(damaged());
    }
    let mut rest = &bytes[FIXED_BYTES..];
    let mut parts = bytes[MARK.len()..FIXED_BYTES].chunks_exact(4).map(|length| {
        let len = u32::from_le_bytes([length[0], length[1], length[2], length[3]]);
        let (part, behind) = rest.split_at_checked(len as usize)?;
        rest = behind;
        Some(part)
    });
    let mut part = || parts.next().flatten().ok_or_else(damaged);
    let (head, tail, table) = (part()?.to_vec(), part()?.to_vec(), part()?);
    let table = Table::decode(table, medium.len()?).map_err(|error| damaged().because(error))?;
    let blocks = Tabled::new(table, Blocks::others(Others { head, tail }));
    Ok((blocks.len_bytes() > 0).then_some(blocks))
}
