//! A blob as an image: what an index and the stores behind it make readable at any offset.

mod ahead;
mod cache;
mod map;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use image::{Error, ErrorKind, Extent, Image, Result};

use crate::index::{Index, Span};
use crate::store::{Chain, Chunk, Desk, Length};
use ahead::ReadAhead;
use cache::{ChunkCache, Claim, Ticket};
use map::Map;

/// An index and a [`Chain`] of stores, as an [`Image`].
///
/// Memory: the cache of decoded chunks, in which one chunk of any size fits, and for each thread that reads the
/// chunks of one request, at most [`BATCH_BYTES`](IndexImage::BATCH_BYTES) or the largest chunk. Whoever reads in
/// sequence is read ahead of, by a few threads that begin with the first such read and end with the image.
pub struct IndexImage {
    shared: Arc<Shared>,
    ahead: ReadAhead,
}

/// What the reading threads share with those that read ahead.
struct Shared {
    map: Map,
    chain: Arc<Chain>,
    cache: ChunkCache,
    desks: Mutex<Vec<Desk<usize>>>,
}

/// A chunk that this thread has to fetch, and the promise to those who wait for it.
struct Job<'a> {
    span: Span,
    ticket: Option<Ticket<'a>>,
}

impl IndexImage {
    /// How much memory decoded chunks take, unless somebody says otherwise, in bytes.
    pub const CACHE_BYTES: usize = 32 << 20;
    /// How much one thread decodes before it looks what it has, in bytes.
    pub const BATCH_BYTES: u64 = 8 << 20;

    /// The image that `index` describes, of chunks from `chain`. Nothing is fetched yet; a chain without any place
    /// is good enough for size and runs.
    pub fn new(index: Index, chain: Arc<Chain>) -> Self {
        Self::with_cache(index, chain, Self::CACHE_BYTES)
    }

    /// The same with so many bytes for decoded chunks.
    pub fn with_cache(index: Index, chain: Arc<Chain>, cache_bytes: usize) -> Self {
        let shared = Shared {
            map: Map::new(index),
            chain,
            cache: ChunkCache::new(cache_bytes),
            desks: Mutex::default(),
        };
        IndexImage { shared: Arc::new(shared), ahead: ReadAhead::new(cache_bytes as u64 / 2) }
    }

    /// The index.
    pub fn index(&self) -> &Index {
        self.shared.map.index()
    }

    /// Where its chunks come from.
    pub fn chain(&self) -> &Arc<Chain> {
        &self.shared.chain
    }

    /// Whether this chunk is known to be all zero without fetching it.
    pub fn is_zero(&self, span: &Span) -> bool {
        self.shared.map.is_zero(span)
    }
}

impl Drop for IndexImage {
    fn drop(&mut self) {
        self.ahead.stop();
    }
}

