//! Which chunk covers an offset, and which runs are zero: an index, read block by block.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use image::{Error, ErrorKind, Extent, ExtentKind, Result};

use crate::ChunkId;
use crate::index::{Index, Span};

/// Items of an index that are read at once, and that the answer about a run covers at least.
const BLOCK_ITEMS: u64 = 1024;
/// Blocks that are kept: some for each of a few readers.
const BLOCKS_KEPT: usize = 16;
/// Zero runs are told in multiples of this many bytes, so that nobody has to write parts of a filesystem's block.
pub(super) const GRANULE_BYTES: u64 = 4096;

/// An index, and the blocks of it that were read last.
pub(super) struct Map {
    index: Index,
    /// The last used one first.
    blocks: Mutex<VecDeque<Arc<Block>>>,
    /// The lengths that a chunk of zeroes may have, and its names.
    zeros: OnceLock<Vec<(u64, ChunkId)>>,
}

/// Neighbouring chunks; never none.
pub(super) struct Block {
    spans: Vec<Span>,
}

impl Block {
    /// Those from the one on that covers `offset`, which lies within the block.
    pub(super) fn spans_from(&self, offset: u64) -> &[Span] {
        &self.spans[self.spans.partition_point(|span| span.end() <= offset)..]
    }

    fn covers(&self, offset: u64) -> bool {
        (self.spans[0].offset..self.end()).contains(&offset)
    }

    fn end(&self) -> u64 {
        self.spans[self.spans.len() - 1].end()
    }
}

impl Map {
    pub(super) fn new(index: Index) -> Self {
        Map { index, blocks: Mutex::default(), zeros: OnceLock::new() }
    }

    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    /// The block that covers `offset`, which lies within the blob.
    pub(super) fn block_at(&self, offset: u64) -> Result<Arc<Block>> {
        let known = {
            let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
            let found = blocks.iter().position(|block| block.covers(offset));
            found.and_then(|place| blocks.remove(place)).inspect(|block| {
                blocks.push_front(Arc::clone(block));
            })
        };
        if let Some(block) = known {
            return Ok(block);
        }
        let number = self.index.chunk_at(offset)?.number / BLOCK_ITEMS * BLOCK_ITEMS;
        let spans =
            self.index.chunks(number..number + BLOCK_ITEMS).collect::<Result<Vec<Span>>>()?;
        let block = Arc::new(Block { spans });
        if block.spans.is_empty() || !block.covers(offset) {
            let name = self.index.name();
            let sentence = format!("{name} changed while it was read");
            return Err(Error::new(ErrorKind::Changed, sentence).at(name, None));
        }
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        blocks.push_front(Arc::clone(&block));
        blocks.truncate(BLOCKS_KEPT);
        Ok(block)
    }

    /// Whether the name is that of so many zeroes.
    pub(super) fn is_zero(&self, span: &Span) -> bool {
        self.zeros().iter().any(|(len, id)| *len == span.len_bytes && *id == span.id)
    }

    /// Zeroes are cut at the largest size, or with some divisors at the smallest; only the last chunk of a blob has
    /// another one. Taken once, when it is first asked for.
    fn zeros(&self) -> &[(u64, ChunkId)] {
        self.zeros.get_or_init(|| {
            let (sizes, algorithm) = (self.index.sizes(), self.index.algorithm());
            let last = self.index.count().checked_sub(1);
            let last = last.and_then(|last| self.index.chunks(last..last + 1).next()?.ok());
            let mut lens = vec![sizes.max(), sizes.min()];
            lens.extend(last.map(|span| span.len_bytes));
            lens.sort_unstable();
            lens.dedup();
            lens.into_iter().map(|len| (len, ChunkId::of_zeroes(algorithm, len))).collect()
        })
    }

    /// The run that begins at `offset`: zeroes where names tell, in multiples of [`GRANULE_BYTES`], else data.
    pub(super) fn extent_at(&self, offset: u64) -> Result<Extent> {
        let mut at = offset;
        let mut looked = 0;
        // Zeroes from the offset on, as far as they reach.
        let mut zero_end = offset;
        'zero: while at < self.index.size_bytes() && looked < BLOCK_ITEMS {
            let block = self.block_at(at)?;
            for span in block.spans_from(at) {
                if !self.is_zero(span) {
                    break 'zero;
                }
                (zero_end, looked) = (span.end(), looked + 1);
            }
            at = zero_end;
        }
        let inside = self.down(zero_end);
        if inside > offset {
            return Ok(Extent::new(offset..inside, ExtentKind::Zero));
        }
        self.data_at(offset, zero_end)
    }

    /// A run of data at `offset`, of which nothing before `at` is worth being called zero.
    fn data_at(&self, offset: u64, mut at: u64) -> Result<Extent> {
        let mut looked = 0;
        while at < self.index.size_bytes() && looked < BLOCK_ITEMS {
            let block = self.block_at(at)?;
            for span in block.spans_from(at) {
                let start = span.offset.next_multiple_of(GRANULE_BYTES);
                if self.is_zero(span) && start < self.down(span.end()) {
                    // Of a run that was cut off here, the granule that the chunk begins in belongs to the data.
                    if start > offset {
                        return Ok(Extent::new(offset..start, ExtentKind::Data));
                    }
                }
                (at, looked) = (span.end(), looked + 1);
            }
        }
        Ok(Extent::new(offset..at, ExtentKind::Data))
    }

    /// The last multiple of the granule that is not behind `end`; the end of the blob is one.
    fn down(&self, end: u64) -> u64 {
        if end == self.index.size_bytes() { end } else { end - end % GRANULE_BYTES }
    }
}
