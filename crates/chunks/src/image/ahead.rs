//! Reading ahead of whoever reads in sequence, with threads that begin when the first one does.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::{IndexImage, Shared, batches};
use crate::index::Span;
use crate::store::{Desk, Length};

/// What is handed to one thread at once, in bytes of the blob: enough chunks to keep its lanes busy.
const BATCH_BYTES: u64 = 1 << 20;
/// Reads of several threads that share one sequence may be so far out of order, in bytes.
const NEAR_BYTES: u64 = 1 << 20;
/// So many reads in sequence are no accident.
const READS_BEFORE: u32 = 2;
const THREADS_MAX: usize = 8;

/// Looks at the reads of an image, and has what comes next decoded.
pub(super) struct ReadAhead {
    limit_bytes: u64,
    readers: AtomicUsize,
    queue: Arc<Queue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Default)]
struct State {
    /// The end of the last read, and how many reads were in sequence.
    end: u64,
    run: u32,
    /// What is ahead of the reader, is being decoded, or was, up to here.
    ahead_to: u64,
    wanted: VecDeque<Range<u64>>,
    stopped: bool,
}

/// A read that goes on.
pub(super) struct Reading<'a>(&'a AtomicUsize);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ReadAhead {
    /// Reads at most so many bytes ahead.
    pub(super) fn new(limit_bytes: u64) -> Self {
        ReadAhead {
            limit_bytes,
            readers: AtomicUsize::new(0),
            queue: Arc::default(),
            threads: Mutex::default(),
        }
    }

    /// Somebody reads `range`. Where several read at once, they keep the processors busy by themselves.
    pub(super) fn reads(&self, range: Range<u64>, shared: &Arc<Shared>) -> Reading<'_> {
        let alone = self.readers.fetch_add(1, Ordering::Relaxed) == 0;
        let reading = Reading(&self.readers);
        let mut state = self.queue.lock();
        if range.start.abs_diff(state.end) > NEAR_BYTES {
            (state.run, state.ahead_to, state.end) = (0, 0, range.end);
            state.wanted.clear();
            return reading;
        }
        if range.end > state.end {
            (state.run, state.end) = (state.run.saturating_add(1), range.end);
        }
        if state.run < READS_BEFORE || !alone || shared.chain.is_empty() {
            return reading;
        }
        // The longer the sequence, the further ahead.
        let doublings = (state.run - READS_BEFORE).min(16);
        let window = (BATCH_BYTES << doublings).min(self.limit_bytes);
        let target = (state.end + window).min(shared.map.index().size_bytes());
        state.ahead_to = state.ahead_to.max(state.end);
        let before = state.wanted.len();
        while state.ahead_to < target {
            let end = (state.ahead_to + BATCH_BYTES).min(target);
            let next = state.ahead_to..end;
            state.wanted.push_back(next);
            state.ahead_to = end;
        }
        if state.wanted.len() > before {
            drop(state);
            self.start(shared);
            self.queue.filled.notify_all();
        }
        reading
    }

    fn start(&self, shared: &Arc<Shared>) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if !threads.is_empty() {
            return;
        }
        let idle = sys::online_cores().saturating_sub(1);
        for _ in 0..idle.max(shared.chain.parallel_fetches()).clamp(1, THREADS_MAX) {
            let (queue, shared) = (Arc::clone(&self.queue), Arc::clone(shared));
            let thread = std::thread::Builder::new()
                .name("read-ahead".into())
                .spawn(move || queue.serve(&shared));
            // Without threads it is only slower.
            threads.extend(thread.ok());
        }
    }

    /// Whether no thread was needed so far.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Ends the threads, and waits for them.
    pub(super) fn stop(&self) {
        self.queue.lock().stopped = true;
        self.queue.filled.notify_all();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // If it panicked it has said so itself.
            let _ = thread.join();
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, shared: &Shared) {
        let mut desk = Desk::new(shared.chain.algorithm());
        while let Some(range) = self.next() {
            // An error of the index comes again when it is really read.
            let _ = self.prepare(range, shared, &mut desk);
        }
    }

    fn next(&self) -> Option<Range<u64>> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return None;
            }
            if let Some(range) = state.wanted.pop_front() {
                return Some(range);
            }
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Decodes the chunks that begin in `range` and that nobody has.
    fn prepare(
        &self,
        range: Range<u64>,
        shared: &Shared,
        desk: &mut Desk<usize>,
    ) -> image::Result<()> {
        let mut at = range.start;
        while at < range.end {
            let block = shared.map.block_at(at)?;
            let spans = block.spans_from(at);
            let within = spans.partition_point(|span| span.offset < range.end);
            for batch in batches(&spans[..within]) {
                prepare_batch(batch, range.start, shared, desk);
            }
            at = spans[within - 1].end();
        }
        Ok(())
    }
}

fn prepare_batch(spans: &[Span], from: u64, shared: &Shared, desk: &mut Desk<usize>) {
    debug_assert!(
        spans.len() == 1
            || spans[spans.len() - 1].end() - spans[0].offset <= IndexImage::BATCH_BYTES
    );
    let mut claimed: Vec<(Span, Option<super::Ticket<'_>>)> = spans
        .iter()
        // One that begins before the range is another's.
        .filter(|span| span.offset >= from && !shared.map.is_zero(span))
        .filter_map(|span| Some((*span, Some(shared.cache.claim_missing(&span.id)?))))
        .collect();
    let wanted: Vec<Span> = claimed.iter().map(|(span, _)| *span).collect();
    let mut evicted = Vec::new();
    let mut done = |number: usize, result: image::Result<crate::store::Chunk>| {
        if let Some(ticket) = claimed[number].1.take() {
            evicted.extend(ticket.finish(result.map(|chunk| Arc::new(chunk.into_bytes()))));
        }
    };
    for (number, span) in wanted.iter().enumerate() {
        desk.push(&shared.chain, span.id, Length::Exactly(span.len_bytes), number, &mut done);
    }
    desk.finish(&shared.chain, &mut done);
    evicted.into_iter().for_each(|buffer| desk.recycle(buffer));
}
