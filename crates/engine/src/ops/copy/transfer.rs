//! The loop of a copy: reads data, finds zeroes, writes each byte at most once.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use image::ranges::RangeSet;
use image::{AlignedBuf, Extent, ExtentKind, Image, ImageExt, ImageMut, Result, Task};

use super::OnReadError;
use super::rescue;
use crate::Threads;
use crate::pipeline::for_each_piece;

/// A copy of some ranges of one image onto another.
pub(crate) struct Transfer<'a> {
    pub(crate) source: &'a dyn Image,
    pub(crate) target: &'a dyn ImageMut,
    /// What is to be copied.
    pub(crate) ranges: Vec<Range<u64>>,
    pub(crate) shape: Shape,
    pub(crate) on_read_error: OnReadError,
    pub(crate) threads: Threads,
}

/// How the bytes are cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// All of the target reads as zeroes already, so that zero runs are left out.
    pub(crate) blank: bool,
    /// The data stands on the target already, because its blocks are shared: it is read to find zeroes in it,
    /// and not written.
    pub(crate) shared: bool,
    /// How much is read at once.
    pub(crate) piece_bytes: usize,
    /// Zero runs are found in multiples of this.
    pub(crate) granule_bytes: usize,
    /// Shorter zero runs between data are written with it, in one piece.
    pub(crate) zero_run_min_bytes: usize,
    /// The target is written in whole blocks of this length, whatever the runs of the source are: pieces begin and end
    /// between two of them.
    pub(crate) block_bytes: Option<u64>,
    /// Zeroes are written as any other bytes.
    pub(crate) dense: bool,
}

/// What a transfer has done so far; looked at while it runs.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    done: Mutex<Done>,
    written_bytes: AtomicU64,
    shared_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Done {
    ranges: RangeSet,
    unreadable: RangeSet,
}

impl Shape {
    /// For pieces that go through the page cache: small enough to stay in a core's own cache between being
    /// read, looked at and written.
    pub(crate) fn cached(granule_bytes: u64, blank: bool) -> Self {
        let granule_bytes = granule_bytes.clamp(512, 64 << 10) as usize;
        Shape {
            blank,
            shared: false,
            piece_bytes: 256 << 10,
            granule_bytes,
            zero_run_min_bytes: granule_bytes,
            block_bytes: None,
            dense: false,
        }
    }

    /// For pieces that go straight to or from a device, where large requests count.
    pub(crate) fn direct(granule_bytes: u64, blank: bool) -> Self {
        Shape { piece_bytes: 1 << 20, ..Shape::cached(granule_bytes, blank) }
    }

    /// The same for a target that packs blocks of `block_bytes` bytes: each is packed once, and is all data or a hole.
    pub(crate) fn of_blocks(self, block_bytes: u64) -> Self {
        let block = usize::try_from(block_bytes).unwrap_or(usize::MAX).max(1);
        let piece_bytes = (self.piece_bytes.max(BLOCKS_PIECE_BYTES) / block).max(1) * block;
        Shape {
            piece_bytes,
            granule_bytes: block,
            zero_run_min_bytes: block,
            block_bytes: Some(block_bytes),
            ..self
        }
    }

    /// Whether progress counts what needs no reading: on a blank target it costs nothing, but blocks mix it with data.
    pub(crate) fn counts_idle(&self) -> bool {
        !self.blank || self.block_bytes.is_some() || self.dense
    }
}

impl Ledger {
    /// A ledger in which `done`, of it `unreadable`, stands from an earlier run.
    pub(crate) fn resumed(done: RangeSet, unreadable: RangeSet) -> Self {
        Ledger { done: Mutex::new(Done { ranges: done, unreadable }), ..Ledger::default() }
    }

    /// `range` stands on the target, with zeroes for what of it was `unreadable`.
    pub(super) fn finish(&self, range: Range<u64>, unreadable: Vec<Range<u64>>) {
        let mut done = self.lock();
        done.ranges.insert(range);
        for range in unreadable {
            done.unreadable.insert(range);
        }
    }

    /// What is done, and what of it could not be read.
    pub(crate) fn snapshot(&self) -> (RangeSet, RangeSet) {
        let done = self.lock();
        (done.ranges.clone(), done.unreadable.clone())
    }

    /// Takes back that the last `bytes`, or all if there are fewer, are done; what is kept ends at a multiple of
    /// `unit_bytes`.
    pub(crate) fn give_up_last(&self, bytes: u64, unit_bytes: u64) {
        let mut done = self.lock();
        let mut left = done.ranges.total_bytes().saturating_sub(bytes);
        let mut kept = RangeSet::new();
        for range in done.ranges.iter() {
            if left >= range.end - range.start {
                left -= range.end - range.start;
                kept.insert(range);
            } else {
                let end = range.start + left;
                kept.insert(range.start..(end - end % unit_bytes).max(range.start));
                break;
            }
        }
        let end = kept.iter().last().map_or(0, |range| range.end);
        done.unreadable =
            done.unreadable.iter().map(|range| range.start.min(end)..range.end.min(end)).collect();
        done.ranges = kept;
    }

