//! What sfdisk and sgdisk write is read as they mean it, and what we write is right in their eyes.

use formats::table::{Table, TableKind};
use image::{Medium, MemoryMedium};
use sys::{Access, FileMedium};
use testkit::host::{LoopDevice, LoopOptions, Needs, has_tool, require, run, tool};

use crate::support::{GPT, MBR, MIB, assert_verified, by_sfdisk, by_us, disk, read};

#[test]
fn a_gpt_is_read_as_sfdisk_reads_it() {
    let Some((scratch, medium)) = disk(GPT, 100 * MIB) else { return };
    let table = read(&medium);
    assert_eq!(table.kind(), TableKind::Gpt);
    assert_eq!(table.id(), "11111111-2222-3333-4444-5566778899aa");
    assert_eq!(by_us(&table), by_sfdisk(&scratch.join("disk")));
    assert!(table.findings().is_empty(), "{:?}", table.findings());
    if !has_tool("sgdisk") {
        return;
    }
    let mut command = tool("sgdisk");
    command.env("LC_ALL", "C.UTF-8").arg("--change-name=3:größe 😀");
    run(command.arg(scratch.join("disk")));
    assert_eq!(read(&medium).partitions()[2].name.as_deref(), Some("größe 😀"));
}

#[test]
fn an_mbr_with_logical_partitions_is_read_as_sfdisk_reads_it() {
    let Some((scratch, medium)) = disk(MBR, 100 * MIB) else { return };
    let table = read(&medium);
    assert_eq!((table.kind(), table.id().as_str()), (TableKind::Mbr, "cafe1234"));
    assert_eq!(by_us(&table), by_sfdisk(&scratch.join("disk")));
    let partitions = table.partitions();
    let numbers: Vec<u32> = partitions.iter().map(|partition| partition.number).collect();
    assert_eq!(numbers, [1, 2, 3, 5, 6, 7]);
    assert!(partitions[2].is_container && table.findings().is_empty());
    assert_eq!(partitions[4].uuid, "cafe1234-06");
}

#[test]
fn partitions_are_where_partx_sees_them() {
    let Some(_) = require(&Needs::none().tools(&["partx"])) else { return };
    for script in [GPT, MBR] {
        let Some((scratch, medium)) = disk(script, 100 * MIB) else { return };
        let said = run(tool("partx")
            .args(["--show", "--noheadings", "--output=NR,START,SECTORS"])
            .arg(scratch.join("disk")));
        let said: Vec<Vec<u64>> = said
            .lines()
            .map(|line| line.split_whitespace().map(|word| word.parse().unwrap()).collect())
            .collect();
        // An extended partition is shown with a token length.
        let ours: Vec<Vec<u64>> = read(&medium)
            .partitions()
            .iter()
            .map(|partition| {
                let range = &partition.range;
                let sectors = (range.end - range.start) / 512;
                vec![u64::from(partition.number), range.start / 512, sectors]
            })
            .collect();
        assert_eq!(ours, said);
    }
}

#[test]
fn a_table_that_was_written_again_is_the_same_byte_for_byte() {
    for script in [GPT, MBR, "label: gpt\n", "label: dos\n"] {
        let Some((scratch, medium)) = disk(script, 100 * MIB) else { return };
        let table = read(&medium);
        let copy = scratch.join("copy");
        std::fs::write(&copy, "").unwrap();
        let other = FileMedium::open(&copy, Access::Write).unwrap();
        other.set_len(100 * MIB).unwrap();
        table.write(&other).unwrap();
        table.verify(&other).unwrap();
        run(tool("cmp").arg(scratch.join("disk")).arg(&copy));
    }
}

