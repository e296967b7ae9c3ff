//! Faults in the middle of a copy: what the ledger says afterwards is true, and errors are not forgotten.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use formats::raw::RawImage;
use image::layers::{Fault, Faulty};
use image::{Error, ErrorKind, Extent, Image, ImageMut, MemoryMedium, Result, Task};

use super::super::checkpoint::Checkpoints;
use super::*;
use crate::journal::Journal;

const SIZE: u64 = 100_000;

fn blank() -> RawImage<MemoryMedium> {
    RawImage::open(MemoryMedium::new("target", SIZE)).unwrap()
}

/// Panics unless all that `ledger` calls done is in `target` as in `source`, but for what could not be read.
#[track_caller]
fn assert_true(ledger: &Ledger, source: &dyn Image, target: &dyn Image) {
    let (source, target) = (bytes_of(source), bytes_of(target));
    let (done, unreadable) = ledger.snapshot();
    for range in done.iter() {
        for at in range {
            let is_bad = unreadable.contains(&(at..at + 1));
            let expected = if is_bad { 0 } else { source[at as usize] };
            assert_eq!(target[at as usize], expected, "at {at}");
        }
    }
}

#[test]
fn a_read_error_stops_and_what_is_done_is_true() {
    let source = Faulty::new(random_image(SIZE, 1), [Fault::Unreadable(50_000..50_001)]);
    let (target, ledger) = (blank(), Ledger::default());
    // All of it is data, so that the place is read.
    let solid = Solid(&source);
    let error = run(&transfer(&solid, &target, SMALL), &ledger).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    let (done, unreadable) = ledger.snapshot();
    assert!(!done.contains(&(50_000..50_001)) && unreadable.is_empty());
    assert!(!done.is_empty());
    assert_true(&ledger, source.get_ref(), &target);
}

#[test]
fn what_cannot_be_read_becomes_zeroes_also_where_the_target_held_something() {
    let bad = [3 * 4096 + 5..3 * 4096 + 6, 60_000..70_000];
    let source = Faulty::new(random_image(SIZE, 2), bad.map(Fault::Unreadable));
    let solid = Solid(&source);
    let (target, ledger) = (blank(), Ledger::default());
    target.write_at(&vec![0xEE; SIZE as usize], 0).unwrap();
    let zeroing = Transfer { on_read_error: OnReadError::Zero, ..transfer(&solid, &target, SMALL) };
    run(&zeroing, &ledger).unwrap();
    let (done, unreadable) = ledger.snapshot();
    assert!(done.contains(&(0..SIZE)));
    let expected = [3 * 4096..4 * 4096, 57_344..73_728];
    assert_eq!(unreadable.iter().collect::<Vec<_>>(), expected);
    assert_true(&ledger, source.get_ref(), &target);
}

#[test]
fn write_errors_stop_and_what_is_done_is_true() {
    for fault in [Fault::Unwritable(40_000..40_001), Fault::FullAfter(0), Fault::FullAfter(7)] {
        let source = random_image(SIZE, 3);
        let expected = match fault {
            Fault::FullAfter(_) => ErrorKind::Full,
            _ => ErrorKind::Io,
        };
        let target = Faulty::new(blank(), [fault.clone()]);
        target.get_ref().write_at(&vec![0xEE; SIZE as usize], 0).unwrap();
        let ledger = Ledger::default();
        let error = run(&transfer(&source, &target, SMALL), &ledger).unwrap_err();
        assert_eq!(error.kind(), expected, "{fault:?}");
        assert!(!ledger.snapshot().0.contains(&(0..SIZE)));
        assert_true(&ledger, &source, target.get_ref());
        // And it goes on from there, once it works again.
        let mut rest = transfer(&source, target.get_ref(), SMALL);
        rest.ranges = ledger.snapshot().0.gaps(0..SIZE);
        run(&rest, &ledger).unwrap();
        assert!(bytes_of(&source) == bytes_of(target.get_ref()), "{fault:?}");
    }
}

