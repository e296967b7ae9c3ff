//! GPT, as the UEFI specification (2.10, chapter 5) has it: a header and an array of entries, both kept twice.

use std::ops::Range;

use image::{ErrorKind, Result};

use super::check::{Area, Reader, put, u32_at, u64_at};
use super::{Partition, Piece, guid, mbr};

const MARK: &[u8; 8] = b"EFI PART";
/// How much of a header carries meaning, in bytes; revisions to come may have more.
const HEADER_BYTES: usize = 92;
const ENTRY_BYTES: u32 = 128;
const ENTRY_BYTES_MAX: u32 = 4096;
/// An array is held in memory as a whole. Everybody writes 16 KiB.
const ARRAY_BYTES_MAX: u64 = 4 << 20;

/// Offsets of the fields of a header.
const HEADER_LEN: usize = 12;
const HEADER_CRC: usize = 16;
const OWN_LBA: usize = 24;
const OTHER_LBA: usize = 32;
const FIRST_USABLE: usize = 40;
const LAST_USABLE: usize = 48;
const DISK_GUID: usize = 56;
const ARRAY_LBA: usize = 72;
const ENTRY_COUNT: usize = 80;
const ENTRY_LEN: usize = 84;
const ARRAY_CRC: usize = 88;

/// Offsets of the fields of an entry.
const TYPE_GUID: usize = 0;
const ENTRY_GUID: usize = 16;
const FIRST_LBA: usize = 32;
const LAST_LBA: usize = 40;
const NAME: Range<usize> = 56..128;

/// A GPT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gpt {
    /// The protective or hybrid MBR.
    sector0: Vec<u8>,
    /// The sector of the header, with zeroes where the two copies differ or what else stands here decides.
    header: Vec<u8>,
    /// The entries, one behind the other.
    array: Vec<u8>,
    entry_bytes: u32,
    usable: Range<u64>,
    array_lba: u64,
    backup_array_lba: u64,
    backup_lba: u64,
}

/// One of the two copies.
struct Copy {
    sector: Vec<u8>,
    array: Vec<u8>,
    usable: Range<u64>,
    array_lba: u64,
    other_lba: u64,
}

/// Whether a sector begins as a header does.
pub(super) fn is_header(sector: &[u8]) -> bool {
    sector.starts_with(MARK)
}

impl Gpt {
    pub(super) fn read(
        reader: &Reader<'_>,
        sector0: Vec<u8>,
        findings: &mut Vec<String>,
    ) -> Result<Self> {
        let last = reader.disk_sectors - 1;
        let first = Copy::read(reader, 1, Side::Primary)?;
        let mut second = Copy::read(reader, last, Side::Backup)?;
        let mut backup_lba = last;
        // On a disk that has grown since, the backup is where the primary header says.
        if let (Ok(primary), Err(_)) = (&first, &second)
            && (2..last).contains(&primary.other_lba)
        {
            let elsewhere = Copy::read(reader, primary.other_lba, Side::Backup)?;
            if elsewhere.is_ok() {
                backup_lba = primary.other_lba;
                second = elsewhere;
                findings.push(format!(
                    "the backup of the GPT is in sector {backup_lba}, though the disk ends with sector {last}"
                ));
            }
        }
        let (chosen, backup_array_lba) = match (first, second) {
            (Ok(primary), Ok(backup)) => {
                if !primary.says_the_same_as(&backup) {
                    findings.push("the two copies of the GPT differ; the first is taken".into());
                }
                (primary, Some(backup.array_lba))
            }
            (Ok(primary), Err(reason)) => {
                findings.push(format!("the backup of the GPT cannot be used: {reason}"));
                (primary, None)
            }
            (Err(reason), Ok(backup)) => {
                findings.push(format!(
                    "the first copy of the GPT cannot be used: {reason}; its backup is taken"
                ));
                (backup.as_primary(), Some(backup.array_lba))
            }
            (Err(first), Err(second)) => {
                let reason = format!(
                    "neither copy of the GPT is right (the first: {first}; the backup: {second})"
                );
                return Err(reader.refuse(ErrorKind::Damaged, 1..2, &reason));
            }
        };
        let array_sectors = sectors_of(&chosen.array, reader.sector_bytes);
        // A backup that is not there needs the place that it would have.
        let place = last.saturating_sub(array_sectors);
        let backup_array_lba = backup_array_lba.unwrap_or(place);
        let mut usable = chosen.usable;
        usable.end = usable.end.min(backup_array_lba);
        if chosen.array_lba + array_sectors > usable.start || usable.is_empty() {
            let reason = "the GPT leaves no room for itself";
            return Err(reader.refuse(ErrorKind::Damaged, 1..2, reason));
        }
        let gpt = Gpt {
            sector0,
            entry_bytes: u32_at(&chosen.sector, ENTRY_LEN),
            header: without_places(chosen.sector),
            array: chosen.array,
            usable,
            array_lba: chosen.array_lba,
            backup_array_lba,
            backup_lba,
        };
        gpt.check(reader)?;
        Ok(gpt)
    }

    pub(super) fn id(&self) -> String {
        guid::text(&guid_at(&self.header, DISK_GUID))
    }

