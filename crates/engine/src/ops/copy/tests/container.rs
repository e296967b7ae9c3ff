//! Power cuts in the middle of a copy to a container: whatever a journal calls done is in it, and the copy goes on.

use std::ffi::OsStr;
use std::time::Duration;

use formats::spgz::{OnDamage, SpgzImage};
use image::layers::{Throttle, Throttled};
use image::{Folder, Image, ImageMut, Task};
use testkit::crash::CrashDisk;

use super::super::checkpoint::Checkpoints;
use super::*;
use crate::journal::Journal;

const BLOCK: u64 = 12_287;
/// Ten blocks, and a short one whose length the end of the container tells.
const SIZE: u64 = 10 * BLOCK + 3000;

fn name(text: &str) -> &OsStr {
    OsStr::new(text)
}

/// A block at a time, so that checkpoints find some of them done.
fn shape(blank: bool) -> Shape {
    Shape { piece_bytes: BLOCK as usize, ..Shape { blank, ..SMALL }.of_blocks(BLOCK) }
}

#[test]
fn after_each_power_cut_what_the_journal_calls_done_is_in_the_container() {
    let source = random_image(SIZE, 21);
    let wanted = bytes_of(&source);
    let disk = CrashDisk::new();
    let folder = disk.folder();
    let medium = folder.create(name("partial")).unwrap();
    let target = SpgzImage::create(medium, BLOCK, SIZE).unwrap();
    let store = |journal: &Journal| journal.store(&folder, name("journal"));
    let checkpoints = Checkpoints::new(store, false);
    let throttled = Throttled::new(&source, Throttle::new(400_000));
    let mut count = 0;
    let tick = |ledger: &Ledger| {
        count += 1;
        checkpoints.note(&target, ledger, who(SIZE))
    };
    let every = Duration::from_millis(10);
    let slow = transfer(&throttled, &target, shape(true));
    slow.run(&Task::silent(), &Ledger::default(), every, tick).unwrap();
    checkpoints.flush(&target).unwrap();
    assert!(count >= 3, "only {count} checkpoints: nothing was shown");
    assert!(bytes_of(&target) == wanted);

    let mut with_journal = 0;
    disk.cuts().states_max(120).check_each(|_, disk| {
        let folder = disk.folder();
        let journal = Journal::load(&folder, name("journal")).expect("never damaged");
        let Some(journal) = journal else { return };
        with_journal += 1;
        let medium = folder.open(name("partial")).unwrap();
        let mut found = SpgzImage::open(medium, OnDamage::Repair).unwrap();
        found.resize(SIZE).unwrap();
        for range in journal.done.iter() {
            let mut bytes = vec![0; (range.end - range.start) as usize];
            found.read_at(&mut bytes, range.start).unwrap();
            let range = range.start as usize..range.end as usize;
            assert!(bytes == wanted[range.clone()], "{range:?} is lost");
        }
        let mut rest = transfer(&source, &found, shape(false));
        rest.ranges = journal.done.gaps(0..SIZE);
        run(&rest, &Ledger::resumed(journal.done, journal.unreadable)).unwrap();
        found.flush().unwrap();
        assert!(bytes_of(&found) == wanted, "what went on is not equal");
    });
    assert!(with_journal > 20, "only {with_journal} journals");
}