    /// Bytes of data that this run has written.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of data whose blocks are shared, so that this run did not write them.
    pub(crate) fn shared_bytes(&self) -> u64 {
        self.shared_bytes.load(Ordering::Relaxed)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Done> {
        self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Transfer<'_> {
    /// Copies. Each `tick_every`, `tick` is called on this thread, with the ledger as it is then.
    pub(crate) fn run(
        &self,
        task: &Task,
        ledger: &Ledger,
        tick_every: Duration,
        mut tick: impl FnMut(&Ledger) -> Result<()>,
    ) -> Result<()> {
        let work = |piece: Extent, buf: &mut AlignedBuf| {
            let unreadable = self.copy_piece(piece, buf, ledger, task)?;
            ledger.finish(piece.range(), unreadable);
            Ok(())
        };
        for_each_piece(self.threads, task, self.pieces(), work, tick_every, || tick(ledger))
    }

    /// The ranges in order, cut so that no piece of data is larger than [`Shape::piece_bytes`], and no other
    /// so large that it would be long until the next checkpoint.
    fn pieces(&self) -> impl Iterator<Item = Result<Extent>> + Send + '_ {
        let mut extents = self.extents();
        let mut rest: Option<Extent> = None;
        std::iter::from_fn(move || {
            let extent = match rest.take() {
                Some(extent) => extent,
                None => match extents.next()? {
                    Ok(extent) => extent,
                    Err(error) => return Some(Err(error)),
                },
            };
            let most = match extent.kind {
                ExtentKind::Data => self.shape.piece_bytes as u64,
                _ if self.shape.blank => u64::MAX,
                _ => QUIET_PIECE_BYTES,
            };
            let most = match (extent.kind, self.shape.block_bytes) {
                (ExtentKind::Data, _) | (_, None) => most,
                (_, Some(block_bytes)) => {
                    most.checked_next_multiple_of(block_bytes).unwrap_or(most)
                }
            };
            // Cut at multiples, so that all pieces but the first and last are aligned.
            let cut = (extent.offset - extent.offset % most).saturating_add(most).min(extent.end());
            let piece = extent.until(cut);
            if cut < extent.end() {
                rest = Some(Extent::new(cut..extent.end(), extent.kind));
            }
            Some(Ok(piece))
        })
    }

    /// The runs of the ranges, in order. With blocks, those that hold any data are data, and the ranges are whole blocks.
    fn extents(&self) -> Box<dyn Iterator<Item = Result<Extent>> + Send + '_> {
        let ranges = self.ranges.clone().into_iter();
        let as_data = |range| Ok(Extent::new(range, ExtentKind::Data));
        match self.shape.block_bytes {
            _ if self.shape.dense => Box::new(ranges.map(as_data)),
            None => Box::new(ranges.flat_map(|range| self.source.extents(range))),
            Some(block_bytes) => {
                let size = self.source.size();
                let whole = move |range: Range<u64>| {
                    let start = range.start - range.start % block_bytes;
                    let end = range.end.div_ceil(block_bytes).saturating_mul(block_bytes);
                    Blocks { source: self.source, range: start..end.min(size), block_bytes }
                };
                Box::new(ranges.flat_map(whole))
            }
        }
    }

    fn copy_piece(
        &self,
        piece: Extent,
        buf: &mut AlignedBuf,
        ledger: &Ledger,
        task: &Task,
    ) -> Result<Vec<Range<u64>>> {
        match piece.kind {
            ExtentKind::Zero => {
                self.zero(piece.range())?;
                if self.shape.counts_idle() {
                    task.advance(piece.len_bytes);
                }
                Ok(Vec::new())
            }
            ExtentKind::Unspecified => {
                if !self.shape.blank {
                    self.target.forget(piece.range())?;
                }
                if self.shape.counts_idle() {
                    task.advance(piece.len_bytes);
                }
                Ok(Vec::new())
            }
            ExtentKind::Data => self.copy_data(piece.range(), buf, ledger, task),
        }
    }

    /// Reads a piece, writes what is not zero, and zeroes the rest. Returns what could not be read.
    fn copy_data(
        &self,
        piece: Range<u64>,
        buf: &mut AlignedBuf,
        ledger: &Ledger,
        task: &Task,
    ) -> Result<Vec<Range<u64>>> {
        let len = piece.end - piece.start;
        buf.grow_to(self.shape.piece_bytes);
        let bytes = &mut buf[..len as usize];
        let unreadable = match self.on_read_error {
            OnReadError::Stop => {
                self.source.read_at(bytes, piece.start)?;
                Vec::new()
            }
            OnReadError::Zero => rescue::read(self.source, bytes, piece.start, task)?,
        };
        let all = std::iter::once((0..bytes.len(), false)).filter(|_| self.shape.dense);
        let found = runs(bytes, self.shape).filter(|_| !self.shape.dense);
        for (run, is_zero) in all.chain(found) {
            let range = piece.start + run.start as u64..piece.start + run.end as u64;
            let run_bytes = range.end - range.start;
            if is_zero {
                self.zero(range)?;
            } else if self.shape.shared && unreadable.is_empty() {
                ledger.shared_bytes.fetch_add(run_bytes, Ordering::Relaxed);
            } else {
                self.target.write_at(&bytes[run], range.start)?;
                ledger.written_bytes.fetch_add(run_bytes, Ordering::Relaxed);
            }
        }
        task.advance(len);
        Ok(unreadable)
    }