#[test]
fn a_table_of_sgdisk_with_more_entries_elsewhere_is_read() {
    let Some(scratch) = require(&Needs::none().tools(&["sgdisk"])) else { return };
    let path = scratch.join("disk");
    std::fs::write(&path, "").unwrap();
    let medium = FileMedium::open(&path, Access::Write).unwrap();
    medium.set_len(64 * MIB).unwrap();
    let arguments = [
        "--resize-table=256",
        "--move-main-table=400",
        "--new=200:8M:+4M",
        "--change-name=200:far",
    ];
    run(tool("sgdisk").args(arguments).arg(&path));
    let table = read(&medium);
    let [only] = &table.partitions()[..] else { panic!("{:?}", table.partitions()) };
    assert_eq!((only.number, only.name.as_deref()), (200, Some("far")));
    assert_eq!(only.range, 8 * MIB..12 * MIB);
    let larger = table.adapted_to(90 * MIB, 512).unwrap();
    medium.set_len(90 * MIB).unwrap();
    larger.write(&medium).unwrap();
    assert_verified(&path);
    assert_eq!(by_us(&read(&medium)), by_us(&table));
}

#[test]
fn a_hybrid_mbr_stays_as_it_is() {
    let Some(scratch) = require(&Needs::none().tools(&["sgdisk"])) else { return };
    let Some((disk, medium)) = disk(GPT, 100 * MIB) else { return };
    run(tool("sgdisk").arg("--hybrid=1:3").arg(disk.join("disk")));
    let table = read(&medium);
    assert_eq!((table.kind(), table.partitions().len()), (TableKind::Gpt, 4));
    let copy = scratch.join("copy");
    std::fs::write(&copy, "").unwrap();
    let other = FileMedium::open(&copy, Access::Write).unwrap();
    other.set_len(150 * MIB).unwrap();
    table.adapted_to(150 * MIB, 512).unwrap().write(&other).unwrap();
    let first = |medium: &dyn Medium| {
        let mut sector = [0; 512];
        medium.read_at(&mut sector, 0).unwrap();
        sector
    };
    assert_eq!(first(&other), first(&medium));
    run(tool("sgdisk").arg("--print").arg(&copy));
    assert_eq!(by_us(&read(&other)), by_us(&table));
}

#[test]
fn a_disk_with_sectors_of_4096_bytes_is_read() {
    let Some(scratch) = require(&Needs::root().tools(&["sfdisk", "losetup"])) else { return };
    for (script, kind) in [(GPT, TableKind::Gpt), (MBR, TableKind::Mbr)] {
        let path = scratch.join("disk");
        std::fs::write(&path, "").unwrap();
        let medium = FileMedium::open(&path, Access::Write).unwrap();
        medium.set_len(100 * MIB).unwrap();
        let options = LoopOptions { sector_bytes: 4096, ..LoopOptions::default() };
        let device = LoopDevice::attach(&path, &options);
        let script_path = scratch.join("script");
        std::fs::write(&script_path, script).unwrap();
        let mut command = tool("sfdisk");
        let input = std::fs::File::open(&script_path).unwrap();
        run(command.args(["--quiet", "--no-tell-kernel"]).arg(device.path()).stdin(input));
        let seen = by_sfdisk(device.path());
        run(tool("blockdev").arg("--flushbufs").arg(device.path()));
        let table = Table::read(&medium, 4096).unwrap().expect("there is a table");
        assert_eq!((table.kind(), by_us(&table)), (kind, seen));
        if kind == TableKind::Gpt {
            assert_eq!(Table::sector_bytes_of_file(&medium).unwrap(), 4096);
        }
        drop(device);
    }
}

#[test]
fn a_disk_with_a_filesystem_or_nothing_on_it_has_no_table() {
    let nothing = MemoryMedium::fixed("nothing", 8 * MIB);
    assert_eq!(Table::read(&nothing, 512).unwrap(), None);
    assert_eq!(Table::read(&MemoryMedium::fixed("tiny", 600), 512).unwrap(), None);
    let Some(scratch) = require(&Needs::none().tools(&["mkfs.vfat", "mkfs.ntfs", "mkfs.ext4"]))
    else {
        return;
    };
    for mkfs in [&["mkfs.vfat", "-I"][..], &["mkfs.ntfs", "-QF"], &["mkfs.ext4", "-qF"]] {
        let path = scratch.join("disk");
        std::fs::write(&path, "").unwrap();
        let medium = FileMedium::open(&path, Access::Write).unwrap();
        medium.set_len(16 * MIB).unwrap();
        run(tool(mkfs[0]).arg(mkfs[1]).arg(&path));
        assert_eq!(Table::read(&medium, 512).unwrap(), None, "{mkfs:?}");
    }
}
