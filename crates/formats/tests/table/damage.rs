//! Damaged tables: the other copy of a GPT helps, and what cannot be right is refused with its place.

use formats::table::Table;
use image::{ErrorKind, Medium};

use crate::support::{GPT, MBR, MIB, by_us, disk, in_memory, read};

const SIZE: u64 = 100 * MIB;

#[test]
fn where_one_copy_of_a_gpt_is_damaged_the_other_one_is_taken_and_that_is_said() {
    let Some((_scratch, medium)) = disk(GPT, SIZE) else { return };
    let whole = by_us(&read(&medium));
    let last = SIZE - 512;
    for (offset, word) in [
        (512, "first copy"),
        (512 + 60, "first copy"),
        (1024 + 300, "first copy"),
        (last + 3, "backup"),
        (last + 91, "backup"),
        (last - 32 * 512, "backup"),
    ] {
        let disk = in_memory(&medium);
        flip(&disk, offset);
        let table = read(&disk);
        assert_eq!(by_us(&table), whole);
        let [finding] = table.findings() else { panic!("{offset}: {:?}", table.findings()) };
        assert!(finding.contains(word), "{offset}: {finding}");
        // Written again, both are right.
        table.adapted_to(SIZE, 512).unwrap().write(&disk).unwrap();
        assert!(read(&disk).findings().is_empty());
        assert!(read(&disk).pieces() == read(&medium).pieces(), "{offset}");
    }
}

#[test]
fn where_both_copies_are_damaged_that_is_refused_with_both_reasons() {
    let Some((_scratch, medium)) = disk(GPT, SIZE) else { return };
    let disk = in_memory(&medium);
    flip(&disk, 512);
    flip(&disk, SIZE - 512 + 50);
    let error = Table::read(&disk, 512).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert_eq!(error.location().unwrap().range, Some(512..1024));
    let said = error.to_string();
    assert!(said.contains("there is no header") && said.contains("checksum"), "{said}");
}

#[test]
fn a_gpt_on_a_disk_that_was_enlarged_has_its_backup_found() {
    let Some((_scratch, medium)) = disk(GPT, SIZE) else { return };
    medium.set_len(SIZE + 7 * MIB).unwrap();
    let table = read(&medium);
    assert!(table.findings()[0].contains("though the disk ends"), "{:?}", table.findings());
    table.adapted_to(SIZE + 7 * MIB, 512).unwrap().write(&medium).unwrap();
    assert!(read(&medium).findings().is_empty());
}

#[test]
fn no_single_changed_byte_of_a_table_is_taken_for_another_gpt() {
    let Some((_scratch, medium)) = disk(GPT, SIZE) else { return };
    let (good, disk) = (by_us(&read(&medium)), in_memory(&medium));
    for piece in read(&medium).pieces().iter().filter(|piece| piece.offset != 0) {
        for at in (0..piece.bytes.len() as u64).step_by(7) {
            flip(&disk, piece.offset + at);
            assert_eq!(by_us(&read(&disk)), good, "{}", piece.offset + at);
            flip(&disk, piece.offset + at);
        }
    }
    assert!(read(&disk) == read(&medium));
}

/// An MBR with `bytes` at `offset` is refused, in words that have `part` in them.
#[track_caller]
fn assert_refused(kind: ErrorKind, offset: u64, bytes: &[u8], part: &str) {
    let Some((_scratch, medium)) = disk(MBR, SIZE) else { return };
    let disk = in_memory(&medium);
    disk.write_at(bytes, offset).unwrap();
    let error = Table::read(&disk, 512).expect_err("it cannot be right");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(part) && error.location().is_some(), "{error}");
}

/// Where entry `slot` of the record in `sector` begins.
fn entry(sector: u64, slot: u64) -> u64 {
    sector * 512 + 446 + slot * 16
}

#[test]
fn an_mbr_that_cannot_be_right_is_refused() {
    let extended = 24576;
    let number = |sectors: u32| sectors.to_le_bytes();
    let damaged = ErrorKind::Damaged;
    // The first partition, made longer than the disk, made to overlap the second, made to begin in the record itself.
    assert_refused(damaged, entry(0, 0) + 12, &number(u32::MAX), "on a disk that has 204800");
    assert_refused(
        damaged,
        entry(0, 0) + 12,
        &number(20_000),
        "partition 1 and partition 2 overlap",
    );
    assert_refused(damaged, entry(0, 0) + 8, &number(0), "partition 1 is said");
    // The chain leads to itself, out of the extended partition, and to where there is no record.
    assert_refused(damaged, entry(extended, 1) + 8, &number(0), "comes back to sector 24576");
    assert_refused(damaged, entry(extended, 1) + 8, &number(100_000), "leads out");
    assert_refused(damaged, entry(extended, 1) + 8, &number(9), "goes on");
    // A logical partition outside of the extended one, and one over the next record.
    assert_refused(damaged, entry(extended, 0) + 12, &number(90_000), "does not lie in");
    assert_refused(damaged, entry(extended, 0) + 12, &number(30_000), "overlap");
    let third = [0, 0, 0, 0, 0x83, 0, 0, 0, 9, 0, 0, 0, 9, 0, 0, 0];
    assert_refused(ErrorKind::Unsupported, entry(extended, 2), &third, "more than one");
}

#[test]
fn an_extended_partition_that_was_never_used_is_empty() {
    let Some((_scratch, medium)) = disk(MBR, SIZE) else { return };
    let disk = in_memory(&medium);
    disk.write_at(&[0; 512], 24576 * 512).unwrap();
    let table = read(&disk);
    assert_eq!(table.partitions().len(), 3);
    assert!(table.findings()[0].contains("24576"), "{:?}", table.findings());
}

fn flip(disk: &dyn Medium, offset: u64) {
    let mut byte = [0];
    disk.read_at(&mut byte, offset).unwrap();
    disk.write_at(&[byte[0] ^ 0x10], offset).unwrap();
}
