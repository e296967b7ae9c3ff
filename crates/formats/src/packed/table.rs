//! The table of a packed file's segments: what stands in its tail, in the envelope of each compression.

use image::{Error, ErrorKind, Result};

/// What a table knows of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Length of its content in bytes.
    pub len_bytes: u32,
    /// Length of what it was packed to, in bytes.
    pub packed_bytes: u32,
    /// CRC-32 (as gzip has it) of the content.
    pub crc32: u32,
    /// CRC-32 of the packed bytes, so that no byte of a file can change unseen.
    pub packed_crc32: u32,
}

/// All segments of a file, and where each begins on both sides.
///
/// Its bytes (all little endian): the mark `BPSEGTAB`, u32 version 1, u32 length of the head, u64 number of segments,
/// for each segment the four words of an [`Entry`] in their order, and a CRC-32 of all of that. Segments follow each
/// other without gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    entries: Vec<Entry>,
    /// Where each segment begins in the packed file, and the end of the last.
    packed_offsets: Vec<u64>,
    /// Where each segment begins in the content, and the end of the last.
    offsets: Vec<u64>,
}

impl Table {
    /// What its bytes begin with.
    pub const MARK: [u8; 8] = *b"BPSEGTAB";
    /// The longest content of a segment that a table is believed, in bytes: as much memory is taken for one.
    /// Ours have at most 4 MiB.
    pub const SEGMENT_BYTES_MAX: u32 = 16 << 20;
    /// The longest packed segment that a table is believed, in bytes: one that could not be made shorter is a little
    /// longer than its content.
    pub const PACKED_BYTES_MAX: u32 = Self::SEGMENT_BYTES_MAX + (1 << 20);

    /// Length of the table of so many segments, in bytes.
    pub fn encoded_bytes(segments: usize) -> usize {
        HEAD_BYTES + segments * ENTRY_BYTES + CRC_BYTES
    }

    /// The table of `entries` behind a head of `head_bytes`.
    pub fn new(head_bytes: u32, entries: Vec<Entry>) -> Self {
        let mut packed_offsets = Vec::with_capacity(entries.len() + 1);
        let mut offsets = Vec::with_capacity(entries.len() + 1);
        let (mut packed, mut offset) = (u64::from(head_bytes), 0);
        for entry in &entries {
            packed_offsets.push(packed);
            offsets.push(offset);
            packed += u64::from(entry.packed_bytes);
            offset += u64::from(entry.len_bytes);
        }
        packed_offsets.push(packed);
        offsets.push(offset);
        Table { entries, packed_offsets, offsets }
    }

    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::encoded_bytes(self.entries.len()));
        bytes.extend(Self::MARK);
        bytes.extend(VERSION.to_le_bytes());
        // A head is at most what `new` or `decode` was given: a `u32`.
        bytes.extend((self.packed_offsets[0] as u32).to_le_bytes());
        bytes.extend((self.entries.len() as u64).to_le_bytes());
        for entry in &self.entries {
            for word in [entry.len_bytes, entry.packed_bytes, entry.crc32, entry.packed_crc32] {
                bytes.extend(word.to_le_bytes());
            }
        }
        bytes.extend(libdeflater::crc32(&bytes).to_le_bytes());
        bytes
    }

    /// Reads it; `file_bytes` is the length of the file that it must fit: head and segments are no longer.
    ///
    /// # Errors
    ///
    /// `Damaged`, without a place: the caller knows where the table lies.
    pub fn decode(bytes: &[u8], file_bytes: u64) -> Result<Self> {
        let Some((head, rest)) = bytes.split_at_checked(HEAD_BYTES) else {
            return Err(damaged("it is too short"));
        };
        if head[..8] != Self::MARK {
            return Err(damaged("it does not begin with its mark"));
        }
        let Some((words, crc32)) = rest.split_last_chunk::<CRC_BYTES>() else {
            return Err(damaged("it is too short"));
        };
        if libdeflater::crc32(&bytes[..bytes.len() - CRC_BYTES]) != u32::from_le_bytes(*crc32) {
            return Err(damaged("its checksum is wrong"));
        }
        let version = word(head, 8);
        if version != VERSION {
            let why = format!("it is of version {version}, and only {VERSION} is known");
            return Err(damaged(&why));
        }
        let segments = u64::from(word(head, 16)) | u64::from(word(head, 20)) << 32;
        if !words.len().is_multiple_of(ENTRY_BYTES)
            || segments != (words.len() / ENTRY_BYTES) as u64
        {
            return Err(damaged("it has not the length that its number of segments asks for"));
        }
        let entries: Vec<Entry> = words.chunks_exact(ENTRY_BYTES).map(entry_of).collect();
        let is_possible = |entry: &Entry| {
            (1..=Self::SEGMENT_BYTES_MAX).contains(&entry.len_bytes)
                && (1..=Self::PACKED_BYTES_MAX).contains(&entry.packed_bytes)
        };
        if !entries.iter().all(is_possible) {
            return Err(damaged("it has a segment of a length that no segment has"));
        }
        // No sum overflows: a number of segments that is in memory times 32 bits.
        let table = Table::new(word(head, 12), entries);
        if table.packed_end() > file_bytes {
            return Err(damaged("its segments would end behind the end of the file"));
        }
        Ok(table)
    }

    /// Length of the whole content in bytes.
    pub fn len_bytes(&self) -> u64 {
        *self.offsets.last().unwrap_or(&0)
    }

    /// Its segments.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Where segment `at` begins in the packed file, in bytes.
    pub fn packed_offset(&self, at: usize) -> u64 {
        self.packed_offsets[at]
    }

    /// Where the last segment ends in the packed file, in bytes.
    pub fn packed_end(&self) -> u64 {
        self.packed_offsets[self.entries.len()]
    }

    /// Length of what stands before the first segment, in bytes.
    pub fn head_bytes(&self) -> u64 {
        self.packed_offsets[0]
    }

    /// Where segment `at` begins in the content, in bytes.
    pub fn offset(&self, at: usize) -> u64 {
        self.offsets[at]
    }

    /// The segment that has the byte at `offset` of the content, which lies before the end.
    pub fn find(&self, offset: u64) -> usize {
        self.offsets.partition_point(|&start| start <= offset) - 1
    }
}

