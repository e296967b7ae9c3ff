//! The loop of an extract: takes each piece from its source, believes it by its digest, and writes it.

use std::fs::File;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chunks::index::{Index, Span};
use chunks::store::{Chain, Chunk, Fetcher, Length};
use image::layers::Throttle;
use image::{AlignedBuf, Error, ExtentKind, Image, ImageExt, ImageMut, Result, Task};

use super::counts::Counts;
use super::plain::PlainChunks;
use super::runs::{Cut, runs};
use super::seeds::Seed;
use super::supply::{From, Given, Pass, Piece, Supply};
use super::tables::{Repeats, Zeroes};
use crate::matching::{are_right, longest_first};
use crate::pipeline::for_each_piece_with;
use crate::reflink::is_unsupported;
use crate::{Reflink, Threads};

/// A blob that is put together on a target.
pub(crate) struct Assembly<'a> {
    pub(super) index: &'a Index,
    pub(super) target: &'a dyn ImageMut,
    /// The target, if it can share blocks with others.
    pub(super) file: Option<&'a File>,
    /// All of the target reads as zeroes at first.
    pub(super) blank: bool,
    pub(super) is_device: bool,
    pub(super) seeds: &'a [Seed],
    pub(super) chain: &'a Chain,
    /// Where the chunks of the chain may lie as they are.
    pub(super) plain: PlainChunks,
    pub(super) repeats: &'a Repeats,
    pub(super) zeroes: &'a Zeroes,
    pub(super) reflink: Reflink,
    pub(super) crew: Crew,
    pub(super) throttle: Option<Throttle>,
    pub(super) counts: Counts,
    /// It was found that blocks cannot be shared, for each seed and for the target with itself.
    pub(super) cannot_share: Vec<AtomicBool>,
}

/// How many work, and on how much at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crew {
    threads: Threads,
    batch_bytes: u64,
}

impl Crew {
    /// More threads than processors where most of a fetch from `chain` is waiting.
    pub(super) fn of(threads: Threads, chain: &Chain) -> Self {
        let count = match threads {
            Threads::Automatic => threads.count().max(chain.parallel_fetches().min(64)),
            exactly => exactly.count(),
        };
        Crew {
            threads: count.try_into().map_or(threads, Threads::Exactly),
            batch_bytes: (BATCHES_BYTES / count as u64).clamp(1 << 20, 4 << 20),
        }
    }
}

/// What each thread keeps from piece to piece.
struct Tools<'a> {
    fetcher: Fetcher<'a, usize>,
    /// What is to be written.
    buf: AlignedBuf,
    /// What stands on the target.
    old: AlignedBuf,
    spare: Vec<Vec<u8>>,
}

/// Where the bytes of a run are read that is not fetched.
struct Origin<'a> {
    image: &'a dyn Image,
    file: Option<&'a File>,
    /// Where the run begins on the target.
    start: u64,
    /// Where it begins here.
    offset: u64,
    seed: Option<usize>,
}

/// Short zero runs on a device are cheaper written with the data around them than zeroed by a call of their own.
const DEVICE_ZERO_RUN_MIN_BYTES: usize = 64 << 10;
/// How much is zeroed in one call, on a target that is not blank.
const ZERO_PIECE_BYTES: u64 = 64 << 20;
/// All threads together hold some multiple of this in memory, unless chunks are larger.
const BATCHES_BYTES: u64 = 8 << 20;
const ALIGNMENT: u64 = AlignedBuf::ALIGNMENT as u64;

impl<'a> Assembly<'a> {
    /// Puts the chunks with these numbers where they belong.
    ///
    /// # Errors
    ///
    /// Of the first chunk that nobody has in a good state, with the stores that were asked; of reading and writing.
    /// What was written stays.
    pub(crate) fn run(&self, numbers: &[Range<u64>], task: &Task) -> Result<()> {
        let given = self.given();
        let passes = [Pass::Firsts, Pass::Copies];
        let count = if self.repeats.is_empty() { 1 } else { 2 };
        let tools = || Tools {
            fetcher: self.chain.fetcher(),
            buf: AlignedBuf::default(),
            old: AlignedBuf::default(),
            spare: Vec::new(),
        };
        let say = || {
            for sentence in self.chain.take_warnings() {
                task.warn(sentence);
            }
        };
        let tick = || {
            say();
            Ok(())
        };
        let second = Duration::from_secs(1);
        let mut done = Ok(());
        for pass in &passes[..count] {
            let supply = Supply::new(given, numbers.to_vec(), *pass);
            let work = |piece: Piece, tools: &mut Tools<'a>| self.work(piece, tools, task);
            done = for_each_piece_with(self.crew.threads, task, supply, tools, work, second, tick);
            if done.is_err() {
                break;
            }
        }
        say();
        done
    }

