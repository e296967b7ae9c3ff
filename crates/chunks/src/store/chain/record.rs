//! What a chain remembers of its places: what they gave, what was wrong with them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use image::{Error, ErrorKind};

use crate::ChunkId;

pub(super) const MAX_KEPT: usize = 100;

/// A chunk that was bad at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadChunk {
    /// Its name.
    pub id: ChunkId,
    /// The store.
    pub place: String,
    /// What was wrong with it, and where exactly it lies.
    pub sentence: String,
}

/// What one place of a chain gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceCounts {
    /// The store.
    pub name: String,
    /// Whether it is the cache.
    pub is_cache: bool,
    /// Good chunks that it gave.
    pub chunks: u64,
    /// Their plain bytes.
    pub bytes: u64,
    /// Their bytes as they lay there.
    pub packed_bytes: u64,
    /// Chunks that were bad there.
    pub damaged: u64,
    /// Fetches that failed for other reasons.
    pub failed: u64,
}

pub(super) struct Record {
    counters: Vec<Counter>,
    said: Mutex<Said>,
    cache_is_off: AtomicBool,
    unflushed: AtomicBool,
}

#[derive(Default)]
struct Counter {
    chunks: AtomicU64,
    bytes: AtomicU64,
    packed_bytes: AtomicU64,
    damaged: AtomicU64,
    failed: AtomicU64,
}

#[derive(Default)]
struct Said {
    damaged: Vec<BadChunk>,
    warnings: Vec<String>,
    /// How many warnings there were in all.
    count: usize,
}

impl Record {
    pub(super) fn new(places: usize) -> Self {
        Record {
            counters: (0..places).map(|_| Counter::default()).collect(),
            said: Mutex::default(),
            cache_is_off: AtomicBool::new(false),
            unflushed: AtomicBool::new(false),
        }
    }

    /// A place gave a good chunk.
    pub(super) fn gave(&self, place: usize, bytes: u64, packed_bytes: u64) {
        let counter = &self.counters[place];
        counter.chunks.fetch_add(1, Ordering::Relaxed);
        counter.bytes.fetch_add(bytes, Ordering::Relaxed);
        counter.packed_bytes.fetch_add(packed_bytes, Ordering::Relaxed);
    }

    /// A place gave a bad chunk, or failed.
    pub(super) fn failed(&self, place: usize, name: &str, id: &ChunkId, error: &Error) {
        let counter = &self.counters[place];
        let sentence = error.full_sentence();
        let mut said = self.said();
        if error.kind() == ErrorKind::Damaged {
            counter.damaged.fetch_add(1, Ordering::Relaxed);
            if said.damaged.iter().any(|bad| bad.id == *id && bad.place == name) {
                return;
            }
            if said.damaged.len() < MAX_KEPT {
                let (id, place, sentence) = (*id, name.to_string(), sentence.clone());
                said.damaged.push(BadChunk { id, place, sentence });
            }
        } else {
            counter.failed.fetch_add(1, Ordering::Relaxed);
        }
        said.warn(sentence);
    }

    /// The cache could not be written. If it never can, it is left alone from now on.
    pub(super) fn cache_failed(&self, name: &str, error: &Error) {
        let hopeless =
            matches!(error.kind(), ErrorKind::Full | ErrorKind::Denied | ErrorKind::Unsupported);
        if hopeless && self.cache_is_off.swap(true, Ordering::Relaxed) {
            return;
        }
        let more = if hopeless { "; it is not written any more" } else { "" };
        let sentence =
            format!("the cache {name} does not keep chunks: {}{more}", error.full_sentence());
        self.said().warn(sentence);
    }

    pub(super) fn cache_is_written(&self) -> bool {
        !self.cache_is_off.load(Ordering::Relaxed)
    }

    pub(super) fn set_unflushed(&self) {
        self.unflushed.store(true, Ordering::Release);
    }

    pub(super) fn take_unflushed(&self) -> bool {
        self.unflushed.swap(false, Ordering::AcqRel)
    }

    pub(super) fn damaged(&self) -> Vec<BadChunk> {
        self.said().damaged.clone()
    }

    pub(super) fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.said().warnings)
    }

    pub(super) fn counts(&self, place: usize, name: &str, is_cache: bool) -> PlaceCounts {
        let counter = &self.counters[place];
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        PlaceCounts {
            name: name.to_string(),
            is_cache,
            chunks: read(&counter.chunks),
            bytes: read(&counter.bytes),
            packed_bytes: read(&counter.packed_bytes),
            damaged: read(&counter.damaged),
            failed: read(&counter.failed),
        }
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Said {
    fn warn(&mut self, sentence: String) {
        self.count += 1;
        match self.count {
            count if count <= MAX_KEPT => self.warnings.push(sentence),
            count if count == MAX_KEPT + 1 => {
                self.warnings.push("more of this happened, and is not told any more".into());
            }
            _ => {}
        }
    }
}