    pub(super) fn partitions(&self, sector_bytes: u32) -> Vec<Partition> {
        let partition = |(number, entry): (u32, &[u8])| {
            let sectors = sectors_of_entry(entry);
            let bytes = |sector: u64| sector * u64::from(sector_bytes);
            Partition {
                number,
                range: bytes(sectors.start)..bytes(sectors.end),
                kind: guid::text(&guid_at(entry, TYPE_GUID)),
                name: Some(name_of(entry)).filter(|name| !name.is_empty()),
                uuid: guid::text(&guid_at(entry, ENTRY_GUID)),
                is_container: false,
            }
        };
        self.used().map(partition).collect()
    }

    /// What partitions may use.
    pub(super) fn usable(&self) -> Range<u64> {
        self.usable.clone()
    }

    /// How many sectors the table takes at the end of the disk.
    pub(super) fn tail_sectors(&self, sector_bytes: u32) -> u64 {
        sectors_of(&self.array, sector_bytes) + 1
    }

    /// Makes it the table of a disk of `disk_sectors`, on which its partitions have room.
    pub(super) fn move_to(&mut self, disk_sectors: u64, sector_bytes: u32) {
        let from_sectors = self.backup_lba + 1;
        if from_sectors != disk_sectors {
            self.backup_lba = disk_sectors - 1;
            self.backup_array_lba = disk_sectors - self.tail_sectors(sector_bytes);
            self.usable.end = self.backup_array_lba;
            mbr::resize_protective(&mut self.sector0, from_sectors, disk_sectors);
        }
    }

    /// Lets partition `number` end before the sector `end`.
    pub(super) fn set_end(&mut self, number: u32, end: u64) {
        let at = (number as usize - 1) * self.entry_bytes as usize;
        put(&mut self.array, at + LAST_LBA, &(end - 1).to_le_bytes());
    }

    /// The backup, the first copy, and then the sector that says that there is a GPT.
    pub(super) fn steps(&self, sector_bytes: u32) -> Vec<Vec<Piece>> {
        let piece = |lba: u64, mut bytes: Vec<u8>| {
            bytes.resize(bytes.len().next_multiple_of(sector_bytes as usize), 0);
            Piece { offset: lba * u64::from(sector_bytes), bytes }
        };
        let backup = self.header_at(self.backup_lba, 1, self.backup_array_lba);
        let primary = self.header_at(1, self.backup_lba, self.array_lba);
        vec![
            vec![piece(self.backup_array_lba, self.array.clone()), piece(self.backup_lba, backup)],
            vec![piece(self.array_lba, self.array.clone()), piece(1, primary)],
            vec![piece(0, self.sector0.clone())],
        ]
    }

    fn header_at(&self, own: u64, other: u64, array: u64) -> Vec<u8> {
        let mut sector = self.header.clone();
        put(&mut sector, OWN_LBA, &own.to_le_bytes());
        put(&mut sector, OTHER_LBA, &other.to_le_bytes());
        put(&mut sector, FIRST_USABLE, &self.usable.start.to_le_bytes());
        put(&mut sector, LAST_USABLE, &(self.usable.end - 1).to_le_bytes());
        put(&mut sector, ARRAY_LBA, &array.to_le_bytes());
        put(&mut sector, ARRAY_CRC, &libdeflater::crc32(&self.array).to_le_bytes());
        let crc = header_crc(&sector);
        put(&mut sector, HEADER_CRC, &crc.to_le_bytes());
        sector
    }

    /// The entries that are in use, with their numbers.
    fn used(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let entries = self.array.chunks_exact(self.entry_bytes as usize);
        (1..).zip(entries).filter(|(_, entry)| !digest::is_zero(&entry[TYPE_GUID..TYPE_GUID + 16]))
    }

    fn check(&self, reader: &Reader<'_>) -> Result<()> {
        let mut areas = Vec::new();
        for (number, entry) in self.used() {
            let (first, last) = (u64_at(entry, FIRST_LBA), u64_at(entry, LAST_LBA));
            if first > last || first < self.usable.start || last >= self.usable.end {
                let reason = format!(
                    "partition {number} is said to have the sectors {first} to {last}, where {} to {} can be used",
                    self.usable.start,
                    self.usable.end - 1
                );
                let array_sectors = sectors_of(&self.array, reader.sector_bytes);
                let array = self.array_lba..self.array_lba + array_sectors;
                return Err(reader.refuse(ErrorKind::Damaged, array, &reason));
            }
            areas.push(Area { sectors: first..last + 1, name: format!("partition {number}") });
        }
        reader.check_apart(areas)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Primary,
    Backup,
}

impl Copy {
    /// Reads the copy whose header is in sector `lba`; or says in half a sentence why there is none.
    fn read(reader: &Reader<'_>, lba: u64, side: Side) -> Result<Result<Self, String>> {
        let sector = reader.sectors(lba, 1)?;
        let head = match Copy::look(reader, &sector, lba, side) {
            Ok(head) => head,
            Err(reason) => return Ok(Err(reason)),
        };
        let sectors = head.array_bytes.div_ceil(u64::from(reader.sector_bytes));
        let mut array = reader.sectors(head.array_lba, sectors)?;
        array.truncate(head.array_bytes as usize);
        if libdeflater::crc32(&array) != u32_at(&sector, ARRAY_CRC) {
            return Ok(Err("the checksum of its entries is wrong".into()));
        }
        let other_lba = u64_at(&sector, OTHER_LBA);
        Ok(Ok(Copy { sector, array, usable: head.usable, array_lba: head.array_lba, other_lba }))
    }

