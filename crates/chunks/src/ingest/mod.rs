//! From an image to its chunks: read, cut, named and kept on all cores, once, in bounded memory.
//!
//! ```text
//! Feed ──▶ read, search ──▶ Sequencer ──▶ Lanes ──▶ Keep (store) ──▶ Ledger ──▶ index
//! in order   any thread      in order     any thread, each its own    in order
//! ```
//!
//! Every thread does all of it: it hashes what was cut, and when there is nothing to hash, reads and searches the
//! next block. The map of the image comes first: holes are neither read nor hashed.
//!
//! Memory: three times the largest chunk, and some 10 MiB for each thread.

mod block;
mod feed;
mod keep;
mod ledger;
mod sequence;
#[cfg(test)]
mod tests;

pub use block::Pieces;
pub use keep::{Existing, Keep, Keeper, Kept, NameOnly, Totals, Wondered};
pub use ledger::Run;

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use digest::rolling::{Candidates, WINDOW_BYTES};
use digest::{Algorithm, DIGEST_BYTES, Lanes, Message};
use image::{Error, Image, Result, Task};

use crate::ChunkId;
use crate::chunker::Cutting;
use block::{BLOCK_BYTES, Buffer, Pool};
use feed::{Block, Feed, Next};
use ledger::Ledger;
use sequence::{Cut, Segment, Sequencer};

/// Buffers besides those that one chunk needs, for each thread.
const BLOCKS_PER_THREAD: usize = 8;

/// Cuts `image`, names its chunks, hands each to `keep`, and calls `write` with their names in order.
///
/// Advances `task` by the bytes of the image, also by those of holes.
///
/// # Errors
///
/// That of the image, of `keep` or of `write` that came first; `Cancelled`.
pub fn ingest<K: Keep>(
    image: &dyn Image,
    cutting: &Cutting,
    algorithm: Algorithm,
    threads: usize,
    task: &Task,
    keep: &K,
    write: impl FnMut(Run) -> Result<()> + Send,
) -> Result<()> {
    let threads = threads.max(1);
    // Between two holes, data may begin and end in the middle of a block.
    let of_one_chunk = 3 * (cutting.sizes().max() as usize).div_ceil(BLOCK_BYTES) + 4;
    let shared = Shared {
        image,
        task,
        algorithm,
        keep,
        candidates: cutting.candidates(),
        pool: Pool::new(of_one_chunk + threads * BLOCKS_PER_THREAD),
        feed: Mutex::new((Feed::new(image), 0)),
        state: Mutex::new(State {
            sequencer: Sequencer::new(cutting, algorithm),
            ledger: Ledger::new(write),
            zeroes_kept: HashSet::new(),
            under_way: 0,
            feed_ended: false,
            ended: false,
        }),
        queue: Mutex::new(VecDeque::new()),
        stop: AtomicBool::new(false),
        failure: Mutex::new(None),
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| shared.work());
        }
        shared.work();
    });
    if let Some(error) = lock(&shared.failure).take() {
        return Err(error);
    }
    lock(&shared.state).ledger.write(true)
}

/// What the threads share.
struct Shared<'a, K, W> {
    image: &'a dyn Image,
    task: &'a Task,
    algorithm: Algorithm,
    keep: &'a K,
    candidates: Option<Candidates>,
    pool: Arc<Pool>,
    /// The source, and the number of its next segment.
    feed: Mutex<(Feed<'a>, u64)>,
    state: Mutex<State<W>>,
    /// Chunks that wait for a lane.
    queue: Mutex<VecDeque<Job>>,
    stop: AtomicBool,
    failure: Mutex<Option<Error>>,
}

struct State<W> {
    sequencer: Sequencer,
    ledger: Ledger<W>,
    /// Lengths of the chunks of zeroes that were kept.
    zeroes_kept: HashSet<u64>,
    /// Segments that were handed out and not yet taken by the sequencer.
    under_way: u64,
    feed_ended: bool,
    /// The last chunk was cut.
    ended: bool,
}

/// A chunk on its way through the lanes.
struct Job {
    slot: u64,
    pieces: Pieces,
}

impl Message for Job {
    fn piece(&self, number: usize) -> Option<&[u8]> {
        self.pieces.piece(number)
    }
}

/// What a thread found to do.
enum Found {
    Block(u64, Block, Buffer),
    Hole(u64, u64),
    NoBuffer,
    End,
}

