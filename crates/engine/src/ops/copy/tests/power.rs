//! Power cuts in the middle of a copy: whatever a journal calls done is on the target, and the copy goes on from it.

use std::ffi::OsStr;
use std::ops::Range;
use std::time::Duration;

use formats::raw::RawImage;
use image::layers::{Throttle, Throttled};
use image::{Extent, Folder, Image, ImageMut, Medium, Replace, Result, Task};
use testkit::crash::CrashDisk;

use super::super::checkpoint::Checkpoints;
use super::*;
use crate::Steps;
use crate::journal::Journal;
use crate::publish::publish;

const SIZE: u64 = 40_000;

fn name(text: &str) -> &OsStr {
    OsStr::new(text)
}

/// The steps of a copy as the operation takes them: the real loop, checkpoints, publishing, removal of the journal.
fn copy(disk: &CrashDisk, source: &dyn Image, rate: u64) -> usize {
    let folder = disk.folder();
    Journal::remove(&folder, name("journal")).unwrap();
    let medium = folder.create(name("partial")).unwrap();
    let target = RawImage::create(medium, SIZE).unwrap();
    go_on(&folder, source, &target, &Ledger::default(), false, rate)
}

fn go_on(
    folder: &dyn Folder,
    source: &dyn Image,
    target: &RawImage<Box<dyn Medium>>,
    ledger: &Ledger,
    resumed: bool,
    rate: u64,
) -> usize {
    let store = |journal: &Journal| journal.store(folder, name("journal"));
    let checkpoints = Checkpoints::new(store, resumed);
    let throttled = Throttled::new(source, Throttle::new(rate));
    let mut rest = transfer(&throttled, target, if resumed { SMALL } else { BLANK });
    rest.ranges = ledger.snapshot().0.gaps(0..SIZE);
    let mut count = 0;
    let tick = |ledger: &Ledger| {
        count += 1;
        checkpoints.note(target, ledger, who(SIZE))
    };
    rest.run(&Task::silent(), ledger, Duration::from_millis(2), tick).unwrap();
    checkpoints.flush(target).unwrap();
    let (partial, target_name) = (name("partial"), name("target"));
    let medium = target.medium();
    publish(folder, medium, partial, target_name, Replace::Never, &Steps::default()).unwrap();
    Journal::remove(folder, name("journal")).unwrap();
    count
}

#[test]
fn after_each_power_cut_the_journal_is_true_and_the_copy_goes_on_from_it() {
    let source = random_image(SIZE, 11);
    let wanted = bytes_of(&source);
    let disk = CrashDisk::new();
    let checkpoints = copy(&disk, &source, 150_000);
    assert!(checkpoints >= 5, "only {checkpoints} checkpoints: nothing was shown");
    assert_eq!(disk.bytes("target").unwrap(), wanted);
    assert_eq!(disk.names(), ["target"]);
    let (mut with_journal, mut gone_on) = (0, 0);
    disk.cuts().states_max(150).check_each(|_, disk| {
        let journal = Journal::load(&disk.folder(), name("journal")).expect("never damaged");
        let published = disk.bytes("target");
        assert!(published.is_none_or(|bytes| bytes == wanted), "a name over other bytes");
        let (Some(journal), Some(partial)) = (journal, disk.bytes("partial")) else { return };
        with_journal += 1;
        for range in journal.done.iter() {
            let range = range.start as usize..range.end as usize;
            assert!(
                partial.get(range.clone()) == Some(&wanted[range.clone()]),
                "{range:?} is lost"
            );
        }
        // Going on takes long enough that a sample has to do.
        if with_journal % 3 == 0 {
            gone_on += 1;
            let folder = disk.folder();
            let medium = folder.open(name("partial")).unwrap();
            let target = RawImage::create(medium, SIZE).unwrap();
            let ledger = Ledger::resumed(journal.done, journal.unreadable);
            go_on(&folder, &source, &target, &ledger, true, u64::MAX);
            assert!(disk.bytes("target").unwrap() == wanted, "what went on is not equal");
            assert_eq!(disk.names(), ["target"]);
        }
    });
    assert!(with_journal > 40 && gone_on > 10, "{with_journal} journals, {gone_on} gone on with");
}