    /// Checks each number of a header before anything is believed of it.
    fn look(reader: &Reader<'_>, sector: &[u8], lba: u64, side: Side) -> Result<Head, String> {
        if !is_header(sector) {
            return Err("there is no header".into());
        }
        let len = u32_at(sector, HEADER_LEN) as usize;
        if !(HEADER_BYTES..=sector.len()).contains(&len) {
            return Err(format!("its header is said to have {len} bytes"));
        }
        if header_crc(sector) != u32_at(sector, HEADER_CRC) {
            return Err("the checksum of its header is wrong".into());
        }
        let own = u64_at(sector, OWN_LBA);
        if own != lba {
            return Err(format!("its header belongs into sector {own}"));
        }
        let (count, entry_bytes) = (u32_at(sector, ENTRY_COUNT), u32_at(sector, ENTRY_LEN));
        let array_bytes = u64::from(count) * u64::from(entry_bytes);
        let is_possible = (ENTRY_BYTES..=ENTRY_BYTES_MAX).contains(&entry_bytes)
            && entry_bytes.is_power_of_two()
            && (1..=ARRAY_BYTES_MAX).contains(&array_bytes);
        if !is_possible {
            return Err(format!("it is said to have {count} entries of {entry_bytes} bytes"));
        }
        let (first, last) = (u64_at(sector, FIRST_USABLE), u64_at(sector, LAST_USABLE));
        if last >= reader.disk_sectors || first > last {
            return Err(format!(
                "the sectors {first} to {last} are said to be usable on a disk that has {}",
                reader.disk_sectors
            ));
        }
        let usable = first..last + 1;
        let array_lba = u64_at(sector, ARRAY_LBA);
        let array_end =
            array_lba.saturating_add(array_bytes.div_ceil(u64::from(reader.sector_bytes)));
        let has_room = match side {
            Side::Primary => array_lba >= 2 && array_end <= usable.start,
            Side::Backup => array_lba >= usable.end && array_end <= lba,
        };
        if !has_room {
            return Err(format!(
                "its entries are said to be in the sectors {array_lba} to {array_end}"
            ));
        }
        Ok(Head { usable, array_lba, array_bytes })
    }

    /// Whether both describe the same disk: all but where they are themselves.
    fn says_the_same_as(&self, other: &Copy) -> bool {
        let identity = |copy: &Copy| guid_at(&copy.sector, DISK_GUID);
        self.array == other.array
            && self.usable == other.usable
            && identity(self) == identity(other)
            && u32_at(&self.sector, ENTRY_LEN) == u32_at(&other.sector, ENTRY_LEN)
    }

    /// What the first copy was, by the backup: its entries are taken to begin where everybody puts them.
    fn as_primary(&self) -> Copy {
        Copy {
            sector: self.sector.clone(),
            array: self.array.clone(),
            usable: self.usable.clone(),
            array_lba: 2,
            other_lba: self.other_lba,
        }
    }
}

/// What a header says of what lies elsewhere.
struct Head {
    usable: Range<u64>,
    array_lba: u64,
    array_bytes: u64,
}

/// The checksum of a header of a possible length, taken as if the field for it were zero.
fn header_crc(sector: &[u8]) -> u32 {
    let mut header = sector[..u32_at(sector, HEADER_LEN) as usize].to_vec();
    put(&mut header, HEADER_CRC, &[0; 4]);
    libdeflater::crc32(&header)
}

/// A header without what says where things are, and without checksums.
fn without_places(mut sector: Vec<u8>) -> Vec<u8> {
    sector[HEADER_CRC..HEADER_CRC + 4].fill(0);
    sector[OWN_LBA..DISK_GUID].fill(0);
    sector[ARRAY_LBA..ARRAY_LBA + 8].fill(0);
    sector[ARRAY_CRC..ARRAY_CRC + 4].fill(0);
    sector
}

fn sectors_of(array: &[u8], sector_bytes: u32) -> u64 {
    (array.len() as u64).div_ceil(u64::from(sector_bytes))
}

fn sectors_of_entry(entry: &[u8]) -> Range<u64> {
    u64_at(entry, FIRST_LBA)..u64_at(entry, LAST_LBA) + 1
}

fn guid_at(bytes: &[u8], at: usize) -> [u8; 16] {
    let mut found = [0; 16];
    found.copy_from_slice(&bytes[at..at + 16]);
    found
}

/// The name: UTF-16, up to a zero.
fn name_of(entry: &[u8]) -> String {
    let units = entry[NAME].chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
    let units: Vec<u16> = units.take_while(|&unit| unit != 0).collect();
    String::from_utf16_lossy(&units)
}
