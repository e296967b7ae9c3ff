//! Many threads over one ordered supply of pieces: each reads, works and writes its own piece, positioned.
//!
//! Reading, working and writing overlap because the threads are at different places of the same loop. Memory
//! is bounded by the number of threads times the largest piece. The first error, or the wish to stop, ends the
//! supply; pieces that were begun are finished first, so that the caller knows exactly what is done.

use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use image::{AlignedBuf, Error, Result, Task};

/// How many threads an operation uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Threads {
    /// One for each processor, but never fewer than two: one waits for a disk while the other works.
    #[default]
    Automatic,
    /// So many.
    Exactly(NonZero<usize>),
}

impl Threads {
    /// The number. Asks the system, which an operation without threads need not wait for.
    pub(crate) fn count(self) -> usize {
        match self {
            Threads::Automatic => sys::online_cores().clamp(2, 16),
            Threads::Exactly(count) => count.get(),
        }
    }
}

/// Hands the pieces of `supply`, in order, to threads that each do `work` with a buffer of their own, until it
/// is empty, something fails, or `task` is cancelled.
///
/// Meanwhile this thread calls `tick` each `tick_every`. Returns when all threads have ended; of several
/// errors, that of the piece which failed first.
pub(crate) fn for_each_piece<P: Send>(
    threads: Threads,
    task: &Task,
    supply: impl Iterator<Item = Result<P>> + Send,
    work: impl Fn(P, &mut AlignedBuf) -> Result<()> + Sync,
    tick_every: Duration,
    tick: impl FnMut() -> Result<()>,
) -> Result<()> {
    for_each_piece_with(threads, task, supply, AlignedBuf::default, work, tick_every, tick)
}

/// The same with tools that each thread makes for itself by `tools`, and keeps from piece to piece.
pub(crate) fn for_each_piece_with<P: Send, T>(
    threads: Threads,
    task: &Task,
    supply: impl Iterator<Item = Result<P>> + Send,
    tools: impl Fn() -> T + Sync,
    work: impl Fn(P, &mut T) -> Result<()> + Sync,
    tick_every: Duration,
    mut tick: impl FnMut() -> Result<()>,
) -> Result<()> {
    let supply = Mutex::new(supply);
    let stop = AtomicBool::new(false);
    let failure: Mutex<Option<Error>> = Mutex::new(None);
    let fail = |error: Error| {
        stop.store(true, Ordering::Relaxed);
        lock(&failure).get_or_insert(error);
    };
    let (ended, all_ended) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        for _ in 0..threads.count() {
            let (supply, tools, work, fail, stop) = (&supply, &tools, &work, &fail, &stop);
            let ended = ended.clone();
            scope.spawn(move || {
                let mut tools = tools();
                while !stop.load(Ordering::Relaxed) {
                    if let Err(error) = task.checkpoint() {
                        fail(error);
                        break;
                    }
                    let Some(piece) = lock(supply).next() else { break };
                    if let Err(error) = piece.and_then(|piece| work(piece, &mut tools)) {
                        fail(error);
                        break;
                    }
                }
                drop(ended);
            });
        }
        drop(ended);
        while let Err(RecvTimeoutError::Timeout) = all_ended.recv_timeout(tick_every) {
            if let Err(error) = tick() {
                fail(error);
            }
        }
    });
    match lock(&failure).take() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::ErrorKind;
    use std::sync::atomic::AtomicU64;

    const THREE: Threads = Threads::Exactly(NonZero::new(3).unwrap());
    const NEVER: Duration = Duration::from_secs(3600);

    #[test]
    fn each_piece_is_worked_on_once() {
        let sum = AtomicU64::new(0);
        let work = |piece: u64, _: &mut AlignedBuf| {
            sum.fetch_add(piece, Ordering::Relaxed);
            Ok(())
        };
        for_each_piece(THREE, &Task::silent(), (1..=1000).map(Ok), work, NEVER, || Ok(())).unwrap();
        assert_eq!(sum.into_inner(), 500_500);
    }

    #[test]
    fn an_error_ends_the_supply_and_is_returned() {
        let taken = AtomicU64::new(0);
        let work = |piece: u64, _: &mut AlignedBuf| {
            taken.fetch_add(1, Ordering::Relaxed);
            if piece == 10 { Err(Error::new(ErrorKind::Io, "ten")) } else { Ok(()) }
        };
        let result = for_each_piece(THREE, &Task::silent(), (0..).map(Ok), work, NEVER, || Ok(()));
        assert_eq!(result.unwrap_err().to_string(), "ten");
    }

    #[test]
    fn a_cancelled_task_ends_the_work() {
        let task = Task::silent();
        let work = |piece: u64, _: &mut AlignedBuf| {
            if piece == 50 {
                task.cancel();
            }
            Ok(())
        };
        let result = for_each_piece(THREE, &task, (0..).map(Ok), work, NEVER, || Ok(()));
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled);
    }

    #[test]
    fn the_tick_is_called_while_the_threads_work_and_may_fail() {
        let work = |_: u64, _: &mut AlignedBuf| {
            std::thread::sleep(Duration::from_millis(1));
            Ok(())
        };
        let mut count = 0;
        let tick = || {
            count += 1;
            if count == 3 { Err(Error::new(ErrorKind::Full, "full")) } else { Ok(()) }
        };
        let tiny = Duration::from_millis(1);
        let result = for_each_piece(THREE, &Task::silent(), (0..).map(Ok), work, tiny, tick);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Full);
    }
}
