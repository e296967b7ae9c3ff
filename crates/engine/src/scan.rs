//! The loop of a verification: takes the digest of each chunk where it should stand. Holes are not read.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chunks::ChunkId;
use chunks::index::{Index, Span};
use image::layers::Throttle;
use image::ranges::RangeSet;
use image::{AlignedBuf, Extent, ExtentKind, Image, ImageExt, Phase, Result, Task};

use crate::matching::are_right;
use crate::pipeline::for_each_piece;
use crate::{Amount, Threads};

/// Chunks that are to be looked at.
pub(crate) struct Scan<'a> {
    pub(crate) index: &'a Index,
    /// What should hold the blob, from its beginning on.
    pub(crate) image: &'a dyn Image,
    pub(crate) threads: Threads,
    /// The numbers of the chunks, in order.
    pub(crate) numbers: Vec<Range<u64>>,
    pub(crate) throttle: Option<Throttle>,
}

/// What a scan found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// Chunks that were read and are right.
    pub right: Amount,
    /// Chunks that are holes, and should be zero.
    pub holes: Amount,
    /// Chunks that are not what the index says, or lie past the end.
    pub bad: Amount,
    /// The numbers of bad chunks, in ranges; of very many, the first.
    pub(crate) ranges: RangeSet,
    /// Whether all bad chunks are in `ranges`.
    pub(crate) is_complete: bool,
}

impl Default for Findings {
    fn default() -> Self {
        let [right, holes, bad] = [Amount::default(); 3];
        Findings { right, holes, bad, ranges: RangeSet::new(), is_complete: true }
    }
}

impl Findings {
    /// The first `most` of the bad ranges, in bytes.
    ///
    /// # Errors
    ///
    /// If the index cannot be read any more.
    pub(crate) fn bad_ranges(&self, index: &Index, most: usize) -> Result<Vec<Range<u64>>> {
        let span = |number: u64| index.chunks(number..number + 1).next().transpose();
        let mut ranges = Vec::new();
        for numbers in self.ranges.iter().take(most) {
            if let (Some(first), Some(last)) = (span(numbers.start)?, span(numbers.end - 1)?) {
                ranges.push(first.offset..last.end());
            }
        }
        Ok(ranges)
    }

    fn add_bad(&mut self, span: &Span) {
        self.bad.chunks += 1;
        self.bad.bytes += span.len_bytes;
        if self.ranges.count() >= RANGES_MAX {
            // The list keeps what stands in front of a chunk that is not in it.
            self.is_complete = false;
            return;
        }
        self.ranges.insert(span.number..span.number + 1);
    }
}

/// How much is read at once: many chunks for the lanes.
const BATCH_BYTES: u64 = 4 << 20;
/// How many chunks in holes are looked at at once.
const HOLE_BATCH: usize = 4096;
/// Some MiB of memory.
const RANGES_MAX: usize = 1 << 16;
const ALIGNMENT: u64 = AlignedBuf::ALIGNMENT as u64;

/// Chunks one behind the other.
struct Batch {
    spans: Vec<Span>,
    /// All of it is a hole, which need not be read.
    is_hole: bool,
}

