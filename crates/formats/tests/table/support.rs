//! Disks that sfdisk and sgdisk have partitioned, and what they say of others.

use std::path::Path;

use formats::table::{Partition, Table};
use image::{Medium, MemoryMedium};
use sys::{Access, FileMedium};
use testkit::host::{Needs, TempDir, has_tool, partition_image, require, run, tool};

pub(crate) const MIB: u64 = 1 << 20;

/// A GPT with a partition of each sort.
pub(crate) const GPT: &str = "label: gpt\nlabel-id: 11111111-2222-3333-4444-5566778899AA\n\
    size=4M, type=uefi, name=\"EFI system\"\nsize=1M, type=21686148-6449-6E6F-744E-656564454649\n\
    size=9M, name=\"home\", attrs=\"RequiredPartition,GUID:63\"\nstart=60M, size=4M, type=swap\n";

/// An MBR with logical partitions, one of them before the end of the extended one.
pub(crate) const MBR: &str = "label: dos\nlabel-id: 0xcafe1234\n1: size=8M, type=c, bootable\n2: size=3M, type=83\n\
    3: size=40M, type=f\n5: size=5M, type=83\n6: size=6M, type=82\n7: size=4M, type=83\n";

/// A disk of that size that sfdisk partitioned; `None` where that is not installed.
pub(crate) fn disk(script: &str, size_bytes: u64) -> Option<(TempDir, FileMedium)> {
    let scratch = require(&Needs::none().tools(&["sfdisk"]))?;
    let path = scratch.join("disk");
    partition_image(&path, size_bytes, script);
    let medium = FileMedium::open(&path, Access::Write).unwrap();
    Some((scratch, medium))
}

pub(crate) fn read(medium: &dyn Medium) -> Table {
    Table::read(medium, 512).unwrap().expect("there is a table")
}

/// What matters of the bytes of a disk: the pieces of its table, in memory.
pub(crate) fn in_memory(medium: &dyn Medium) -> MemoryMedium {
    let memory = MemoryMedium::fixed("disk", medium.len().unwrap());
    for piece in read(medium).pieces() {
        let mut bytes = vec![0; piece.bytes.len()];
        medium.read_at(&mut bytes, piece.offset).unwrap();
        memory.write_at(&bytes, piece.offset).unwrap();
    }
    memory
}

/// Number, first sector, count of sectors, type, UUID and name, as sfdisk tells them.
pub(crate) fn by_sfdisk(path: &Path) -> Vec<String> {
    let json: serde_json::Value =
        serde_json::from_str(&run(tool("sfdisk").arg("--json").arg(path))).unwrap();
    let partitions = json["partitiontable"]["partitions"].as_array().cloned().unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_lowercase();
    let line = |partition: &serde_json::Value| {
        let node = text(&partition["node"]);
        let digits = node.rsplit(|letter: char| !letter.is_ascii_digit()).next().unwrap();
        format!(
            "{digits} {} {} {:0>2} {} {}",
            partition["start"],
            partition["size"],
            text(&partition["type"]),
            text(&partition["uuid"]),
            partition["name"].as_str().unwrap_or_default()
        )
    };
    partitions.iter().map(line).collect()
}

/// The same as we tell it.
pub(crate) fn by_us(table: &Table) -> Vec<String> {
    let line = |partition: &Partition| {
        let uuid = if partition.kind.len() == 2 { "" } else { &partition.uuid };
        let sector_bytes = u64::from(table.sector_bytes());
        let sectors = |bytes: u64| bytes / sector_bytes;
        format!(
            "{} {} {} {} {uuid} {}",
            partition.number,
            sectors(partition.range.start),
            sectors(partition.range.end - partition.range.start),
            partition.kind,
            partition.name.as_deref().unwrap_or_default()
        )
    };
    table.partitions().iter().map(line).collect()
}

/// Panics with what they said unless sfdisk and, for a GPT, sgdisk find nothing to complain of.
#[track_caller]
pub(crate) fn assert_verified(path: &Path) {
    let said = run(tool("sfdisk").arg("--verify").arg(path));
    assert!(said.contains("No errors detected"), "{said}");
    let is_gpt = run(tool("sfdisk").arg("--dump").arg(path)).contains("label: gpt");
    if is_gpt && has_tool("sgdisk") {
        let said = run(tool("sgdisk").arg("--verify").arg(path));
        assert!(said.contains("No problems found"), "{said}");
    }
}
