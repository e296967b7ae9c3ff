//! The master boot record, and the chain of extended boot records in which logical partitions are kept.

use std::collections::BTreeSet;
use std::ops::Range;

use image::{ErrorKind, Result};

use super::check::{Area, Reader, put, u32_at};
use super::{Partition, Piece, chs};

/// Sectors that four bytes can count.
pub(super) const SECTORS_MAX: u64 = u32::MAX as u64;

/// Where the four entries of a record begin, and how long each is, in bytes.
const ENTRIES: usize = 446;
const ENTRY_BYTES: usize = 16;
const SIGNATURE: usize = 440;
const MARK: Range<usize> = 510..512;

/// Offsets of the fields of an entry.
const BOOT: usize = 0;
const KIND: usize = 4;
const LAST_CHS: usize = 5;
const START: usize = 8;
const COUNT: usize = 12;

/// The type of the entry by which an MBR protects a GPT.
const PROTECTIVE: u8 = 0xee;
/// The types of partitions that hold a chain: of DOS, of Windows 95, of Linux.
const CONTAINERS: [u8; 3] = [0x05, 0x0f, 0x85];
/// The first number of a logical partition.
const FIRST_LOGICAL: u32 = 5;
/// The kernel counts partitions up to 255.
const LOGICAL_MAX: usize = 251;

/// What the first sector of a disk is, if it belongs to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sector {
    /// It says that there is a GPT.
    Protective,
    /// It is the table.
    Master,
}

/// A master boot record with what hangs on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mbr {
    sector0: Vec<u8>,
    chain: Vec<Link>,
}

/// An extended boot record.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Link {
    /// Where it stands.
    lba: u64,
    /// What its link to the next is counted from: where the extended partition begins.
    container: Range<u64>,
    sector: Vec<u8>,
}

/// One of the four entries of a record.
#[derive(Clone, Copy, Debug)]
struct Entry {
    slot: usize,
    kind: u8,
    start: u64,
    count: u64,
}

/// What the first sector of a disk is. The first sector of a FAT or NTFS has the same mark at its end, and is no table.
pub(super) fn recognise(sector: &[u8]) -> Option<Sector> {
    let is_boot = |slot: usize| matches!(sector[ENTRIES + slot * ENTRY_BYTES + BOOT], 0 | 0x80);
    if sector[MARK] != [0x55, 0xaa] || !(0..4).all(is_boot) {
        return None;
    }
    let mut used = entries(sector).peekable();
    if used.peek().is_none() {
        let is_filesystem = matches!(&sector[3..11], b"NTFS    " | b"EXFAT   ")
            || &sector[54..57] == b"FAT"
            || &sector[82..85] == b"FAT";
        return (!is_filesystem).then_some(Sector::Master);
    }
    match used.any(|entry| entry.kind == PROTECTIVE) {
        true => Some(Sector::Protective),
        false => Some(Sector::Master),
    }
}

/// Lets the entry that protects a GPT cover a disk of `to_sectors`, if it covered one of `from_sectors`: that of a
/// hybrid MBR ends where its other partitions begin.
pub(super) fn resize_protective(sector: &mut [u8], from_sectors: u64, to_sectors: u64) {
    let rest = |sectors: u64| (sectors - 1).min(SECTORS_MAX);
    let found = entries(sector).find(|entry| entry.kind == PROTECTIVE);
    let Some(entry) = found else { return };
    if entry.start == 1 && (entry.count == rest(from_sectors) || entry.count == SECTORS_MAX) {
        set_count(sector, entry.slot, rest(to_sectors));
        put(sector, at(entry.slot) + LAST_CHS, &[0xff; 3]);
    }
}

impl Mbr {
    pub(super) fn read(
        reader: &Reader<'_>,
        sector0: Vec<u8>,
        findings: &mut Vec<String>,
    ) -> Result<Self> {
        let mut mbr = Mbr { sector0, chain: Vec::new() };
        let mut seen = BTreeSet::new();
        for entry in entries(&mbr.sector0) {
            let sectors = entry.start..entry.start + entry.count;
            if entry.start == 0 || sectors.end > reader.disk_sectors {
                let reason = format!(
                    "partition {} is said to have the sectors {} to {} on a disk that has {}",
                    entry.slot + 1,
                    sectors.start,
                    sectors.end - 1,
                    reader.disk_sectors
                );
                return Err(reader.refuse(ErrorKind::Damaged, 0..1, &reason));
            }
            if entry.is_container() {
                mbr.chain.extend(follow(reader, &sectors, &mut seen, findings)?);
            }
        }
        mbr.check(reader)?;
        Ok(mbr)
    }

