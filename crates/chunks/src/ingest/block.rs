//! Blocks of the source in memory: a bounded number of buffers, and the pieces that chunks are made of.

use std::ops::{Deref, Range};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use digest::Message;
use image::AlignedBuf;

/// How much is read and searched at once, in bytes: fits in the second-level cache of a core.
pub(super) const BLOCK_BYTES: usize = 1 << 20;

/// Zeroes that chunks in holes are made of.
static ZEROES: [u8; 64 << 10] = [0; 64 << 10];

/// Buffers of [`BLOCK_BYTES`], at most a given number of them.
pub(super) struct Pool {
    state: Mutex<PoolState>,
    returned: Condvar,
    limit: usize,
}

struct PoolState {
    free: Vec<AlignedBuf>,
    made: usize,
}

impl Pool {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        let state = Mutex::new(PoolState { free: Vec::new(), made: 0 });
        Arc::new(Pool { state, returned: Condvar::new(), limit })
    }

    /// A buffer, if one is free or may be made.
    pub(super) fn take(self: &Arc<Self>) -> Option<Buffer> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = match state.free.pop() {
            Some(memory) => memory,
            None if state.made < self.limit => {
                state.made += 1;
                AlignedBuf::new(BLOCK_BYTES)
            }
            None => return None,
        };
        Some(Buffer { memory, pool: Arc::clone(self) })
    }

    /// Waits until a buffer may have come back, or a short time.
    pub(super) fn wait(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.free.is_empty() {
            drop(self.returned.wait_timeout(state, Duration::from_millis(1)));
        }
    }
}

/// A buffer of a pool; goes back to it when it is dropped.
pub(super) struct Buffer {
    pub(super) memory: AlignedBuf,
    pool: Arc<Pool>,
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.memory
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        self.pool.state.lock().unwrap_or_else(PoisonError::into_inner).free.push(memory);
        self.pool.returned.notify_one();
    }
}

/// The bytes of a chunk, in one or more pieces.
pub struct Pieces(Vec<Piece>);

enum Piece {
    Data(Arc<Buffer>, Range<usize>),
    /// At most as many as [`ZEROES`] has.
    Zero(usize),
}

impl Pieces {
    pub(super) fn new() -> Self {
        Pieces(Vec::new())
    }

    pub(super) fn data(&mut self, buffer: &Arc<Buffer>, range: Range<usize>) {
        self.0.push(Piece::Data(Arc::clone(buffer), range));
    }

    /// A chunk of nothing but zeroes.
    pub(super) fn of_zeroes(len_bytes: u64) -> Self {
        let mut pieces = Pieces::new();
        pieces.zeroes(len_bytes);
        pieces
    }

    pub(super) fn zeroes(&mut self, len_bytes: u64) {
        let mut left = len_bytes;
        while left > 0 {
            let part = left.min(ZEROES.len() as u64);
            self.0.push(Piece::Zero(part as usize));
            left -= part;
        }
    }

    /// Whether all bytes are zero; stops at the first that is not.
    pub(super) fn is_zero(&self) -> bool {
        self.0.iter().all(|piece| match piece {
            Piece::Data(buffer, range) => digest::is_zero(&buffer[range.clone()]),
            Piece::Zero(_) => true,
        })
    }
}

impl Message for Pieces {
    fn piece(&self, number: usize) -> Option<&[u8]> {
        self.0.get(number).map(|piece| match piece {
            Piece::Data(buffer, range) => &buffer[range.clone()],
            Piece::Zero(len) => &ZEROES[..*len],
        })
    }
}