#[test]
fn a_cancelled_copy_stops_and_what_is_done_is_true() {
    let source = random_image(SIZE, 4);
    let (target, ledger, task) = (blank(), Ledger::default(), Task::silent());
    let counted = Tripwire { image: &source, left: AtomicU32::new(9), task: task.clone() };
    let solid = Solid(&counted);
    let error =
        transfer(&solid, &target, SMALL).run(&task, &ledger, NEVER, |_| Ok(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    let done = ledger.snapshot().0.total_bytes();
    assert!((1..SIZE).contains(&done), "{done}");
    assert_true(&ledger, &source, &target);
}

#[test]
fn after_a_flush_that_failed_nothing_is_noted_any_more() {
    let stored = RefCell::new(Vec::new());
    let store = |journal: &Journal| {
        stored.borrow_mut().push(journal.done.total_bytes());
        Ok(())
    };
    let checkpoints = Checkpoints::new(store, false);
    let target = FlushFailsOnce { image: blank(), fails_at: 2, count: AtomicU32::new(0) };
    let ledger = Ledger::default();
    let note = |bytes| {
        ledger.finish(0..bytes, Vec::new());
        checkpoints.note(&target, &ledger, who(SIZE))
    };
    note(1000).unwrap();
    assert_eq!(note(2000).unwrap_err().kind(), ErrorKind::Io);
    // The medium would flush again without an error, as Linux does.
    target.flush().unwrap();
    assert_eq!(note(3000).unwrap_err().kind(), ErrorKind::Io);
    assert!(checkpoints.flush(&target).is_err());
    assert!(checkpoints.note_last(&target, &ledger, || Ok(who(SIZE)), Some(1)).is_err());
    assert_eq!(*stored.borrow(), [1000]);
    assert!(checkpoints.has_journal());
}

#[test]
fn where_the_journal_has_no_room_the_end_of_the_copy_makes_it() {
    const SIZE: u64 = 40 << 20;
    let stored = RefCell::new(None);
    for (room_after, kept) in [(0, 40 << 20), (1, 39 << 20), (2, 23 << 20)] {
        let tries = RefCell::new(0);
        let store = |journal: &Journal| {
            *tries.borrow_mut() += 1;
            if *tries.borrow() <= room_after {
                return Err(Error::new(ErrorKind::Full, "no room"));
            }
            *stored.borrow_mut() = Some(journal.clone());
            Ok(())
        };
        let target = RawImage::open(MemoryMedium::new("target", SIZE)).unwrap();
        for at in (0..SIZE).step_by(1 << 20) {
            target.write_at(&[7; 1 << 12], at).unwrap();
        }
        let ledger = Ledger::default();
        ledger.finish(0..SIZE, Vec::new());
        let checkpoints = Checkpoints::new(store, false);
        checkpoints.note_last(&target, &ledger, || Ok(who(SIZE)), Some(1)).unwrap();
        let journal = stored.take().unwrap();
        assert_eq!(journal.done.iter().collect::<Vec<_>>(), std::slice::from_ref(&(0..kept)));
        let bytes = bytes_of(&target);
        let data = bytes.chunks(1 << 20).filter(|part| part[0] == 7).count() as u64;
        assert_eq!(data, kept >> 20, "what is given up gives its space back, and nothing else");
    }
}

#[test]
fn what_an_earlier_journal_calls_done_is_not_given_up() {
    let store = |_: &Journal| Err(Error::new(ErrorKind::Full, "no room"));
    for (has_journal, gives_room) in [(true, Some(1)), (false, None)] {
        let target = blank();
        target.write_at(&[7; 9000], 0).unwrap();
        let ledger = Ledger::default();
        ledger.finish(0..9000, Vec::new());
        let checkpoints = Checkpoints::new(store, has_journal);
        let noted = checkpoints.note_last(&target, &ledger, || Ok(who(SIZE)), gives_room);
        assert_eq!(noted.unwrap_err().kind(), ErrorKind::Full);
        assert_eq!(bytes_of(&target)[..9000], [7; 9000]);
        assert_eq!(ledger.snapshot().0.total_bytes(), 9000);
    }
}

/// Says that all of an image is data.
struct Solid<I>(I);

impl<I: Image> Image for Solid<I> {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.0.read_at(buf, offset)
    }
    fn extent_at(&self, offset: u64) -> Result<Extent> {
        Ok(Extent::new(offset..self.size(), image::ExtentKind::Data))
    }
}

/// Cancels a task after so many reads.
struct Tripwire<'a> {
    image: &'a dyn Image,
    left: AtomicU32,
    task: Task,
}

impl Image for Tripwire<'_> {
    fn size(&self) -> u64 {
        self.image.size()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.task.cancel();
        }
        self.image.read_at(buf, offset)
    }
    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.image.extent_at(offset)
    }
}

/// Fails one flush and then works again, having lost what it should have flushed.
struct FlushFailsOnce<I> {
    image: I,
    fails_at: u32,
    count: AtomicU32,
}

impl<I: Image> Image for FlushFailsOnce<I> {
    fn size(&self) -> u64 {
        self.image.size()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.image.read_at(buf, offset)
    }
    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.image.extent_at(offset)
    }
}

impl<I: ImageMut> ImageMut for FlushFailsOnce<I> {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.image.write_at(buf, offset)
    }
    fn zero(&self, range: Range<u64>) -> Result<()> {
        self.image.zero(range)
    }
    fn forget(&self, range: Range<u64>) -> Result<()> {
        self.image.forget(range)
    }
    fn flush(&self) -> Result<()> {
        if self.count.fetch_add(1, Ordering::Relaxed) + 1 == self.fails_at {
            return Err(Error::new(ErrorKind::Io, "some of it is lost"));
        }
        self.image.flush()
    }
    fn resize(&mut self, size_bytes: u64) -> Result<()> {
        self.image.resize(size_bytes)
    }
}