    pub(super) fn id(&self) -> String {
        format!("{:08x}", u32_at(&self.sector0, SIGNATURE))
    }

    pub(super) fn partitions(&self, sector_bytes: u32) -> Vec<Partition> {
        let id = self.id();
        let partition = |number: u32, kind: u8, sectors: Range<u64>| {
            let bytes = |sector: u64| sector * u64::from(sector_bytes);
            Partition {
                number,
                range: bytes(sectors.start)..bytes(sectors.end),
                kind: format!("{kind:02x}"),
                name: None,
                uuid: format!("{id}-{number:02x}"),
                is_container: CONTAINERS.contains(&kind),
            }
        };
        let primary = entries(&self.sector0).map(|entry| {
            partition(entry.slot as u32 + 1, entry.kind, entry.start..entry.start + entry.count)
        });
        let logical = (FIRST_LOGICAL..)
            .zip(self.logical())
            .map(|(number, (_, entry, sectors))| partition(number, entry.kind, sectors));
        primary.chain(logical).collect()
    }

    /// Where behind the last partition, which ends before the sector `end`, something begins that holds nothing: an extended
    /// partition or a boot record.
    pub(super) fn next_behind(&self, end: u64) -> Option<u64> {
        let partitions = entries(&self.sector0).map(|entry| entry.start);
        let records = self.chain.iter().map(|link| link.lba);
        partitions.chain(records).filter(|&start| start >= end).min()
    }

    /// Lets partition `number` end before the sector `end`, and what it lies in as well.
    pub(super) fn set_end(&mut self, number: u32, end: u64) {
        let last_chs = chs::address(end - 1);
        let resize = |sector: &mut [u8], slot: usize, count: u64| {
            set_count(sector, slot, count);
            put(sector, at(slot) + LAST_CHS, &last_chs);
        };
        if number < FIRST_LOGICAL {
            let slot = number as usize - 1;
            let start = u64::from(u32_at(&self.sector0, at(slot) + START));
            return resize(&mut self.sector0, slot, end - start);
        }
        let found = self.logical().nth((number - FIRST_LOGICAL) as usize);
        let Some((index, entry, sectors)) = found else { return };
        resize(&mut self.chain[index].sector, entry.slot, end - sectors.start);
        let (lba, container) = (self.chain[index].lba, self.chain[index].container.clone());
        // The record before counts the record and its partition as one.
        for link in self.chain.iter_mut().filter(|link| link.container == container) {
            let next = link.next();
            if let Some(next) = next.filter(|next| container.start + next.start == lba) {
                resize(&mut link.sector, next.slot, end - lba);
            }
        }
        let holds = |entry: &Entry| entry.is_container() && entry.start == container.start;
        let held = entries(&self.sector0).find(holds);
        if let Some(entry) = held
            && container.end < end
        {
            resize(&mut self.sector0, entry.slot, end - container.start);
            let links = self.chain.iter_mut().filter(|link| link.container == container);
            links.for_each(|link| link.container.end = end);
        }
    }

    /// The records of logical partitions, then the sector that leads to them.
    pub(super) fn steps(&self, sector_bytes: u32) -> Vec<Vec<Piece>> {
        let piece = |lba: u64, bytes: &[u8]| Piece {
            offset: lba * u64::from(sector_bytes),
            bytes: bytes.to_vec(),
        };
        let records = self.chain.iter().map(|link| piece(link.lba, &link.sector)).collect();
        vec![records, vec![piece(0, &self.sector0)]]
    }

    /// The logical partitions in order: which record, which entry of it, and where they lie.
    fn logical(&self) -> impl Iterator<Item = (usize, Entry, Range<u64>)> {
        self.chain.iter().enumerate().filter_map(|(index, link)| {
            let entry = link.own()?;
            let start = link.lba + entry.start;
            Some((index, entry, start..start + entry.count))
        })
    }

