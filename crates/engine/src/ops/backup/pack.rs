//! A stream cut into segments, which are packed by many threads and written in their order.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use formats::packed::{Entry, Packing};
use image::{Error, ErrorKind, Medium, Result, Task};

use crate::Threads;

/// Pieces that may be taken before the oldest one is written, for each thread.
const WINDOW_PER_THREAD: u64 = 4;

struct State {
    /// The next piece that gets its place in the file, and that place.
    next: u64,
    offset: u64,
    /// Packed pieces that wait for those before them.
    ready: BTreeMap<u64, (Vec<u8>, Vec<Entry>)>,
    entries: Vec<Entry>,
    spare: Vec<Vec<u8>>,
    failure: Option<Error>,
    stopped: bool,
}

struct Shared<'a> {
    state: Mutex<State>,
    changed: Condvar,
    out: &'a dyn Medium,
}

/// What hands out pieces, in order.
struct Supply<T> {
    take: T,
    next: u64,
    ended: bool,
}

/// Packs a stream into `out`, from head to tail, and says how long the file has become.
///
/// `take` is asked for one piece after the other by one thread at a time, and may put its bytes into the buffer; `fill` does
/// what many threads may do at once. `take` returns `None` at the end. A piece becomes one segment, or several if it is
/// much longer than one.
///
/// Memory: for each thread four packed pieces, and one that is not.
///
/// # Errors
///
/// The first of those of `take`, `fill`, the packing and `out`; `Cancelled`.
pub(super) fn pack<P: Send>(
    threads: Threads,
    task: &Task,
    packing: &dyn Packing,
    out: &dyn Medium,
    take: impl FnMut(&mut Vec<u8>) -> Result<Option<P>> + Send,
    fill: impl Fn(P, &mut Vec<u8>) -> Result<()> + Sync,
) -> Result<u64> {
    let head = packing.head();
    out.write_at(&head, 0)?;
    let shared = Shared {
        state: Mutex::new(State {
            next: 0,
            offset: head.len() as u64,
            ready: BTreeMap::new(),
            entries: Vec::new(),
            spare: Vec::new(),
            failure: None,
            stopped: false,
        }),
        changed: Condvar::new(),
        out,
    };
    let supply = Mutex::new(Supply { take, next: 0, ended: false });
    let threads = threads.count();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let _stop = StopOnPanic(&shared);
                let mut packer = packing.packer();
                let mut content = Vec::new();
                let window = threads as u64 * WINDOW_PER_THREAD;
                loop {
                    let worked = task.checkpoint().and_then(|()| {
                        content.clear();
                        let Some((number, piece)) = shared.take(&supply, window, &mut content)?
                        else {
                            return Ok(false);
                        };
                        fill(piece, &mut content)?;
                        let mut packed = shared.lock().spare.pop().unwrap_or_default();
                        packed.clear();
                        let entries = segments(&content, packing.segment_bytes())
                            .map(|segment| packer.pack(segment, &mut packed))
                            .collect::<Result<_>>()?;
                        shared.place(number, packed, entries)?;
                        Ok(true)
                    });
                    match worked {
                        Ok(true) => {}
                        Ok(false) => return,
                        Err(error) => return shared.fail(error),
                    }
                }
            });
        }
    });
    let State { offset, entries, failure, .. } =
        shared.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = failure {
        return Err(error);
    }
    task.checkpoint()?;
    let tail = packing.tail(&entries);
    out.write_at(&tail, offset)?;
    Ok(offset + tail.len() as u64)
}

impl Shared<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next piece, as soon as there is room for it; `None` if there is no more, or somebody has failed.
    fn take<P>(
        &self,
        supply: &Mutex<Supply<impl FnMut(&mut Vec<u8>) -> Result<Option<P>>>>,
        window: u64,
        content: &mut Vec<u8>,
    ) -> Result<Option<(u64, P)>> {
        let mut supply = supply.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.lock();
        // Whoever waits here keeps the others from taking more. The oldest piece is with a thread that does not.
        while !state.stopped && supply.next >= state.next + window {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.stopped || supply.ended {
            return Ok(None);
        }
        drop(state);
        let Some(piece) = (supply.take)(content)? else {
            supply.ended = true;
            return Ok(None);
        };
        supply.next += 1;
        Ok(Some((supply.next - 1, piece)))
    }

    /// Gives a piece its place, and those that waited for it, and writes them.
    fn place(&self, number: u64, packed: Vec<u8>, entries: Vec<Entry>) -> Result<()> {
        let mut placed = Vec::new();
        let mut state = self.lock();
        state.ready.insert(number, (packed, entries));
        loop {
            let next = state.next;
            let Some((packed, entries)) = state.ready.remove(&next) else { break };
            let offset = state.offset;
            state.next += 1;
            state.offset += packed.len() as u64;
            state.entries.extend(entries);
            placed.push((offset, packed));
        }
        drop(state);
        self.changed.notify_all();
        for (offset, packed) in placed {
            self.out.write_at(&packed, offset)?;
            self.lock().spare.push(packed);
        }
        Ok(())
    }

    fn fail(&self, error: Error) {
        let mut state = self.lock();
        state.failure.get_or_insert(error);
        state.stopped = true;
        drop(state);
        self.changed.notify_all();
    }
}

