//! The table of a packed file's segments: what stands in its tail, in the envelope of each compression.

use image::Result;

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
        todo!()
    }

    /// Reads it; `file_bytes` is the length of the file that it must fit.
    ///
    /// # Errors
    ///
    /// `Damaged`.
    pub fn decode(_bytes: &[u8], _file_bytes: u64) -> Result<Self> {
        todo!()
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

    /// Where segment `at` begins in the content, in bytes.
    pub fn offset(&self, at: usize) -> u64 {
        self.offsets[at]
    }

    /// The segment that has the byte at `offset` of the content, which lies before the end.
    pub fn find(&self, offset: u64) -> usize {
        self.offsets.partition_point(|&start| start <= offset) - 1
    }
}
