//! Many threads that read pieces, one that takes them in order.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use image::{Error, ErrorKind, Image, Result, Task};

use crate::Threads;

/// A range of an image that is to be read in order.
pub(super) struct Reading<'a> {
    pub(super) image: &'a dyn Image,
    /// Offsets in bytes, within the image.
    pub(super) range: Range<u64>,
    pub(super) threads: Threads,
}

/// How much is read at once, in bytes: enough chunks to take their digests in parallel lanes.
const PIECE_BYTES: u64 = 1 << 20;
/// Pieces for each thread: one that it reads, and some that wait for their turn.
const PIECES_PER_THREAD: u64 = 4;

#[derive(Default)]
struct State {
    /// The next piece to be read, and the next one to be taken.
    next: u64,
    taken: u64,
    /// Pieces that were read.
    ready: BTreeMap<u64, Result<Vec<u8>>>,
    spare: Vec<Vec<u8>>,
    stopped: bool,
    /// A reading thread has panicked.
    died: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// Reads all of it; `take` gets each piece with its offset, in order, and says whether it wants more. It gets what
/// stands in front of a piece that cannot be read, and nothing behind it.
pub(super) fn read(
    what: &Reading<'_>,
    task: &Task,
    mut take: impl FnMut(u64, &[u8]) -> Result<bool>,
) -> Result<()> {
    let count = (what.range.end - what.range.start).div_ceil(PIECE_BYTES);
    let threads = (what.threads.count() as u64).min(count);
    let window = threads * PIECES_PER_THREAD;
    let shared = Shared { state: Mutex::default(), changed: Condvar::new() };
    std::thread::scope(|scope| {
        // Also when this thread panics: nobody may wait for it forever.
        let _stop = StopOnDrop(&shared);
        for _ in 0..threads {
            scope.spawn(|| shared.serve(what, count, window));
        }
        for number in 0..count {
            task.checkpoint()?;
            let piece = shared.wait_for(number)?;
            let at = what.range.start + number * PIECE_BYTES;
            if !take(at, &piece)? {
                return Ok(());
            }
            task.advance(piece.len() as u64);
            shared.give_back(piece);
        }
        Ok(())
    })
}

struct StopOnDrop<'a>(&'a Shared);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.changed.notify_all();
    }
}

/// Nobody waits for the piece of a thread that is gone; its panic goes on when all threads are joined.
struct DiedOnPanic<'a>(&'a Shared);

impl Drop for DiedOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().died = true;
            self.0.changed.notify_all();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// What a reading thread does.
    fn serve(&self, what: &Reading<'_>, count: u64, window: u64) {
        let _died = DiedOnPanic(self);
        let mut state = self.lock();
        loop {
            if state.stopped || state.next >= count {
                return;
            }
            if state.next >= state.taken + window {
                state = self.wait(state);
                continue;
            }
            let number = state.next;
            state.next += 1;
            let mut piece = state.spare.pop().unwrap_or_default();
            drop(state);
            let start = what.range.start + number * PIECE_BYTES;
            piece.resize((what.range.end - start).min(PIECE_BYTES) as usize, 0);
            let read = what.image.read_at(&mut piece, start).map(|()| piece);
            state = self.lock();
            state.ready.insert(number, read);
            self.changed.notify_all();
        }
    }

    fn wait_for(&self, number: u64) -> Result<Vec<u8>> {
        let mut state = self.lock();
        loop {
            if let Some(read) = state.ready.remove(&number) {
                state.taken = number + 1;
                self.changed.notify_all();
                return read;
            }
            if state.died {
                return Err(Error::new(ErrorKind::Io, "a reading thread has ended"));
            }
            state = self.wait(state);
        }
    }

    fn give_back(&self, piece: Vec<u8>) {
        self.lock().spare.push(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use formats::raw::RawImage;
    use image::layers::{Fault, Faulty};
    use image::{Medium, MemoryMedium};
    use std::num::NonZero;

    fn content() -> (MemoryMedium, Vec<u8>) {
        let mut bytes = vec![0; (10 << 20) + 77];
        fastrand::Rng::with_seed(3).fill(&mut bytes);
        let medium = MemoryMedium::new("m", 0);
        medium.write_at(&bytes, 0).unwrap();
        (medium, bytes)
    }

    #[test]
    fn pieces_come_in_order_whatever_the_number_of_threads() {
        let (medium, bytes) = content();
        let image = RawImage::open(medium).unwrap();
        for threads in [1, 2, 7] {
            for range in [0..bytes.len() as u64, 5..(3 << 20) + 9, 100..100, 7..8] {
                let threads = Threads::Exactly(NonZero::new(threads).unwrap());
                let what = Reading { image: &image, range: range.clone(), threads };
                let mut out = Vec::new();
                read(&what, &Task::silent(), |at, piece| {
                    assert_eq!(at, range.start + out.len() as u64);
                    out.extend_from_slice(piece);
                    Ok(true)
                })
                .unwrap();
                assert!(out == bytes[range.start as usize..range.end as usize]);
            }
        }
    }

    #[test]
    fn what_stands_in_front_of_an_error_is_given_and_nothing_behind_it() {
        let (medium, bytes) = content();
        let bad = 5_500_000..5_500_001;
        let image = Faulty::new(RawImage::open(medium).unwrap(), [Fault::Unreadable(bad)]);
        let range = 0..bytes.len() as u64;
        let what = Reading { image: &image, range, threads: Threads::Automatic };
        let mut out = Vec::new();
        let error = read(&what, &Task::silent(), |_, piece| {
            out.extend_from_slice(piece);
            Ok(true)
        });
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Io);
        assert!(out == bytes[..5 << 20], "{} bytes", out.len());
    }

    #[test]
    #[should_panic = "a scoped thread panicked"]
    fn a_thread_that_panics_is_not_waited_for() {
        struct Panics;
        impl Image for Panics {
            fn size(&self) -> u64 {
                5 << 20
            }
            fn read_at(&self, _: &mut [u8], offset: u64) -> Result<()> {
                assert!(offset < 2 << 20, "on purpose");
                Ok(())
            }
            fn extent_at(&self, offset: u64) -> Result<image::Extent> {
                Ok(image::Extent::new(offset..self.size(), image::ExtentKind::Data))
            }
        }
        let what = Reading { image: &Panics, range: 0..5 << 20, threads: Threads::Automatic };
        let _ = read(&what, &Task::silent(), |_, _| Ok(true));
    }

    #[test]
    fn whoever_wants_no_more_is_given_no_more() {
        let (medium, bytes) = content();
        let image = RawImage::open(medium).unwrap();
        let what =
            Reading { image: &image, range: 0..bytes.len() as u64, threads: Threads::Automatic };
        let mut pieces = 0;
        read(&what, &Task::silent(), |_, _| {
            pieces += 1;
            Ok(pieces < 3)
        })
        .unwrap();
        assert_eq!(pieces, 3);
        let failed = read(&what, &Task::silent(), |_, _| Err(Error::new(ErrorKind::Full, "full")));
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::Full);
    }
}