    /// What a supply of pieces is made from.
    fn given(&self) -> Given<'a> {
        Given {
            index: self.index,
            seeds: self.seeds,
            repeats: self.repeats,
            zeroes: self.zeroes,
            batch_bytes: self.crew.batch_bytes,
            zero_bytes: if self.blank { u64::MAX } else { ZERO_PIECE_BYTES },
        }
    }

    fn work(&self, piece: Piece, tools: &mut Tools<'a>, task: &Task) -> Result<()> {
        let (spans, from) = match piece {
            Piece::Zero { range, chunks } => {
                let len = range.end - range.start;
                self.counts.zero.add(chunks, len);
                if !self.blank {
                    self.zero(range)?;
                    task.advance(len);
                }
                return Ok(());
            }
            Piece::Data { spans, from } => (spans, from),
        };
        if self.blank {
            return self.fill(&spans, from, tools, task);
        }
        for batch in batches(&spans, self.crew.batch_bytes) {
            let missing = self.missing(batch, tools)?;
            let kept = batch.len() - missing.iter().map(|run| run.len()).sum::<usize>();
            let bytes = missing.iter().map(|run| len_of(run)).sum::<u64>();
            self.counts.in_place.add(kept as u64, len_of(batch) - bytes);
            task.advance(len_of(batch) - bytes);
            for run in missing {
                let into = run[0].offset - spans[0].offset;
                self.fill(run, from.further(into), tools, task)?;
            }
        }
        Ok(())
    }

    /// Puts chunks on the target that are not there: a run of them.
    fn fill(&self, spans: &[Span], from: From, tools: &mut Tools<'a>, task: &Task) -> Result<()> {
        let start = spans[0].offset;
        let origin = match from {
            From::Store => return self.fetch(spans, tools, task),
            From::Seed { seed, offset } => {
                let Seed { image, file, .. } = &self.seeds[seed];
                Origin { image: &**image, file: file.as_ref(), start, offset, seed: Some(seed) }
            }
            From::Earlier { offset } => {
                Origin { image: self.target, file: self.file, start, offset, seed: None }
            }
        };
        let failed = self.take(spans, &origin, tools, task)?;
        for run in failed.chunk_by(|a, b| a.end() == b.offset) {
            for batch in batches(run, self.crew.batch_bytes) {
                self.fetch(batch, tools, task)?;
            }
        }
        Ok(())
    }

    /// Fetches a run of chunks and writes it. Of a run that cannot be had as a whole, what can is written.
    fn fetch(&self, spans: &[Span], tools: &mut Tools<'a>, task: &Task) -> Result<()> {
        let start = spans[0].offset;
        let len = len_of(spans);
        if let Some(throttle) = &self.throttle {
            throttle.take(len);
        }
        let Tools { fetcher, buf, spare, .. } = tools;
        // Lies in memory as it will lie on the target, for direct I/O.
        let base = (start % ALIGNMENT) as usize;
        grow(buf, base + len as usize);
        let bytes = &mut buf[base..base + len as usize];
        let is_there = vec![false; spans.len()];
        let mut landing = Landing { spans, bytes, is_there, failure: None, spare };
        for number in longest_first(spans) {
            if task.is_cancelled() {
                break;
            }
            let Span { id, len_bytes, .. } = spans[number];
            let length = Length::Exactly(len_bytes);
            fetcher.push(id, length, number, &mut |number, result| landing.land(number, result));
            // At once, while it is still in a near cache.
            landing.spare.drain(..).for_each(|bytes| fetcher.recycle(bytes));
        }
        fetcher.finish(&mut |number, result| landing.land(number, result));
        let Landing { is_there, failure, spare, .. } = landing;
        spare.drain(..).for_each(|bytes| fetcher.recycle(bytes));
        let numbers: Vec<usize> = (0..spans.len()).collect();
        for run in numbers.chunk_by(|&a, &b| is_there[a] == is_there[b]) {
            if is_there[run[0]] {
                let run = &spans[run[0]..=run[run.len() - 1]];
                self.write_fetched(run, &buf[base + (run[0].offset - start) as usize..])?;
                task.advance(len_of(run));
            }
        }
        match failure {
            Some(error) => Err(error),
            None => task.checkpoint(),
        }
    }

    /// Writes a run of chunks that `bytes` begin with, but for blocks that the target can share with a store.
    fn write_fetched(&self, spans: &[Span], bytes: &[u8]) -> Result<()> {
        let start = spans[0].offset;
        let mut from = 0;
        if let (Some(file), true) = (self.file, self.reflink != Reflink::Never) {
            for span in spans {
                let at = (span.offset - start) as usize;
                let chunk = &bytes[at..at + span.len_bytes as usize];
                let shared = self.plain.share(span, chunk, file, self.granule())? as usize;
                if shared > 0 {
                    self.counts.store_cloned_bytes.fetch_add(shared as u64, Ordering::Relaxed);
                    self.write(&bytes[from..at], start + from as u64)?;
                    from = at + shared;
                }
            }
        }
        self.write(&bytes[from..len_of(spans) as usize], start + from as u64)
    }

    /// Takes a run of chunks from where it seems to stand. Returns those that are something else there.
    ///
    /// Where blocks are shared, the part of a block at the end of a batch waits for the next batch, so that all blocks
    /// of the run but the first and the last are shared.
    fn take(
        &self,
        spans: &[Span],
        origin: &Origin<'_>,
        tools: &mut Tools<'_>,
        task: &Task,
    ) -> Result<Vec<Span>> {
        let buf = &mut tools.buf;
        let end = spans[spans.len() - 1].end();
        let mut failed = Vec::new();
        let mut held = Vec::new();
        for batch in batches(spans, self.crew.batch_bytes) {
            task.checkpoint()?;
            let (start, len) = (batch[0].offset, len_of(batch));
            if let Some(throttle) = &self.throttle {
                throttle.take(len);
            }
            // What is held stands in front of what is read, both as they will lie on the target.
            let first = start - held.len() as u64;
            let base = (first % ALIGNMENT) as usize;
            grow(buf, base + held.len() + len as usize);
            let bytes = &mut buf[base..base + held.len() + len as usize];
            let (before, new) = bytes.split_at_mut(held.len());
            before.copy_from_slice(&held);
            // What cannot be read there is taken from elsewhere, as what is wrong there.
            let is_read = origin.image.read_sparse(new, origin.place_of(start)).is_ok();
            let right = if is_read {
                are_right(self.index.algorithm(), batch, new)
            } else {
                vec![false; batch.len()]
            };
            self.judge(batch, &right, origin, task);
            let share = self.can_share(origin);
            let part = |range: &Range<u64>| {
                &bytes[(range.start - first) as usize..(range.end - first) as usize]
            };
            let mut ready = first..start;
            for (span, _) in batch.iter().zip(&right).filter(|(_, right)| !**right) {
                ready.end = span.offset;
                self.put(part(&ready), &ready, origin, share)?;
                failed.push(*span);
                ready = span.end()..span.end();
            }
            ready.end = start + len;
            let mut until = ready.end;
            if share && ready.end < end {
                until = (until - until % self.granule()).max(ready.start);
            }
            let now = ready.start..until;
            self.put(part(&now), &now, origin, share)?;
            held = part(&(until..ready.end)).to_vec();
        }
        Ok(failed)
    }

    /// Counts what a seed, or the blob itself, had.
    fn judge(&self, batch: &[Span], right: &[bool], origin: &Origin<'_>, task: &Task) {
        let good = || batch.iter().zip(right).filter(|(_, right)| **right).map(|(span, _)| span);
        let (chunks, bytes) = (good().count() as u64, good().map(|span| span.len_bytes).sum());
        task.advance(bytes);
        match origin.seed {
            Some(seed) => {
                self.counts.seeds.add(chunks, bytes);
                self.seeds[seed].judge(chunks, batch.len() as u64 - chunks, task);
            }
            None => self.counts.own.add(chunks, bytes),
        }
    }

    /// Puts `bytes`, which are what stands at `origin`, at `range` of the target.
    fn put(
        &self,
        bytes: &[u8],
        range: &Range<u64>,
        origin: &Origin<'_>,
        share: bool,
    ) -> Result<()> {
        let block = self.granule();
        let inner = range.start.next_multiple_of(block)..range.end - range.end % block;
        if !share || inner.is_empty() || !self.share(&inner, origin)? {
            return self.write(bytes, range.start);
        }
        let (head, tail) = (inner.start - range.start, inner.end - range.start);
        self.write(&bytes[..head as usize], range.start)?;
        self.write(&bytes[tail as usize..], inner.end)
    }

    /// Whether whole blocks of `origin` could become blocks of the target.
    fn can_share(&self, origin: &Origin<'_>) -> bool {
        let is_file = self.file.is_some() && origin.file.is_some();
        is_file
            && self.reflink != Reflink::Never
            && origin.start % self.granule() == origin.offset % self.granule()
            && !self.cannot_share[origin.number(self)].load(Ordering::Relaxed)
    }

    /// Shares the blocks of `range`; `false` where that is impossible.
    fn share(&self, range: &Range<u64>, origin: &Origin<'_>) -> Result<bool> {
        let (Some(target), Some(source)) = (self.file, origin.file) else { return Ok(false) };
        let from = origin.place_of(range.start)..origin.place_of(range.end);
        match sys::clone_range_to(source, from, target, range.start) {
            Ok(()) => {
                let counter = match origin.seed {
                    Some(_) => &self.counts.cloned_bytes,
                    None => &self.counts.own_cloned_bytes,
                };
                counter.fetch_add(range.end - range.start, Ordering::Relaxed);
                Ok(true)
            }
            Err(cause) if !is_unsupported(&cause) => {
                Err(Error::io("cannot share blocks with the target", cause))
            }
            Err(cause) if self.reflink == Reflink::Always => Err(Error::new(
                image::ErrorKind::Unsupported,
                "the seed and the target cannot share blocks (both have to be files on one filesystem that can, such \
                 as XFS or Btrfs)",
            )
            .because(cause)),
            Err(_) => {
                self.cannot_share[origin.number(self)].store(true, Ordering::Relaxed);
                Ok(false)
            }
        }
    }

    /// The parts of `batch` that are not on the target yet, each without gaps.
    fn missing<'s>(&self, batch: &'s [Span], tools: &mut Tools<'_>) -> Result<Vec<&'s [Span]>> {
        let range = batch[0].offset..batch[batch.len() - 1].end();
        let base = (range.start % ALIGNMENT) as usize;
        let old = &mut tools.old;
        grow(old, base + (range.end - range.start) as usize);
        let bytes = &mut old[base..base + (range.end - range.start) as usize];
        let mut is_hole = vec![true; batch.len()];
        for extent in self.target.extents(range.clone()) {
            let extent = extent?;
            let from = (extent.offset - range.start) as usize;
            let part = &mut bytes[from..from + extent.len_bytes as usize];
            if extent.kind != ExtentKind::Data {
                part.fill(0);
                continue;
            }
            self.target.read_at(part, extent.offset)?;
            let first = batch.partition_point(|span| span.end() <= extent.offset);
            let behind = batch.partition_point(|span| span.offset < extent.end());
            is_hole[first..behind].fill(false);
        }
        if is_hole.iter().all(|is_hole| *is_hole) {
            // A chunk that is zero would not have come here.
            return Ok(vec![batch]);
        }
        let is_there = are_right(self.index.algorithm(), batch, bytes);
        let numbers: Vec<usize> = (0..batch.len()).collect();
        let runs = numbers.chunk_by(|&a, &b| is_there[a] == is_there[b]);
        let missing = runs.filter(|run| !is_there[run[0]]);
        Ok(missing.map(|run| &batch[run[0]..=run[run.len() - 1]]).collect())
    }

    /// Writes bytes, but for zeroes that are there already or that the system makes.
    fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let cut = Cut {
            granule_bytes: self.granule() as usize,
            zero_run_min_bytes: match self.is_device {
                true => DEVICE_ZERO_RUN_MIN_BYTES,
                false => self.granule() as usize,
            },
            free_ends: self.blank,
        };
        for (run, is_zero) in runs(bytes, offset, cut) {
            let range = offset + run.start as u64..offset + run.end as u64;
            match (is_zero, self.is_device) {
                (true, _) if self.blank => {}
                (true, _) => self.zero(range)?,
                (false, false) => self.target.write_at(&bytes[run], range.start)?,
                (false, true) => {
                    // Whole blocks go straight to the device, where they lie aligned in memory; the ends cannot.
                    let head = range.start.next_multiple_of(ALIGNMENT).min(range.end);
                    let tail = (range.end - range.end % ALIGNMENT).max(head);
                    for part in [range.start..head, head..tail, tail..range.end] {
                        let from = (part.start - offset) as usize;
                        let part_bytes = &bytes[from..from + (part.end - part.start) as usize];
                        if !part_bytes.is_empty() {
                            self.target.write_at(part_bytes, part.start)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Zeroes a range of a target that is not blank. What is a hole already stays one.
    fn zero(&self, range: Range<u64>) -> Result<()> {
        for extent in self.target.extents(range) {
            let extent = extent?;
            if extent.kind != ExtentKind::Zero {
                self.target.zero(extent.range())?;
            }
        }
        Ok(())
    }

    /// The block of the target, in which it keeps holes apart and shares.
    fn granule(&self) -> u64 {
        match self.is_device {
            true => ALIGNMENT,
            false => self.target.block_size_bytes().clamp(512, 64 << 10),
        }
    }
}

impl Origin<'_> {
    /// Where in it the byte stands that goes to `offset` of the target.
    fn place_of(&self, offset: u64) -> u64 {
        self.offset + (offset - self.start)
    }

    /// Its number among those that blocks are shared with.
    fn number(&self, assembly: &Assembly<'_>) -> usize {
        self.seed.unwrap_or(assembly.seeds.len())
    }
}

impl From {
    /// The source of what stands `bytes` further behind.
    fn further(self, bytes: u64) -> From {
        match self {
            From::Seed { seed, offset } => From::Seed { seed, offset: offset + bytes },
            From::Earlier { offset } => From::Earlier { offset: offset + bytes },
            From::Store => From::Store,
        }
    }
}

/// Makes a buffer large enough, and somewhat larger, so that this happens once.
fn grow(buf: &mut AlignedBuf, len: usize) {
    if buf.len() < len {
        buf.grow_to(len.next_multiple_of(1 << 20));
    }
}

/// Where fetched chunks come together.
struct Landing<'a> {
    spans: &'a [Span],
    /// The bytes of all of them.
    bytes: &'a mut [u8],
    is_there: Vec<bool>,
    failure: Option<Error>,
    /// Memory of chunks that is free again.
    spare: &'a mut Vec<Vec<u8>>,
}

impl Landing<'_> {
    fn land(&mut self, number: usize, result: Result<Chunk>) {
        match result {
            Ok(chunk) => {
                let from = (self.spans[number].offset - self.spans[0].offset) as usize;
                self.bytes[from..from + chunk.bytes().len()].copy_from_slice(chunk.bytes());
                self.is_there[number] = true;
                self.spare.push(chunk.into_bytes());
            }
            Err(error) => {
                self.failure.get_or_insert(error);
            }
        }
    }
}

/// Cuts a run into batches of at most so many bytes, or one chunk if that is larger.
fn batches(spans: &[Span], batch_bytes: u64) -> impl Iterator<Item = &[Span]> {
    let mut rest = spans;
    std::iter::from_fn(move || {
        let start = rest.first()?.offset;
        let fits = rest.iter().take_while(|span| span.end() - start <= batch_bytes).count();
        let (batch, more) = rest.split_at(fits.max(1));
        rest = more;
        Some(batch)
    })
}

/// How many bytes a run of chunks has.
fn len_of(spans: &[Span]) -> u64 {
    match (spans.first(), spans.last()) {
        (Some(first), Some(last)) => last.end() - first.offset,
        _ => 0,
    }
}
