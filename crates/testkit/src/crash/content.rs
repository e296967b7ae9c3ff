//! The bytes of one medium, cheap to copy: blocks are shared until one of the copies is written.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Sparse bytes of some length.
#[derive(Clone, Default)]
pub(super) struct Content {
    len_bytes: u64,
    /// Blocks that hold data, by number; a missing one reads as zeroes. Behind the end all bytes are zero.
    blocks: BTreeMap<u64, Arc<[u8; BLOCK]>>,
}

const BLOCK: usize = 4096;
const BLOCK_BYTES: u64 = BLOCK as u64;

impl Content {
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut content = Content::default();
        content.write(bytes, 0);
        content
    }

    pub(super) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len_bytes as usize];
        self.read(&mut bytes, 0);
        bytes
    }

    /// What lies past the end reads as zeroes.
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) {
        for (number, inside, part) in pieces(offset..offset + buf.len() as u64) {
            match self.blocks.get(&number) {
                Some(block) => buf[part].copy_from_slice(&block[inside]),
                None => buf[part].fill(0),
            }
        }
    }

    pub(super) fn write(&mut self, buf: &[u8], offset: u64) {
        for (number, inside, part) in pieces(offset..offset + buf.len() as u64) {
            let block = self.blocks.entry(number).or_insert_with(|| Arc::new([0; BLOCK]));
            Arc::make_mut(block)[inside].copy_from_slice(&buf[part]);
        }
        if !buf.is_empty() {
            self.len_bytes = self.len_bytes.max(offset + buf.len() as u64);
        }
    }

    /// The part of `range` that lies before the end reads as zeroes from now on.
    pub(super) fn clear(&mut self, range: Range<u64>) {
        for (number, inside, _) in pieces(range.start..range.end.min(self.len_bytes)) {
            if inside.len() == BLOCK {
                self.blocks.remove(&number);
            } else if let Some(block) = self.blocks.get_mut(&number) {
                Arc::make_mut(block)[inside].fill(0);
            }
        }
    }

    pub(super) fn set_len(&mut self, len_bytes: u64) {
        if len_bytes < self.len_bytes {
            self.clear(len_bytes..self.len_bytes);
        }
        self.len_bytes = len_bytes;
    }

    /// Whether data stands at `offset`, and where the run of it, or of zeroes, ends.
    pub(super) fn run_at(&self, offset: u64) -> (bool, u64) {
        let number = offset / BLOCK_BYTES;
        let next = self.blocks.range(number..).next().map(|(&next, _)| next);
        let (data, end) = match next {
            Some(next) if next == number => (true, (number + 1) * BLOCK_BYTES),
            Some(next) => (false, next * BLOCK_BYTES),
            None => (false, self.len_bytes),
        };
        (data, end.min(self.len_bytes))
    }
}

/// Cuts a range at block borders: the block's number, the part within it, and the part within the range.
fn pieces(range: Range<u64>) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        if at >= range.end {
            return None;
        }
        let inside = (at % BLOCK_BYTES) as usize;
        let len = (BLOCK_BYTES - at % BLOCK_BYTES).min(range.end - at) as usize;
        let from = (at - range.start) as usize;
        let piece = (at / BLOCK_BYTES, inside..inside + len, from..from + len);
        at += len as u64;
        Some(piece)
    })
}
