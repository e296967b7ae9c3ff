//! Tables on disks of other sizes: larger ones, the smallest that will do, the last partition grown.

use formats::table::{Table, TableKind};
use image::{ErrorKind, Medium, MemoryMedium};
use proptest::prelude::*;

use crate::support::{GPT, MBR, MIB, assert_verified, by_sfdisk, by_us, disk, in_memory, read};

#[test]
fn on_a_larger_disk_the_partitions_are_the_same_and_the_table_is_right() {
    for script in [GPT, MBR] {
        let Some((scratch, medium)) = disk(script, 100 * MIB) else { return };
        let table = read(&medium);
        for size_bytes in [100 * MIB, 101 * MIB, 250 * MIB + 512, 3 << 40] {
            medium.set_len(size_bytes).unwrap();
            table.adapted_to(size_bytes, 512).unwrap().write(&medium).unwrap();
            assert_verified(&scratch.join("disk"));
            assert_eq!(by_sfdisk(&scratch.join("disk")), by_us(&table), "{size_bytes}");
            let again = read(&medium);
            assert_eq!(again.findings(), [""; 0], "{size_bytes}");
            assert_eq!(again.disk_bytes(), size_bytes);
        }
    }
}

#[test]
fn the_smallest_disk_will_do_and_a_smaller_one_is_refused() {
    for (script, at_least) in [(GPT, 64 * MIB + 33 * 512), (MBR, 52 * MIB)] {
        let Some((scratch, medium)) = disk(script, 100 * MIB) else { return };
        let table = read(&medium);
        assert_eq!(table.least_disk_bytes(), at_least);
        let error = table.adapted_to(at_least - 512, 512).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooSmall);
        medium.set_len(at_least).unwrap();
        table.adapted_to(at_least, 512).unwrap().write(&medium).unwrap();
        assert_verified(&scratch.join("disk"));
        let error = table.write(&MemoryMedium::fixed("small", 50 * MIB)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooSmall);
    }
}

#[test]
fn sectors_of_another_size_are_refused() {
    let Some((_scratch, medium)) = disk(GPT, 100 * MIB) else { return };
    let error = read(&medium).adapted_to(200 * MIB, 4096).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("512 bytes"), "{error}");
}

#[test]
fn the_last_partition_grows_to_the_end_and_the_extended_one_with_it() {
    for script in [GPT, MBR] {
        let Some((scratch, medium)) = disk(script, 100 * MIB) else { return };
        let before = read(&medium);
        medium.set_len(300 * MIB).unwrap();
        let mut table = before.adapted_to(300 * MIB, 512).unwrap();
        let grown = table.grow_last(MIB).unwrap();
        let last = before.last_partition().unwrap();
        assert_eq!((grown.number, grown.range.start), (last.number, last.range.start));
        // The backup of a GPT takes a part of the last MiB.
        let end = if before.kind() == TableKind::Gpt { 299 } else { 300 };
        assert_eq!(grown.range.end, end * MIB);
        table.write(&medium).unwrap();
        assert_verified(&scratch.join("disk"));
        assert_eq!(by_sfdisk(&scratch.join("disk")), by_us(&table));
        for (now, then) in table.partitions().iter().zip(before.partitions()) {
            let grows = now.number == last.number || now.is_container;
            assert_eq!(now.range.end != then.range.end, grows, "{now:?}");
        }
        assert_eq!(read(&medium).partitions(), table.partitions());
    }
}

#[test]
fn a_partition_that_reaches_the_end_already_does_not_grow_nor_shrink() {
    let script = "label: gpt\nsize=10M\nsize=+\n";
    let Some((_scratch, medium)) = disk(script, 100 * MIB) else { return };
    let before = read(&medium);
    let mut table = before.clone();
    for alignment_bytes in [MIB, 64 * MIB, 1 << 40] {
        let grown = table.grow_last(alignment_bytes).unwrap();
        assert_eq!(Some(grown), before.last_partition());
    }
    assert!(table == before);
    let Some((_scratch, medium)) = disk("label: dos\n", 10 * MIB) else { return };
    assert_eq!(read(&medium).grow_last(MIB).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn a_partition_before_an_empty_extended_one_grows_up_to_it() {
    let script = "label: dos\nsize=10M\nstart=40M,size=20M,type=5\n";
    let Some((scratch, medium)) = disk(script, 100 * MIB) else { return };
    let mut table = read(&medium);
    let grown = table.grow_last(MIB).unwrap();
    assert_eq!((grown.number, grown.range.end), (1, 40 * MIB));
    table.write(&medium).unwrap();
    assert_verified(&scratch.join("disk"));
    assert_eq!(read(&medium).partitions(), table.partitions());
}

#[test]
fn an_mbr_does_not_grow_beyond_what_it_can_count() {
    let Some((scratch, medium)) = disk(MBR, 100 * MIB) else { return };
    medium.set_len(3 << 40).unwrap();
    let mut table = read(&medium).adapted_to(3 << 40, 512).unwrap();
    let grown = table.grow_last(MIB).unwrap();
    assert_eq!(grown.range.end, (2 << 40) - MIB);
    table.write(&medium).unwrap();
    assert_verified(&scratch.join("disk"));
}

#[test]
fn an_erased_disk_has_no_table() {
    for script in [GPT, MBR] {
        let Some((_scratch, medium)) = disk(script, 100 * MIB) else { return };
        Table::erase(&medium, 512).unwrap();
        assert_eq!(Table::read(&medium, 512).unwrap(), None);
        let mut sectors = [0; 1024];
        medium.read_at(&mut sectors, 0).unwrap();
        assert!(digest::is_zero(&sectors));
        medium.read_at(&mut sectors[..512], 100 * MIB - 512).unwrap();
        assert!(digest::is_zero(&sectors));
    }
    Table::erase(&MemoryMedium::fixed("tiny", 512), 512).unwrap();
}

#[test]
fn whatever_the_size_and_alignment_a_table_that_was_adapted_and_grown_reads_as_it_was_written() {
    let mut tables = Vec::new();
    for script in [GPT, MBR] {
        let Some((_scratch, medium)) = disk(script, 100 * MIB) else { return };
        tables.push(read(&in_memory(&medium)));
    }
    let sizes = (0..2usize, 0..10_000_000u64, 0..511u64, 0..14u32, any::<bool>());
    let mut runner = proptest::test_runner::TestRunner::default();
    let run = |(which, more, odd, shift, grow): (usize, u64, u64, u32, bool)| {
        let table = &tables[which];
        let size_bytes = table.least_disk_bytes() + more * 512 + odd;
        let mut adapted = table.adapted_to(size_bytes, 512).unwrap();
        if grow {
            adapted.grow_last(512 << shift).unwrap();
        }
        let disk = MemoryMedium::fixed("disk", size_bytes);
        adapted.write(&disk).unwrap();
        adapted.verify(&disk).unwrap();
        let again = Table::read(&disk, 512).unwrap().unwrap();
        prop_assert_eq!(again.partitions(), adapted.partitions());
        prop_assert!(again.findings().is_empty());
        prop_assert!(again == adapted, "it reads otherwise");
        Ok(())
    };
    runner.run(&sizes, run).unwrap();
}
