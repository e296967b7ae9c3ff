//! Decoded chunks in memory: each is decoded once, whoever else wants it meanwhile waits.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use image::{Error, Result};

use crate::ChunkId;

/// Chunks by name, the least recently used of which go when there are too many bytes.
pub(super) struct ChunkCache {
    limit_bytes: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    slots: HashMap<ChunkId, Slot>,
    /// Finished ones, the least recently used first.
    order: BTreeMap<u64, ChunkId>,
    clock: u64,
    bytes: usize,
}

enum Slot {
    /// Somebody decodes it.
    Busy,
    Ready {
        bytes: Arc<Vec<u8>>,
        used: u64,
    },
    /// Nobody could be told yet that it failed.
    Failed {
        error: Error,
        used: u64,
    },
}

/// What a failure counts for, in bytes.
const FAILURE_BYTES: usize = 1 << 10;

/// What became of a wish for a chunk.
pub(super) enum Claim<'a> {
    /// It is there, or fetching it has failed.
    Done(Result<Arc<Vec<u8>>>),
    /// It is up to the one who asked.
    Mine(Ticket<'a>),
    /// Somebody else decodes it.
    Busy,
}

/// The promise to decode a chunk. If it is dropped, the promise goes to the next who asks.
pub(super) struct Ticket<'a> {
    cache: &'a ChunkCache,
    id: ChunkId,
    open: bool,
}

impl ChunkCache {
    pub(super) fn new(limit_bytes: usize) -> Self {
        ChunkCache { limit_bytes, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Asks for a chunk. A failure is told once.
    pub(super) fn claim(&self, id: &ChunkId) -> Claim<'_> {
        self.claim_in(&mut self.lock(), id)
    }

    /// The same, but waits while somebody else decodes it.
    pub(super) fn wait(&self, id: &ChunkId) -> Claim<'_> {
        let mut state = self.lock();
        loop {
            match self.claim_in(&mut state, id) {
                Claim::Busy => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                claim => return claim,
            }
        }
    }

    /// Asks for a chunk in order to have it, not to read it.
    pub(super) fn claim_missing(&self, id: &ChunkId) -> Option<Ticket<'_>> {
        let mut state = self.lock();
        if state.slots.contains_key(id) {
            return None;
        }
        state.slots.insert(*id, Slot::Busy);
        Some(Ticket { cache: self, id: *id, open: true })
    }

    fn claim_in(&self, state: &mut State, id: &ChunkId) -> Claim<'_> {
        let State { slots, order, clock, .. } = state;
        match slots.get_mut(id) {
            Some(Slot::Busy) => Claim::Busy,
            Some(Slot::Ready { bytes, used }) => {
                order.remove(used);
                *clock += 1;
                *used = *clock;
                order.insert(*clock, *id);
                Claim::Done(Ok(Arc::clone(bytes)))
            }
            Some(Slot::Failed { .. }) => match state.remove(id) {
                Some(Slot::Failed { error, .. }) => Claim::Done(Err(error)),
                _ => Claim::Busy,
            },
            None => {
                slots.insert(*id, Slot::Busy);
                Claim::Mine(Ticket { cache: self, id: *id, open: true })
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove(&mut self, id: &ChunkId) -> Option<Slot> {
        let slot = self.slots.remove(id)?;
        match &slot {
            Slot::Busy => {}
            Slot::Ready { bytes, used } => {
                self.bytes -= bytes.capacity();
                self.order.remove(used);
            }
            Slot::Failed { used, .. } => {
                self.bytes -= FAILURE_BYTES;
                self.order.remove(used);
            }
        }
        Some(slot)
    }

    fn insert(&mut self, id: ChunkId, result: Result<Arc<Vec<u8>>>) {
        self.clock += 1;
        let used = self.clock;
        let slot = match result {
            Ok(bytes) => {
                self.bytes += bytes.capacity();
                Slot::Ready { bytes, used }
            }
            Err(error) => {
                self.bytes += FAILURE_BYTES;
                Slot::Failed { error, used }
            }
        };
        self.order.insert(used, id);
        self.slots.insert(id, slot);
    }

    /// Lets the oldest go, but never the newest: somebody may wait for it.
    fn evict(&mut self, limit_bytes: usize) -> Vec<Vec<u8>> {
        let mut evicted = Vec::new();
        while self.bytes > limit_bytes && self.order.len() > 1 {
            let Some((_, &oldest)) = self.order.first_key_value() else { break };
            if let Some(Slot::Ready { bytes, .. }) = self.remove(&oldest)
                && let Ok(buffer) = Arc::try_unwrap(bytes)
            {
                evicted.push(buffer);
            }
        }
        evicted
    }
}

impl Ticket<'_> {
    /// Keeps the promise. Gives back the memory of chunks that had to go.
    pub(super) fn finish(mut self, result: Result<Arc<Vec<u8>>>) -> Vec<Vec<u8>> {
        self.open = false;
        let evicted = {
            let mut state = self.cache.lock();
            state.insert(self.id, result);
            state.evict(self.cache.limit_bytes)
        };
        self.cache.changed.notify_all();
        evicted
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.open {
            self.cache.lock().remove(&self.id);
            self.cache.changed.notify_all();
        }
    }
}
