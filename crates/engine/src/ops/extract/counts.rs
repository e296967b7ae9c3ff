//! How much came from where.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Amount;

/// Adds up amounts from many threads.
#[derive(Debug, Default)]
pub(super) struct Counter {
    chunks: AtomicU64,
    bytes: AtomicU64,
}

impl Counter {
    pub(super) fn add(&self, chunks: u64, bytes: u64) {
        self.chunks.fetch_add(chunks, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn amount(&self) -> Amount {
        Amount {
            chunks: self.chunks.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}

/// What an assembly has done so far.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) zero: Counter,
    pub(super) in_place: Counter,
    pub(super) seeds: Counter,
    pub(super) own: Counter,
    /// Of seeds and of the blob itself: bytes whose blocks are shared instead of written.
    pub(super) cloned_bytes: AtomicU64,
    pub(super) own_cloned_bytes: AtomicU64,
    /// The same, of chunks that lie uncompressed in a store.
    pub(super) store_cloned_bytes: AtomicU64,
}