/// While it is flushed, another thread finishes a piece: behind what the flush makes durable.
struct Busy<'a> {
    target: &'a RawImage<Box<dyn Medium>>,
    ledger: &'a Ledger,
    piece: Range<u64>,
}

impl Image for Busy<'_> {
    fn size(&self) -> u64 {
        self.target.size()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.target.read_at(buf, offset)
    }
    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.target.extent_at(offset)
    }
}

impl ImageMut for Busy<'_> {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.target.write_at(buf, offset)
    }
    fn zero(&self, range: Range<u64>) -> Result<()> {
        self.target.zero(range)
    }
    fn forget(&self, range: Range<u64>) -> Result<()> {
        self.target.forget(range)
    }
    fn flush(&self) -> Result<()> {
        self.target.flush()?;
        let bytes = vec![9; (self.piece.end - self.piece.start) as usize];
        self.target.write_at(&bytes, self.piece.start)?;
        self.ledger.finish(self.piece.clone(), Vec::new());
        Ok(())
    }
    fn resize(&mut self, _: u64) -> Result<()> {
        Ok(())
    }
}

#[test]
fn what_is_finished_during_a_flush_is_noted_with_the_next_one() {
    let disk = CrashDisk::new();
    let folder = disk.folder();
    let target = RawImage::create(folder.create(name("partial")).unwrap(), SIZE).unwrap();
    let store = |journal: &Journal| journal.store(&folder, name("journal"));
    let checkpoints = Checkpoints::new(store, false);
    let ledger = Ledger::default();
    for number in 0..4 {
        let piece = number * 4096..(number + 1) * 4096;
        let busy = Busy { target: &target, ledger: &ledger, piece };
        checkpoints.note(&busy, &ledger, who(SIZE)).unwrap();
    }
    let mut claimed = 0;
    disk.cuts().states_max(100).check_each(|_, disk| {
        let journal = Journal::load(&disk.folder(), name("journal")).expect("never damaged");
        for range in journal.iter().flat_map(|journal| journal.done.iter()) {
            let bytes = disk.bytes("partial").unwrap();
            assert!(bytes[range.start as usize..range.end as usize].iter().all(|&byte| byte == 9));
            claimed += 1;
        }
    });
    assert!(claimed > 10);
    let journal = Journal::load(&folder, name("journal")).unwrap().unwrap();
    assert_eq!(journal.done.iter().collect::<Vec<_>>(), std::slice::from_ref(&(0..3 * 4096)));
}

#[test]
fn a_journal_stored_before_the_target_is_flushed_would_be_found() {
    let source = random_image(SIZE, 12);
    let wanted = bytes_of(&source);
    let disk = CrashDisk::new();
    let folder = disk.folder();
    let target = RawImage::create(folder.create(name("partial")).unwrap(), SIZE).unwrap();
    folder.sync().unwrap();
    let ledger = Ledger::default();
    run(&transfer(&source, &target, BLANK), &ledger).unwrap();
    let Who { source: from, target: to, size_bytes } = who(SIZE);
    let (done, unreadable) = ledger.snapshot();
    let journal = Journal { source: from, target: to, size_bytes, done, unreadable };
    journal.store(&folder, name("journal")).unwrap();
    let mut lies = 0;
    disk.cuts_now().states_max(60).check_each(|_, disk| {
        let journal = Journal::load(&disk.folder(), name("journal")).unwrap().unwrap();
        assert!(journal.done.contains(&(0..SIZE)));
        lies += u32::from(disk.bytes("partial").unwrap() != wanted);
    });
    assert!(lies > 10, "the simulation does not find a journal that lies");
}

#[test]
fn a_journal_that_was_removed_does_not_come_back() {
    let disk = CrashDisk::new();
    let folder = disk.folder();
    let Who { source, target, size_bytes } = who(SIZE);
    let done = std::iter::once(0..SIZE).collect();
    let journal =
        Journal { source, target, size_bytes, done, unreadable: std::iter::empty().collect() };
    journal.store(&folder, name("journal")).unwrap();
    Journal::remove(&folder, name("journal")).unwrap();
    let removed = disk.operations();
    let states = disk.each_cut(|cut, disk| {
        let found = Journal::load(&disk.folder(), name("journal")).expect("never damaged");
        assert!(found.is_none() || cut.after() < removed);
        assert!(found.is_none_or(|found| found == journal));
    });
    assert!(states > 10);
}
