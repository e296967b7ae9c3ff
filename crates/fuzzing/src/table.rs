//! Any bytes as the two ends of a partitioned disk.

use formats::table::Table;
use image::{ErrorKind, Medium, MemoryMedium};

/// Larger than any table that is read, so that both ends of it can be hostile.
const DISK_BYTES: u64 = 8 << 20;
/// How much of the bytes stands at the end of the disk: the backup of a small GPT.
const TAIL_BYTES: usize = 1024;
const LAST_SECTOR: u64 = DISK_BYTES / 512 - 1;

/// `bytes` are no table, or one that cannot be used, which is said with its place; or its partitions lie on the disk, and what is
/// written of it, on this disk and on others, reads as it was. The same holds once the checksums of a GPT are made right.
pub fn table(bytes: &[u8]) {
    let (head, tail) = bytes.split_at(bytes.len().saturating_sub(TAIL_BYTES));
    let (mut head, mut tail) = (head[..head.len().min(1 << 20)].to_vec(), tail.to_vec());
    look(&head, &tail);
    seal(&mut head, 512, 1024);
    seal(&mut tail, 512, 0);
    look(&head, &tail);
}

/// Disks to begin with: a GPT and an MBR with logical partitions, as [`table`] takes them.
pub fn partitioned_disks() -> [Vec<u8>; 2] {
    let mut gpt = vec![0; 1536 + TAIL_BYTES];
    let entry = |start: u32, count: u32, kind: u8| {
        let [start, count] = [start, count].map(u32::to_le_bytes);
        [[0, 0, 0, 0].as_slice(), &[kind, 0, 0, 0], &start, &count].concat()
    };
    put(&mut gpt, 446, &entry(1, LAST_SECTOR as u32, 0xee));
    put(&mut gpt, 510, &[0x55, 0xaa]);
    let numbers =
        |values: &[u64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let mut entries = vec![0; 512];
    for (slot, [first, last]) in [[34, 2047], [4096, 4096], [2048, 4000]].into_iter().enumerate() {
        put(&mut entries, slot * 128, &[slot as u8 + 1; 32]);
        put(&mut entries, slot * 128 + 32, &numbers(&[first, last]));
        put(&mut entries, slot * 128 + 56, b"n\0a\0m\0e\0");
    }
    let header = |own: u64, other: u64, array: u64| {
        let places = numbers(&[own, other, 3, LAST_SECTOR - 2]);
        let mut sector =
            [b"EFI PART".as_slice(), &[0, 0, 1, 0, 92, 0, 0, 0], &[0; 8], &places].concat();
        sector.extend([7; 16]);
        sector.extend(numbers(&[array]));
        sector.extend([4, 0, 0, 0, 128, 0, 0, 0, 0, 0, 0, 0]);
        sector
    };
    put(&mut gpt, 512, &header(1, LAST_SECTOR, 2));
    put(&mut gpt, 1024, &entries);
    put(&mut gpt, 1536, &entries);
    put(&mut gpt, 2048, &header(LAST_SECTOR, 1, LAST_SECTOR - 1));
    let (head, tail) = gpt.split_at_mut(1536);
    seal(head, 512, 1024);
    seal(tail, 512, 0);

    let mut mbr = vec![0; 8 * 512 + TAIL_BYTES];
    for (sector, entries) in [
        (0, [entry(1, 1, 0x83), entry(2, 60, 0x05), entry(100, 100, 0x07)].as_slice()),
        (2, &[entry(1, 1, 0x83), entry(2, 9, 0x05)]),
        (4, &[entry(1, 2, 0x82), entry(5, 9, 0x0f)]),
        (7, &[entry(1, 30, 0x83)]),
    ] {
        put(&mut mbr, sector * 512 + 446, &entries.concat());
        put(&mut mbr, sector * 512 + 510, &[0x55, 0xaa]);
    }
    [gpt, mbr]
}

fn look(head: &[u8], tail: &[u8]) {
    let disk = MemoryMedium::fixed("hostile", DISK_BYTES);
    disk.write_at(head, 0).expect("memory takes it");
    disk.write_at(tail, DISK_BYTES - tail.len() as u64).expect("memory takes it");
    for sector_bytes in [512, 4096] {
        match Table::read(&disk, sector_bytes) {
            Ok(None) => {}
            Ok(Some(table)) => check(&table, sector_bytes),
            Err(error) => super::assert_is_about_damage(&error, "hostile"),
        }
    }
}

fn check(table: &Table, sector_bytes: u32) {
    let partitions = table.partitions();
    for partition in &partitions {
        let range = &partition.range;
        assert!(range.start < range.end && range.end <= DISK_BYTES, "{partition:?}");
    }
    for size_bytes in [DISK_BYTES, 2 * DISK_BYTES, table.least_disk_bytes()] {
        let mut adapted = match table.adapted_to(size_bytes, sector_bytes) {
            Ok(adapted) => adapted,
            Err(error) => {
                assert!(
                    error.kind() == ErrorKind::TooSmall && size_bytes < table.least_disk_bytes()
                );
                continue;
            }
        };
        assert!(adapted.partitions() == partitions, "partitions have changed");
        let can_grow = table.last_partition().is_some();
        assert_eq!(adapted.grow_last(1 << 20).is_ok(), can_grow);
        let disk = MemoryMedium::fixed("written", size_bytes);
        adapted.write(&disk).expect("memory takes it");
        adapted.verify(&disk).expect("it was just written");
        let again = Table::read(&disk, sector_bytes).expect("it was just written");
        let again = again.expect("it was just written");
        assert!(again.partitions() == adapted.partitions(), "it reads otherwise");
    }
}

/// Makes the checksums of the header at `header` and of its entries at `array` right, as far as they are there.
fn seal(bytes: &mut [u8], header: usize, array: usize) {
    let number = |bytes: &[u8], at: usize| {
        let field = bytes.get(at..at + 4).and_then(|field| field.try_into().ok());
        field.map_or(0, u32::from_le_bytes) as usize
    };
    if bytes.get(header..header + 8) != Some(b"EFI PART") || bytes.len() < header + 512 {
        return;
    }
    let len = number(bytes, header + 80).saturating_mul(number(bytes, header + 84));
    if let Some(entries) = bytes.get(array..array.saturating_add(len)) {
        let crc = crc32(entries);
        put(bytes, header + 88, &crc.to_le_bytes());
    }
    put(bytes, header + 16, &[0; 4]);
    if let Some(sector) = bytes.get(header..header.saturating_add(number(bytes, header + 12))) {
        let crc = crc32(sector);
        put(bytes, header + 16, &crc.to_le_bytes());
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// The checksum of IEEE 802.3.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes
        .iter()
        .fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| step(crc)))
}
