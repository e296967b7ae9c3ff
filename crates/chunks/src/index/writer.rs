//! Writes an index, item by item.

use std::io::{self, Write};

use super::Header;
use super::layout;
use crate::ChunkId;

/// Writes an index to `W`, in order. What was written is an index only after [`finish`](IndexWriter::finish).
pub struct IndexWriter<W> {
    output: W,
    count: u64,
    end: u64,
}

impl<W: Write> IndexWriter<W> {
    /// Writes the head. `output` should gather small writes.
    pub fn new(mut output: W, header: &Header) -> io::Result<Self> {
        let sizes = header.sizes;
        output.write_all(&layout::head(header.flags, sizes.min(), sizes.avg(), sizes.max()))?;
        Ok(IndexWriter { output, count: 0, end: 0 })
    }

    /// The next chunk of the blob, `len_bytes` long.
    pub fn push(&mut self, id: &ChunkId, len_bytes: u64) -> io::Result<()> {
        self.push_run(id, len_bytes, 1)
    }

    /// `count` equal chunks, one behind the other.
    pub fn push_run(&mut self, id: &ChunkId, len_bytes: u64, count: u64) -> io::Result<()> {
        debug_assert!(len_bytes > 0, "an empty chunk");
        let mut item = [0; layout::ITEM_BYTES as usize];
        item[8..].copy_from_slice(&id.0);
        for _ in 0..count {
            self.end += len_bytes;
            item[..8].copy_from_slice(&self.end.to_le_bytes());
            self.output.write_all(&item)?;
        }
        self.count += count;
        Ok(())
    }

    /// Size of the blob so far, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.end
    }

    /// How many chunks were written.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Writes the tail, flushes, and gives the output back.
    pub fn finish(mut self) -> io::Result<W> {
        self.output.write_all(&layout::tail(self.count))?;
        self.output.flush()?;
        Ok(self.output)
    }
}