impl<K: Keep, W: FnMut(Run) -> Result<()>> Shared<'_, K, W> {
    /// Works until everything is done, or something fails.
    fn work(&self) {
        if let Err(error) = self.try_to_work() {
            self.stop.store(true, Ordering::Relaxed);
            lock(&self.failure).get_or_insert(error);
        }
    }

    fn try_to_work(&self) -> Result<()> {
        let mut keeper = self.keep.keeper()?;
        let mut lanes = Lanes::new(self.algorithm);
        let mut failed = Ok(());
        let mut candidates = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            self.task.checkpoint()?;
            let mut done = |job: Job, digest: [u8; DIGEST_BYTES]| {
                if failed.is_ok() {
                    failed = self.named(&mut keeper, &job, digest);
                }
            };
            loop {
                let job = lock(&self.queue).pop_front();
                let Some(job) = job else { break };
                lanes.push(job, &mut done);
            }
            match self.find()? {
                Found::Block(number, block, buffer) => {
                    self.search(number, &block, buffer, &mut candidates)?;
                }
                Found::Hole(number, len_bytes) => self.take(number, Segment::Zero { len_bytes })?,
                // What is in the lanes holds buffers that others may wait for.
                Found::NoBuffer if !lanes.is_empty() => lanes.finish(&mut done),
                Found::End if !lanes.is_empty() => lanes.finish(&mut done),
                Found::NoBuffer => self.pool.wait(),
                Found::End if lock(&self.state).ended && lock(&self.queue).is_empty() => break,
                Found::End => self.pool.wait(),
            }
            std::mem::replace(&mut failed, Ok(()))?;
        }
        Ok(())
    }

    /// The next segment of the source. Its buffer is taken first: whoever holds a segment can finish it.
    fn find(&self) -> Result<Found> {
        let buffer = self.pool.take();
        let mut feed = lock(&self.feed);
        let Some(buffer) = buffer else { return Ok(Found::NoBuffer) };
        let (source, number) = &mut *feed;
        let this = *number;
        let found = match source.next()? {
            Next::End => {
                drop(feed);
                let mut state = lock(&self.state);
                state.feed_ended = true;
                self.end(&mut state);
                return Ok(Found::End);
            }
            Next::Data(block) => Found::Block(this, block, buffer),
            Next::Zero(range) => Found::Hole(this, range.end - range.start),
        };
        *number += 1;
        lock(&self.state).under_way += 1;
        Ok(found)
    }

    /// Reads a block and looks for candidates in it.
    fn search(
        &self,
        number: u64,
        block: &Block,
        mut buffer: Buffer,
        candidates: &mut Vec<u32>,
    ) -> Result<()> {
        feed::read(self.image, block, &mut buffer)?;
        let len = (block.range.end - block.range.start) as usize;
        let bytes = &buffer[..len];
        if digest::is_zero(bytes) {
            return self.take(number, Segment::Zero { len_bytes: len as u64 });
        }
        candidates.clear();
        if let Some(search) = &self.candidates
            && len >= WINDOW_BYTES
        {
            search.find(bytes, candidates);
        }
        let candidates = candidates.clone();
        self.take(number, Segment::Data { buffer: Arc::new(buffer), len, candidates })
    }

    /// Gives a segment to the sequencer, and what it cuts to the queue.
    fn take(&self, number: u64, segment: Segment) -> Result<()> {
        let len_bytes = match &segment {
            Segment::Data { len, .. } => *len as u64,
            Segment::Zero { len_bytes } => *len_bytes,
        };
        let mut state = lock(&self.state);
        let State { sequencer, ledger, zeroes_kept, .. } = &mut *state;
        sequencer.take(number, segment, |cut| self.cut(ledger, zeroes_kept, cut));
        state.under_way -= 1;
        self.end(&mut state);
        state.ledger.write(false)?;
        drop(state);
        self.task.advance(len_bytes);
        Ok(())
    }

    /// Cuts the last chunk once every segment was taken.
    fn end(&self, state: &mut State<W>) {
        if state.feed_ended && state.under_way == 0 && !state.ended {
            if let Some(cut) = state.sequencer.finish() {
                self.cut(&mut state.ledger, &mut state.zeroes_kept, cut);
            }
            state.ended = true;
        }
    }

    fn cut(&self, ledger: &mut Ledger<W>, zeroes_kept: &mut HashSet<u64>, cut: Cut) {
        match cut {
            Cut::Data { len_bytes, pieces } => {
                let slot = ledger.reserve(len_bytes);
                lock(&self.queue).push_back(Job { slot, pieces });
            }
            Cut::Zero { len_bytes, id } => {
                // Kept like any other chunk, but only once for each length.
                if K::NEEDS_BYTES && zeroes_kept.insert(len_bytes) {
                    let slot = ledger.reserve(len_bytes);
                    lock(&self.queue).push_back(Job { slot, pieces: Pieces::of_zeroes(len_bytes) });
                } else {
                    ledger.add(len_bytes, id);
                }
            }
        }
    }

    /// The name of a chunk is known.
    fn named(&self, keeper: &mut K::Keeper, job: &Job, digest: [u8; DIGEST_BYTES]) -> Result<()> {
        let id = ChunkId(digest);
        self.keep.chunk(keeper, &id, &job.pieces)?;
        let mut state = lock(&self.state);
        state.ledger.tell(job.slot, id);
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