impl Image for IndexImage {
    fn size(&self) -> u64 {
        self.index().size_bytes()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let end = offset + buf.len() as u64;
        if buf.is_empty() {
            return Ok(());
        }
        let _reading = self.ahead.reads(offset..end, &self.shared);
        let mut at = offset;
        while at < end {
            let block = self.shared.map.block_at(at)?;
            let spans = block.spans_from(at);
            let within = spans.partition_point(|span| span.offset < end);
            for batch in batches(&spans[..within]) {
                self.shared.read(batch, buf, offset)?;
            }
            at = spans[within - 1].end();
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.shared.map.extent_at(offset)
    }

    fn block_size_bytes(&self) -> u64 {
        map::GRANULE_BYTES
    }
}

/// Cuts spans so that each part can be decoded at once.
fn batches(spans: &[Span]) -> impl Iterator<Item = &[Span]> {
    let mut rest = spans;
    std::iter::from_fn(move || {
        let first = rest.first()?;
        let fitting =
            rest.partition_point(|span| span.end() - first.offset <= IndexImage::BATCH_BYTES);
        let (batch, behind) = rest.split_at(fitting.max(1));
        rest = behind;
        Some(batch)
    })
}

impl Shared {
    /// Copies what `spans` have of it into `buf`, which begins at `offset` of the image.
    fn read(&self, spans: &[Span], buf: &mut [u8], offset: u64) -> Result<()> {
        let mut failure: Option<(u64, Error)> = None;
        let mut deliver = |span: &Span, found: Result<&[u8]>| {
            let copied = found.and_then(|bytes| copy(span, bytes, buf, offset));
            if let Err(error) = copied
                && failure.as_ref().is_none_or(|(before, _)| span.offset < *before)
            {
                failure = Some((span.offset, error));
            }
        };
        let (mut mine, mut others) = (Vec::new(), Vec::new());
        for span in spans {
            if self.map.is_zero(span) {
                deliver(span, Ok(&[]));
                continue;
            }
            match self.cache.claim(&span.id) {
                Claim::Done(Ok(bytes)) => deliver(span, Ok(&bytes)),
                Claim::Done(Err(error)) => deliver(span, Err(error)),
                Claim::Mine(ticket) => mine.push(Job { span: *span, ticket: Some(ticket) }),
                Claim::Busy => others.push(*span),
            }
        }
        // First what others may wait for, then what this thread waits for: so nobody waits in a circle.
        self.decode(&mut mine, &mut deliver);
        for span in others {
            match self.cache.wait(&span.id) {
                Claim::Mine(ticket) => {
                    self.decode(&mut [Job { span, ticket: Some(ticket) }], &mut deliver);
                }
                Claim::Done(Ok(bytes)) => deliver(&span, Ok(&bytes)),
                Claim::Done(Err(error)) => deliver(&span, Err(error)),
                Claim::Busy => unreachable!("it was waited for"),
            }
        }
        failure.map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Fetches chunks and gives them to those who wait for them, this thread among them.
    fn decode(&self, jobs: &mut [Job<'_>], deliver: &mut impl FnMut(&Span, Result<&[u8]>)) {
        if jobs.is_empty() {
            return;
        }
        let spare = self.desks().pop();
        let mut desk = spare.unwrap_or_else(|| Desk::new(self.chain.algorithm()));
        let wanted: Vec<Span> = jobs.iter().map(|job| job.span).collect();
        let mut evicted = Vec::new();
        let mut done = |number: usize, result: Result<Chunk>| {
            let job = &mut jobs[number];
            let Some(ticket) = job.ticket.take() else { return };
            match result {
                Ok(chunk) => {
                    let bytes = Arc::new(chunk.into_bytes());
                    deliver(&job.span, Ok(&bytes));
                    evicted.extend(ticket.finish(Ok(bytes)));
                }
                // Whoever waits for it tries by himself, and gets an error of his own.
                Err(error) => deliver(&job.span, Err(error)),
            }
        };
        for (number, span) in wanted.iter().enumerate() {
            desk.push(&self.chain, span.id, Length::Exactly(span.len_bytes), number, &mut done);
        }
        desk.finish(&self.chain, &mut done);
        evicted.into_iter().for_each(|buffer| desk.recycle(buffer));
        self.desks().push(desk);
    }

    fn desks(&self) -> std::sync::MutexGuard<'_, Vec<Desk<usize>>> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Copies the part of a chunk that lies within `buf`; no bytes stand for zeroes.
fn copy(span: &Span, bytes: &[u8], buf: &mut [u8], offset: u64) -> Result<()> {
    let start = span.offset.max(offset);
    let end = span.end().min(offset + buf.len() as u64);
    let part = &mut buf[(start - offset) as usize..(end - offset) as usize];
    if bytes.is_empty() {
        part.fill(0);
        return Ok(());
    }
    if bytes.len() as u64 != span.len_bytes {
        // One name with two lengths: one of the two is wrong, and its chunk was good.
        let sentence = format!(
            "chunk {} of the index is said to have {} bytes: {} has {}",
            span.number,
            span.len_bytes,
            span.id,
            bytes.len()
        );
        return Err(Error::new(ErrorKind::Damaged, sentence));
    }
    let from = (start - span.offset) as usize;
    part.copy_from_slice(&bytes[from..from + part.len()]);
    Ok(())
}