/// A piece as segments of equal length, as near to what is wished for as can be: no small rest becomes one of its own.
fn segments(content: &[u8], wish_bytes: usize) -> impl Iterator<Item = &[u8]> {
    let count = ((content.len() + wish_bytes / 2) / wish_bytes).max(1);
    content.chunks(content.len().div_ceil(count).max(1))
}

/// Nobody waits for the piece of a thread that is gone; its panic goes on when all are joined.
struct StopOnPanic<'a, 'b>(&'a Shared<'b>);

impl Drop for StopOnPanic<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(Error::new(ErrorKind::Io, "a thread that packs has ended"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use formats::packed::Packer;
    use image::MemoryMedium;
    use std::num::NonZero;

    /// Writes each segment with its length in front, and takes its time.
    struct Slow;

    impl Packing for Slow {
        fn segment_bytes(&self) -> usize {
            8
        }
        fn head(&self) -> Vec<u8> {
            b"head".to_vec()
        }
        fn packer(&self) -> Box<dyn Packer> {
            Box::new(Slow)
        }
        fn tail(&self, segments: &[Entry]) -> Vec<u8> {
            segments.iter().map(|entry| entry.len_bytes as u8).collect()
        }
    }

    impl Packer for Slow {
        fn pack(&mut self, segment: &[u8], out: &mut Vec<u8>) -> Result<Entry> {
            std::thread::sleep(std::time::Duration::from_micros(fastrand::u64(..300)));
            out.extend_from_slice(segment);
            let len_bytes = segment.len() as u32;
            Ok(Entry { len_bytes, packed_bytes: len_bytes, crc32: 0, packed_crc32: 0 })
        }
    }

    fn three() -> Threads {
        Threads::Exactly(NonZero::new(3).unwrap())
    }

    fn numbers(up_to: u8) -> impl FnMut(&mut Vec<u8>) -> Result<Option<u8>> + Send {
        let mut next = 0;
        move |_| {
            next += 1;
            Ok((next <= up_to).then_some(next))
        }
    }

    #[test]
    fn segments_stand_in_their_order_whichever_is_ready_first() {
        let out = MemoryMedium::new("out", 0);
        let fill = |number: u8, content: &mut Vec<u8>| {
            content.extend(std::iter::repeat_n(number, usize::from(number % 5 + 1)));
            Ok(())
        };
        let len = pack(three(), &Task::silent(), &Slow, &out, numbers(200), fill).unwrap();
        let mut expected = b"head".to_vec();
        expected.extend((1..=200u8).flat_map(|n| std::iter::repeat_n(n, usize::from(n % 5 + 1))));
        expected.extend((1..=200u8).map(|number| number % 5 + 1));
        let mut found = vec![0; out.len().unwrap() as usize];
        out.read_at(&mut found, 0).unwrap();
        assert_eq!(len, expected.len() as u64);
        assert!(found == expected);
    }

    #[test]
    fn no_segment_is_a_small_rest() {
        let lengths =
            |len: usize| -> Vec<usize> { segments(&vec![0; len], 512).map(<[u8]>::len).collect() };
        assert_eq!(lengths(1), [1]);
        assert_eq!(lengths(700), [700]);
        assert_eq!(lengths(1028), [514, 514]);
        assert_eq!(lengths(1537), [513, 513, 511]);
    }

    #[test]
    fn the_first_failure_ends_all() {
        let out = MemoryMedium::new("out", 0);
        let fill = |number: u8, content: &mut Vec<u8>| {
            content.push(number);
            if number == 50 { Err(Error::new(ErrorKind::Io, "fifty")) } else { Ok(()) }
        };
        let error = pack(three(), &Task::silent(), &Slow, &out, numbers(200), fill).unwrap_err();
        assert_eq!(error.to_string(), "fifty");
    }

    #[test]
    fn a_wish_to_stop_ends_all_and_nothing_is_closed() {
        let (out, task) = (MemoryMedium::new("out", 0), Task::silent());
        let fill = |number: u8, content: &mut Vec<u8>| {
            content.push(number);
            if number == 200 {
                task.cancel();
            }
            Ok(())
        };
        let error = pack(three(), &task, &Slow, &out, numbers(200), fill).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert!(out.len().unwrap() <= 204, "the tail was written");
    }

    #[test]
    #[should_panic = "a scoped thread panicked"]
    fn a_thread_that_panics_is_not_waited_for() {
        let out = MemoryMedium::new("out", 0);
        let fill = |number: u8, content: &mut Vec<u8>| {
            content.push(number);
            assert!(number != 20, "on purpose");
            Ok(())
        };
        let _ = pack(three(), &Task::silent(), &Slow, &out, numbers(200), fill);
    }
}