const VERSION: u32 = 1;
const HEAD_BYTES: usize = 24;
const ENTRY_BYTES: usize = 16;
const CRC_BYTES: usize = 4;

fn damaged(why: &str) -> Error {
    let sentence = format!("the table of the segments cannot be believed: {why}");
    Error::new(ErrorKind::Damaged, sentence)
}

fn entry_of(bytes: &[u8]) -> Entry {
    Entry {
        len_bytes: word(bytes, 0),
        packed_bytes: word(bytes, 4),
        crc32: word(bytes, 8),
        packed_crc32: word(bytes, 12),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Table {
        let entry = |len_bytes, packed_bytes| Entry {
            len_bytes,
            packed_bytes,
            crc32: len_bytes ^ 0x5555,
            packed_crc32: packed_bytes ^ 0xaaaa,
        };
        Table::new(10, vec![entry(100, 30), entry(100, 1), entry(7, 9)])
    }

    /// `bytes` with a checksum that fits.
    fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
        let end = bytes.len() - CRC_BYTES;
        let crc32 = libdeflater::crc32(&bytes[..end]);
        bytes[end..].copy_from_slice(&crc32.to_le_bytes());
        bytes
    }

    #[test]
    fn a_table_reads_as_it_was_written() {
        for table in [example(), Table::new(0, Vec::new())] {
            let bytes = table.encode();
            assert_eq!(bytes.len(), Table::encoded_bytes(table.entries().len()));
            assert_eq!(Table::decode(&bytes, 50).unwrap(), table);
        }
        let table = example();
        assert_eq!((table.len_bytes(), table.head_bytes(), table.packed_end()), (207, 10, 50));
        let found: Vec<usize> = [0, 99, 100, 199, 200, 206].map(|at| table.find(at)).into();
        assert_eq!(found, [0, 0, 1, 1, 2, 2]);
        assert_eq!((table.offset(2), table.packed_offset(2)), (200, 41));
    }

    #[test]
    fn each_changed_byte_and_each_truncation_is_found() {
        let bytes = example().encode();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            assert!(Table::decode(&changed, 1000).is_err(), "byte {at} was changed");
            assert!(Table::decode(&bytes[..at], 1000).is_err(), "{at} bytes are left");
        }
    }

    #[test]
    fn what_a_table_claims_is_not_believed() {
        let bytes = example().encode();
        assert!(Table::decode(&bytes, 49).is_err(), "the file is too short for it");
        // Version; number of segments; lengths of none and of more than there can be, on both sides.
        let huge = 0xffff_ffff_u32.to_le_bytes();
        let changes: [(usize, [u8; 4]); 7] = [
            (8, [2, 0, 0, 0]),
            (16, [2, 0, 0, 0]),
            (20, [1, 0, 0, 0]),
            (24, [0; 4]),
            (28, [0; 4]),
            (24, huge),
            (28, huge),
        ];
        for (at, word) in changes {
            let mut changed = bytes.clone();
            changed[at..at + 4].copy_from_slice(&word);
            let error = Table::decode(&sealed(changed), u64::MAX).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged, "{word:?} at {at}");
        }
    }
}