/// Looks.
pub(crate) fn scan(what: &Scan<'_>, task: &Task) -> Result<Findings> {
    let total_bytes = match &what.numbers[..] {
        [all] if *all == (0..what.index.count()) => what.index.size_bytes(),
        _ => 0,
    };
    task.begin(Phase::Verify, total_bytes);
    let findings = Mutex::new(Findings::default());
    let zeroes = ZeroIds { index: what.index, known: Mutex::default() };
    let work = |batch: Batch, buf: &mut AlignedBuf| {
        let right = match batch.is_hole {
            true => batch.spans.iter().map(|span| zeroes.of(span.len_bytes) == span.id).collect(),
            false => right_chunks(what, &batch.spans, buf)?,
        };
        let mut findings = findings.lock().unwrap_or_else(PoisonError::into_inner);
        for (span, is_right) in batch.spans.iter().zip(right) {
            let amount = match (is_right, batch.is_hole) {
                (false, _) => {
                    findings.add_bad(span);
                    continue;
                }
                (true, true) => &mut findings.holes,
                (true, false) => &mut findings.right,
            };
            amount.chunks += 1;
            amount.bytes += span.len_bytes;
        }
        task.advance(batch.spans.iter().map(|span| span.len_bytes).sum());
        Ok(())
    };
    let never = Duration::from_secs(3600);
    for_each_piece(what.threads, task, batches(what), work, never, || Ok(()))?;
    Ok(findings.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// The chunks in order, those in holes apart from the others.
fn batches<'a>(what: &'a Scan<'_>) -> impl Iterator<Item = Result<Batch>> + Send + 'a {
    let mut spans = what.numbers.clone().into_iter().flat_map(|range| what.index.chunks(range));
    let mut map = Map { image: what.image, current: None };
    let mut next: Option<(Span, bool)> = None;
    std::iter::from_fn(move || {
        let mut batch: Option<Batch> = None;
        loop {
            let (span, is_hole) = match next.take() {
                Some(next) => next,
                None => match spans.next() {
                    Some(Ok(span)) => match map.is_hole(&span) {
                        Ok(is_hole) => (span, is_hole),
                        Err(error) => return Some(Err(error)),
                    },
                    Some(Err(error)) => return Some(Err(error)),
                    None => return batch.map(Ok),
                },
            };
            let Some(batch_now) = &mut batch else {
                batch = Some(Batch { spans: vec![span], is_hole });
                continue;
            };
            let first = batch_now.spans[0].offset;
            let last_end = batch_now.spans[batch_now.spans.len() - 1].end();
            let fits = match is_hole {
                true => batch_now.spans.len() < HOLE_BATCH,
                false => span.end() - first <= BATCH_BYTES,
            };
            if batch_now.is_hole == is_hole && last_end == span.offset && fits {
                batch_now.spans.push(span);
            } else {
                next = Some((span, is_hole));
                return batch.map(Ok);
            }
        }
    })
}

/// The map of an image, walked forwards.
struct Map<'a> {
    image: &'a dyn Image,
    current: Option<Extent>,
}

impl Map<'_> {
    /// Whether all of the chunk is known to be zero without reading.
    fn is_hole(&mut self, span: &Span) -> Result<bool> {
        if span.end() > self.image.size() {
            return Ok(false);
        }
        let mut at = span.offset;
        while at < span.end() {
            let extent = match self.current {
                Some(extent) if extent.range().contains(&at) => extent,
                _ => *self.current.insert(self.image.extent_at(at)?),
            };
            if extent.kind != ExtentKind::Zero {
                return Ok(false);
            }
            at = extent.end();
        }
        Ok(true)
    }
}

/// Which of the chunks, one behind the other, stand where they should.
fn right_chunks(what: &Scan<'_>, spans: &[Span], buf: &mut AlignedBuf) -> Result<Vec<bool>> {
    let mut right = vec![false; spans.len()];
    let inside = spans.partition_point(|span| span.end() <= what.image.size());
    let spans = &spans[..inside];
    let (Some(first), Some(last)) = (spans.first(), spans.last()) else { return Ok(right) };
    // Whole blocks from a block's beginning on, so that they may be read straight from the medium.
    let start = first.offset - first.offset % ALIGNMENT;
    let end = last.end().next_multiple_of(ALIGNMENT).min(what.image.size());
    let len = (end - start) as usize;
    if let Some(throttle) = &what.throttle {
        throttle.take(end - start);
    }
    buf.grow_to(len);
    what.image.read_sparse(&mut buf[..len], start)?;
    let bytes = &buf[(first.offset - start) as usize..len];
    let found = are_right(what.index.algorithm(), spans, bytes);
    right[..inside].copy_from_slice(&found);
    Ok(right)
}

/// The names of chunks of zeroes, each taken once.
struct ZeroIds<'a> {
    index: &'a Index,
    known: Mutex<HashMap<u64, ChunkId>>,
}

impl ZeroIds<'_> {
    fn of(&self, len_bytes: u64) -> ChunkId {
        /// More lengths than an honest index has in its holes.
        const KNOWN_MAX: usize = 1 << 12;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = known.get(&len_bytes) {
            return *id;
        }
        let id = ChunkId::of_zeroes(self.index.algorithm(), len_bytes);
        if known.len() < KNOWN_MAX {
            known.insert(len_bytes, id);
        }
        id
    }
}
