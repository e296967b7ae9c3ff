//! What is written to the target, by threads of their own: to pack the blocks of a container takes longer than to receive
//! them.

use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use image::{Error, ErrorKind, ImageMut, Result, Task};

use super::incoming::Incoming;

/// Takes what is to be written, in ascending order, and hands it over in long pieces.
pub(super) struct Patch<'a> {
    data: Vec<u8>,
    data_at: u64,
    zeroes: Range<u64>,
    queue: SyncSender<Piece>,
    spare: Receiver<Vec<u8>>,
    failure: &'a Mutex<Failure>,
}

enum Piece {
    Data { bytes: Vec<u8>, at: u64 },
    Zeroes(Range<u64>),
}

/// What could not be written.
struct Failure {
    error: Option<Error>,
    /// Everything before it that was handed over was written.
    from: u64,
}

/// The longest write, in bytes.
const WRITE_BYTES: usize = 1 << 20;

/// More threads than this do not write faster.
const THREADS_MAX: usize = 8;

/// Runs `work`, and writes to `image`, on up to `threads` threads, what it puts into its argument: also what it put there
/// before it failed. Gives besides where that begins which could not be written, or a number behind all images.
pub(super) fn with_patch<T>(
    image: &dyn ImageMut,
    threads: usize,
    work: impl FnOnce(&mut Patch<'_>) -> Result<T>,
) -> (Result<T>, u64) {
    let threads = threads.clamp(1, THREADS_MAX);
    let (queue, pieces) = sync_channel(threads);
    // Were all writers gone, the queue would be closed.
    let pieces = Arc::new(Mutex::new(pieces));
    let (empty, spare) = channel();
    let failure = Mutex::new(Failure { error: None, from: u64::MAX });
    let done = thread::scope(|scope| {
        for _ in 0..threads {
            let (pieces, empty) = (Arc::clone(&pieces), empty.clone());
            let failure = &failure;
            scope.spawn(move || write_all(image, &pieces, &empty, failure));
        }
        drop((pieces, empty));
        let (data, zeroes) = (Vec::new(), 0..0);
        let mut patch = Patch { data, data_at: 0, zeroes, queue, spare, failure: &failure };
        let done = work(&mut patch);
        let rest = patch.hand_over();
        done.and_then(|done| rest.map(|()| done))
    });
    let failure = failure.into_inner().unwrap_or_else(PoisonError::into_inner);
    // What follows from it is of no interest.
    (failure.error.map_or(done, Err), failure.from)
}

/// Writes what is handed over. After a failure of any thread nothing more is written, so that the target does not get
/// more torn than it must.
fn write_all(
    image: &dyn ImageMut,
    pieces: &Mutex<Receiver<Piece>>,
    empty: &Sender<Vec<u8>>,
    failure: &Mutex<Failure>,
) {
    loop {
        let next = lock(pieces).recv();
        let Ok(piece) = next else { return };
        let start = match &piece {
            Piece::Data { at, .. } => *at,
            Piece::Zeroes(range) => range.start,
        };
        let has_failed = lock(failure).error.is_some();
        let written = match piece {
            _ if has_failed => None,
            Piece::Zeroes(range) => Some(image.zero(range)),
            Piece::Data { bytes, at } => {
                let written = image.write_at(&bytes, at);
                // Nobody wants it back when the work has ended.
                let _ = empty.send(bytes);
                Some(written)
            }
        };
        if !matches!(written, Some(Ok(()))) {
            let mut failure = lock(failure);
            failure.from = failure.from.min(start);
            if let (None, Some(Err(error))) = (&failure.error, written) {
                failure.error = Some(error);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Patch<'_> {
    /// Takes the bytes of `range` from the source. `place` says where it is, from how many of them came, if that ends.
    pub(super) fn take(
        &mut self,
        incoming: &mut Incoming<'_>,
        range: Range<u64>,
        task: &Task,
        place: impl Fn(u64) -> String,
    ) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            task.checkpoint()?;
            if self.data_at + self.data.len() as u64 != at || self.data.len() == WRITE_BYTES {
                self.hand_over()?;
                self.data_at = at;
            }
            let held = self.data.len();
            let len = (range.end - at).min((WRITE_BYTES - held) as u64);
            self.data.resize(held + len as usize, 0);
            let before = at - range.start;
            let came = incoming.take(&mut self.data[held..], |got| place(before + got as u64));
            if came.is_err() {
                self.data.truncate(held);
            }
            came?;
            at += len;
            task.advance(len);
        }
        Ok(())
    }

    /// Makes `range` zero, together with the zeroes before it if it touches them.
    pub(super) fn zero(&mut self, range: Range<u64>) -> Result<()> {
        if self.zeroes.is_empty() || self.zeroes.end != range.start {
            self.hand_over()?;
            self.zeroes = range;
        } else {
            self.zeroes.end = range.end;
        }
        Ok(())
    }

    /// Hands over what is held. Fails if anything handed over before could not be written.
    fn hand_over(&mut self) -> Result<()> {
        if !self.data.is_empty() {
            let mut next = self.spare.try_recv().unwrap_or_default();
            next.clear();
            let bytes = std::mem::replace(&mut self.data, next);
            self.send(Piece::Data { bytes, at: self.data_at })?;
        }
        if !self.zeroes.is_empty() {
            let zeroes = std::mem::replace(&mut self.zeroes, 0..0);
            self.send(Piece::Zeroes(zeroes))?;
        }
        Ok(())
    }

    fn send(&mut self, piece: Piece) -> Result<()> {
        let is_sent = self.queue.send(piece).is_ok();
        if !is_sent || lock(self.failure).error.is_some() {
            return Err(Error::new(ErrorKind::Io, "the target cannot be written"));
        }
        Ok(())
    }
}