    fn zero(&self, range: Range<u64>) -> Result<()> {
        if self.shape.blank {
            return Ok(());
        }
        // What is a hole in the target already stays one.
        for extent in self.target.extents(range) {
            let extent = extent?;
            if extent.kind != ExtentKind::Zero {
                self.target.zero(extent.range())?;
            }
        }
        Ok(())
    }
}

/// The runs of a range of `source`, as whole blocks. The range begins between two blocks, and ends so or with the image.
struct Blocks<'a> {
    source: &'a dyn Image,
    range: Range<u64>,
    block_bytes: u64,
}

impl Iterator for Blocks<'_> {
    type Item = Result<Extent>;

    fn next(&mut self) -> Option<Self::Item> {
        let Range { start, end } = self.range;
        let run = match self.source.extents(start..end).next()? {
            Ok(run) => run,
            Err(error) => {
                self.range.start = end;
                return Some(Err(error));
            }
        };
        let whole = run.end() - run.end() % self.block_bytes;
        let quiet_end = if run.end() == end { end } else { whole };
        let found = if run.kind != ExtentKind::Data && quiet_end > start {
            Extent::new(start..quiet_end, run.kind)
        } else {
            let up = run.end().div_ceil(self.block_bytes).saturating_mul(self.block_bytes);
            Extent::new(start..up.min(end), ExtentKind::Data)
        };
        self.range.start = found.end();
        Some(Ok(found))
    }
}

/// How much of the blocks of a target is read at once, in bytes, unless one of them is larger.
const BLOCKS_PIECE_BYTES: usize = 1 << 20;

/// How much is zeroed or discarded in one call.
const QUIET_PIECE_BYTES: u64 = 64 << 20;

/// Cuts `bytes` into runs that are all zero and runs that are not. Zero runs are whole granules (the last may be
/// short) and at least [`Shape::zero_run_min_bytes`] long, unless all of `bytes` is zero.
fn runs(bytes: &[u8], shape: Shape) -> impl Iterator<Item = (Range<usize>, bool)> + '_ {
    let granule = shape.granule_bytes;
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= bytes.len() {
            return None;
        }
        let start = at;
        let zeroes = digest::zero_prefix_len(&bytes[at..], granule);
        if zeroes >= shape.zero_run_min_bytes || zeroes == bytes.len() - at && zeroes > 0 {
            at += zeroes;
            return Some((start..at, true));
        }
        // Data: up to the next zero run that is long enough.
        at += zeroes;
        while at < bytes.len() {
            let zeroes = digest::zero_prefix_len(&bytes[at..], granule);
            let ends_here = at + zeroes == bytes.len();
            if zeroes > 0 && (zeroes >= shape.zero_run_min_bytes || ends_here) {
                break;
            }
            at += zeroes.max(granule.min(bytes.len() - at));
        }
        Some((start..at, false))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_cover_all_bytes_and_tell_the_truth(
            blocks in prop::collection::vec(0usize..3, 1..60), tail in 0usize..16, min in 1usize..5,
        ) {
            let granule = 16;
            let mut bytes = Vec::new();
            for (number, kind) in blocks.iter().enumerate() {
                let mut block = vec![0u8; granule];
                if *kind == 0 {
                    block[number % granule] = 1;
                }
                bytes.extend(block);
            }
            bytes.extend(vec![0u8; tail]);
            let shape = Shape {
                blank: false, shared: false, piece_bytes: 0, granule_bytes: granule, zero_run_min_bytes: min * granule,
                block_bytes: None, dense: false,
            };
            let mut at = 0;
            let mut last = None;
            for (range, is_zero) in runs(&bytes, shape) {
                prop_assert_eq!(range.start, at);
                prop_assert!(range.end > at);
                prop_assert_ne!(last, Some(is_zero), "neighbours of one kind are merged");
                prop_assert_eq!(range.start % granule, 0);
                if is_zero {
                    prop_assert!(bytes[range.clone()].iter().all(|&byte| byte == 0));
                }
                let first_is_data = bytes[range.start..].iter().take(granule).any(|&byte| byte != 0);
                prop_assert!(min > 1 || is_zero != first_is_data);
                at = range.end;
                last = Some(is_zero);
            }
            prop_assert_eq!(at, bytes.len());
        }
    }
}
