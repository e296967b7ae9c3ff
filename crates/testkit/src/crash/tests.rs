//! A crash disk finds the bugs that it is for, and blames no program that has none.

use std::collections::BTreeSet;
use std::ffi::OsStr;

use ::image::{ErrorKind, Folder, Medium, Replace};

use super::{CrashDisk, CrashMedium};
use crate::contract::{MediumRules, check_folder, check_medium, check_medium_reopened};

#[test]
fn a_growing_crash_medium_is_a_medium() {
    let make = |len_bytes| sized(CrashDisk::add, len_bytes);
    check_medium(make, MediumRules::file());
    check_medium_reopened(make, |medium| worst_reopening(&medium), MediumRules::file());
}

#[test]
fn a_fixed_crash_medium_is_a_medium() {
    let make = |len_bytes| sized(CrashDisk::add_fixed, len_bytes);
    check_medium(make, MediumRules::device());
    check_medium_reopened(make, |medium| worst_reopening(&medium), MediumRules::device());
}

#[test]
fn a_crash_folder_is_a_folder() {
    check_folder(|| CrashDisk::new().folder());
}

type Add = fn(&CrashDisk, &'static str, &[u8]) -> CrashMedium;

fn sized(add: Add, len_bytes: u64) -> CrashMedium {
    add(&CrashDisk::new(), "medium", &vec![0; len_bytes as usize])
}

/// The medium as it is when the power goes and all that is not durable is lost.
fn worst_reopening(medium: &CrashMedium) -> CrashMedium {
    let rebooted = medium.disk().cuts_now().next().unwrap().reboot();
    rebooted.medium("medium").unwrap()
}

const CONTENT: [u8; 1500] = [7; 1500];

/// Writes a file under a temporary name and gives it its own: in good order, or with one step left out.
fn publish(disk: &CrashDisk, sync_file: bool, sync_folder: bool) -> ::image::Result<()> {
    let folder = disk.folder();
    let medium = folder.create(OsStr::new("new.tmp"))?;
    medium.write_at(&CONTENT, 0)?;
    if sync_file {
        medium.sync()?;
    }
    folder.rename(OsStr::new("new.tmp"), OsStr::new("new"), Replace::Never)?;
    if sync_folder {
        folder.sync()?;
    }
    Ok(())
}

/// What must hold whenever the power went: no name without its bytes, and no loss of what was promised.
fn check_published(disk: &CrashDisk) -> usize {
    let promised = disk.operations();
    disk.each_cut(|cut, disk| {
        let found = disk.bytes("new");
        assert!(found.is_none_or(|bytes| bytes == CONTENT), "the name stands over other bytes");
        assert!(
            cut.after() < promised || disk.bytes("new").is_some(),
            "it was promised and is gone"
        );
    })
}

#[track_caller]
fn assert_caught(check: impl FnOnce() -> usize, words: &str) {
    let message = crate::caught(check).expect_err("no state shows the bug");
    assert!(message.contains(words), "{message}");
    assert!(message.contains("power cut after"), "{message}");
}

#[test]
fn publishing_in_good_order_survives_each_cut() {
    let disk = CrashDisk::new();
    publish(&disk, true, true).unwrap();
    assert!(check_published(&disk) > 10);
}

#[test]
fn publishing_before_the_bytes_are_durable_is_caught() {
    let disk = CrashDisk::new();
    publish(&disk, false, true).unwrap();
    assert_caught(|| check_published(&disk), "the name stands over other bytes");
}

#[test]
fn promising_before_the_name_is_durable_is_caught() {
    let disk = CrashDisk::new();
    publish(&disk, true, false).unwrap();
    assert_caught(|| check_published(&disk), "it was promised and is gone");
}

/// Overwrites a record, with the old one kept in a journal, which claims to be complete by its first byte.
fn overwrite(disk: &CrashDisk, sync_before_claim: bool) -> ::image::Result<()> {
    let (table, journal) = (disk.medium("table").unwrap(), disk.medium("journal").unwrap());
    let mut record = [0; 1024];
    table.read_at(&mut record, 0)?;
    journal.write_at(&record, 512)?;
    if sync_before_claim {
        journal.sync()?;
    }
    journal.write_at(&[1], 0)?;
    journal.sync()?;
    table.write_at(&[9; 1024], 0)?;
    table.sync()
}

/// What a program finds that puts the record back when the journal claims to have it.
fn recovered(disk: &CrashDisk) -> Vec<u8> {
    let (table, journal) = (disk.bytes("table").unwrap(), disk.bytes("journal").unwrap());
    if journal[0] == 1 { journal[512..].to_vec() } else { table }
}

fn disk_with_table() -> CrashDisk {
    let disk = CrashDisk::new();
    disk.add("table", &[5; 1024]);
    disk.add_fixed("journal", &[0; 1536]);
    disk
}

#[test]
fn a_journal_that_claims_after_its_sync_survives_each_cut() {
    let disk = disk_with_table();
    overwrite(&disk, true).unwrap();
    disk.each_cut(|_, disk| assert_eq!(recovered(&disk), [5; 1024]));
}

#[test]
fn a_journal_that_claims_before_its_bytes_are_durable_is_caught() {
    let disk = disk_with_table();
    overwrite(&disk, false).unwrap();
    assert_caught(
        || {
            disk.each_cut(|_, disk| {
                assert!(recovered(&disk) == [5; 1024], "a record that never was");
            })
        },
        "a record that never was",
    );
}

/// All contents that the medium `name` can have after the last operation.
fn outcomes(disk: &CrashDisk, name: &str) -> BTreeSet<Vec<u8>> {
    disk.cuts_now().map(|cut| cut.reboot().bytes(name).unwrap_or_default()).collect()
}

#[test]
fn a_write_in_place_has_each_subset_of_its_sectors() {
    let disk = CrashDisk::new();
    disk.add("a", &[0; 1536]).write_at(&[1; 1100], 400).unwrap();
    let mut expected = BTreeSet::new();
    for bits in 0..8 {
        let mut bytes = vec![0; 1536];
        for (bit, range) in [(1, 400..512), (2, 512..1024), (4, 1024..1500)] {
            if bits & bit != 0 {
                bytes[range].fill(1);
            }
        }
        expected.insert(bytes);
    }
    assert_eq!(outcomes(&disk, "a"), expected);
    assert_eq!(disk.cuts_now().count(), 8);
}

#[test]
fn a_write_past_the_end_may_leave_its_length_without_its_bytes() {
    let disk = CrashDisk::new();
    disk.add("a", b"").write_at(&[1; 600], 0).unwrap();
    let bytes = |first: u8, second: u8| [[first; 512].as_slice(), &[second; 88]].concat();
    let expected =
        [vec![], vec![1; 512], bytes(0, 0), bytes(1, 0), bytes(0, 1), bytes(1, 1)].into();
    assert_eq!(outcomes(&disk, "a"), expected);
}

#[test]
fn punches_and_length_changes_are_there_or_not() {
    let disk = CrashDisk::new();
    let medium = disk.add("a", &[1; 600]);
    medium.punch(0..512).unwrap();
    medium.set_len(550).unwrap();
    let bytes = |first: u8, len: usize| [vec![first; 512], vec![1; len - 512]].concat();
    assert_eq!(
        outcomes(&disk, "a"),
        [bytes(1, 600), bytes(1, 550), bytes(0, 600), bytes(0, 550)].into()
    );
}

#[test]
fn what_was_discarded_is_old_or_garbage() {
    let disk = CrashDisk::new();
    disk.add("a", &[1; 100]).discard(0..100).unwrap();
    assert_ne!(disk.bytes("a"), Some(vec![1; 100]));
    assert_eq!(outcomes(&disk, "a"), [vec![1; 100], disk.bytes("a").unwrap()].into());
}

#[test]
fn a_sync_makes_durable_what_went_before_on_its_medium_and_nothing_else() {
    let disk = CrashDisk::new();
    let (a, b) = (disk.add("a", b"0"), disk.add("b", b"0"));
    a.write_at(b"1", 0).unwrap();
    b.write_at(b"1", 0).unwrap();
    a.sync().unwrap();
    a.write_at(b"2", 0).unwrap();
    let both = |cut: super::Cut| {
        let disk = cut.reboot();
        [disk.bytes("a").unwrap(), disk.bytes("b").unwrap()].concat()
    };
    let found: BTreeSet<Vec<u8>> = disk.cuts_now().map(both).collect();
    assert_eq!(found, ["10", "11", "20", "21"].map(|text| text.as_bytes().to_vec()).into());
}

#[test]
fn namings_come_through_in_their_order() {
    let disk = CrashDisk::new();
    disk.add("a", b"");
    let folder = disk.folder();
    folder.create(OsStr::new("b")).unwrap();
    folder.rename(OsStr::new("a"), OsStr::new("c"), Replace::Never).unwrap();
    folder.remove(OsStr::new("b")).unwrap();
    let names = |cut: super::Cut| cut.reboot().names().join(OsStr::new("+"));
    let found: Vec<_> = disk.cuts_now().map(names).collect();
    assert_eq!(found, ["a", "a+b", "b+c", "c"]);
    folder.sync().unwrap();
    assert_eq!(disk.cuts_now().map(names).collect::<Vec<_>>(), ["c"]);
}

#[test]
fn many_changes_are_sampled_with_the_extremes_in_it() {
    let disk = CrashDisk::new();
    let medium = disk.add("a", &[0; 40]);
    for number in 0..40 {
        medium.write_at(&[1], number).unwrap();
    }
    let found = outcomes(&disk, "a");
    for there in [0, 1] {
        assert!(found.contains(&vec![there; 40]));
        for one in 0..40 {
            let mut bytes = vec![there; 40];
            bytes[one] = 1 - there;
            assert!(found.contains(&bytes), "{one} is never the only one that is not {there}");
        }
    }
    let states = disk.cuts_now().count();
    assert!((82..1000).contains(&states), "{states} states");
    assert!(disk.cuts_now().states_max(10).count() <= 10);
}

#[test]
fn a_long_write_among_few_is_torn_while_the_others_come_and_go() {
    let disk = CrashDisk::new();
    let medium = disk.add("a", &[0; 40_000]);
    medium.write_at(&[1; 32_768], 0).unwrap();
    medium.write_at(&[1], 39_999).unwrap();
    let kinds: BTreeSet<(bool, bool, u8)> = outcomes(&disk, "a")
        .into_iter()
        .map(|bytes| {
            let ones = bytes[..32_768].iter().filter(|&&byte| byte == 1).count();
            (ones == 0, ones == 32_768, bytes[39_999])
        })
        .collect();
    assert_eq!(kinds.len(), 6, "lost, torn or whole, beside a small write that is there or not");
}

#[test]
fn once_the_plug_is_pulled_everything_fails() {
    let disk = CrashDisk::new();
    disk.pull_plug_after(3);
    let kind = publish(&disk, true, true).unwrap_err().kind();
    assert_eq!(kind, ErrorKind::Io);
    assert_eq!(disk.folder().open(OsStr::new("new.tmp")).err().unwrap().kind(), ErrorKind::Io);
    assert_eq!(disk.folder().sync().unwrap_err().kind(), ErrorKind::Io);
    let renamed: BTreeSet<bool> =
        disk.cuts_now().map(|cut| cut.reboot().bytes("new").is_some()).collect();
    assert_eq!(renamed, [false, true].into(), "the rename was under way: it came through or not");
}

#[test]
fn whoever_was_told_that_it_worked_finds_it() {
    for operations in 0..=6 {
        let disk = CrashDisk::new();
        disk.pull_plug_after(operations);
        let told = publish(&disk, true, true).is_ok();
        disk.cuts_now().check_each(|_, disk| assert!(disk.bytes("new").is_some() || !told));
        assert_eq!(told, operations >= 5);
    }
}

#[test]
fn a_disk_works_on_after_a_cut_and_can_be_cut_again() {
    let disk = CrashDisk::new();
    publish(&disk, true, true).unwrap();
    let states = disk.each_cut(|_, disk| {
        disk.folder().remove(OsStr::new("new")).unwrap();
        disk.folder().remove(OsStr::new("new.tmp")).unwrap();
        publish(&disk, true, true).unwrap();
        check_published(&disk);
    });
    assert!(states > 10);
}