    fn check(&self, reader: &Reader<'_>) -> Result<()> {
        let area = |name: String, sectors: Range<u64>| Area { sectors, name };
        let primary = entries(&self.sector0).map(|entry| {
            let name = format!("partition {}", entry.slot + 1);
            area(name, entry.start..entry.start + entry.count)
        });
        let first = area("the master boot record".into(), 0..1);
        reader.check_apart(primary.chain([first]).collect())?;
        let records = self.chain.iter().map(|link| {
            area(format!("the boot record in sector {}", link.lba), link.lba..link.lba + 1)
        });
        let logical = (FIRST_LOGICAL..)
            .zip(self.logical())
            .map(|(number, (_, _, sectors))| area(format!("partition {number}"), sectors));
        reader.check_apart(records.chain(logical).collect())
    }
}

/// The chain in the extended partition `container`.
fn follow(
    reader: &Reader<'_>,
    container: &Range<u64>,
    seen: &mut BTreeSet<u64>,
    findings: &mut Vec<String>,
) -> Result<Vec<Link>> {
    let mut chain = Vec::new();
    let mut next = Some(container.start);
    while let Some(lba) = next {
        let refuse = |kind, reason: &str| Err(reader.refuse(kind, lba..lba + 1, reason));
        if !container.contains(&lba) {
            let reason = format!(
                "the chain of logical partitions leads out of the extended one, to sector {lba}"
            );
            return refuse(ErrorKind::Damaged, &reason);
        }
        if !seen.insert(lba) {
            let reason = format!("the chain of logical partitions comes back to sector {lba}");
            return refuse(ErrorKind::Damaged, &reason);
        }
        if chain.len() > LOGICAL_MAX {
            let reason = format!("it has more than {LOGICAL_MAX} logical partitions");
            return refuse(ErrorKind::Unsupported, &reason);
        }
        let sector = reader.sectors(lba, 1)?;
        if sector[MARK] != [0x55, 0xaa] {
            if chain.is_empty() {
                // An extended partition in which no logical one was ever made.
                findings.push(format!(
                    "there is no boot record in sector {lba}, where the extended partition begins"
                ));
                return Ok(chain);
            }
            return refuse(
                ErrorKind::Damaged,
                "there is no boot record where the chain of logical partitions goes on",
            );
        }
        let link = Link { lba, container: container.clone(), sector };
        link.check(reader)?;
        next = link.next().map(|entry| container.start + entry.start);
        chain.push(link);
    }
    Ok(chain)
}

impl Link {
    /// Its logical partition, counted from this record on.
    fn own(&self) -> Option<Entry> {
        entries(&self.sector).find(|entry| !entry.is_container())
    }

    /// The next record, counted from the beginning of the extended partition.
    fn next(&self) -> Option<Entry> {
        entries(&self.sector).find(Entry::is_container)
    }

    fn check(&self, reader: &Reader<'_>) -> Result<()> {
        let here = self.lba..self.lba + 1;
        let containers = entries(&self.sector).filter(Entry::is_container).count();
        if containers > 1 || entries(&self.sector).count() - containers > 1 {
            let reason = format!(
                "the boot record in sector {} has more than one partition and one link",
                self.lba
            );
            return Err(reader.refuse(ErrorKind::Unsupported, here, &reason));
        }
        let Some(own) = self.own() else { return Ok(()) };
        let end = self.lba + own.start + own.count;
        if own.start == 0 || end > self.container.end {
            let reason = format!(
                "the logical partition of the boot record in sector {} does not lie in the extended one",
                self.lba
            );
            return Err(reader.refuse(ErrorKind::Damaged, here, &reason));
        }
        Ok(())
    }
}

impl Entry {
    fn is_container(&self) -> bool {
        CONTAINERS.contains(&self.kind)
    }
}

/// The entries of a record that are in use.
fn entries(sector: &[u8]) -> impl Iterator<Item = Entry> {
    let entry = |slot: usize| {
        let at = at(slot);
        let (start, count) = (u32_at(sector, at + START), u32_at(sector, at + COUNT));
        let entry = Entry {
            slot,
            kind: sector[at + KIND],
            start: u64::from(start),
            count: u64::from(count),
        };
        (entry.kind != 0 && entry.count != 0).then_some(entry)
    };
    (0..4).filter_map(entry)
}

fn at(slot: usize) -> usize {
    ENTRIES + slot * ENTRY_BYTES
}

/// Writes a count, which fits: what is larger than four bytes can say is never asked for.
fn set_count(sector: &mut [u8], slot: usize, count: u64) {
    put(sector, at(slot) + COUNT, &(count.min(SECTORS_MAX) as u32).to_le_bytes());
}
