//! Partition tables: GPT and MBR with logical partitions, read, checked, adapted to another size, written.

mod check;
mod chs;
mod gpt;
mod guid;
mod mbr;

use std::ops::Range;

use image::units::Bytes;
use image::{Error, ErrorKind, Medium, Result};

use check::Reader;
use gpt::Gpt;
use mbr::Mbr;

/// The partition table of a disk: all of it, with the code of boot loaders that stands in its first sector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The disk that it is for, in sectors.
    disk_sectors: u64,
    sector_bytes: u32,
    scheme: Scheme,
    findings: Vec<String>,
}

/// What sort of table it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// A GUID partition table, kept twice.
    Gpt,
    /// A master boot record, with the chain of records of its logical partitions.
    Mbr,
}

/// A partition of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number, as the kernel counts it: from 1; logical partitions of an MBR from 5.
    pub number: u32,
    /// Where it lies, in bytes.
    pub range: Range<u64>,
    /// Its type: a GUID in text, or the type byte of an MBR in two hexadecimal digits.
    pub kind: String,
    /// Its name in a GPT.
    pub name: Option<String>,
    /// What `/dev/disk/by-partuuid` calls it: its GUID, or the signature of an MBR and its number.
    pub uuid: String,
    /// Whether it only holds others: the extended partition of an MBR.
    pub is_container: bool,
}

/// Bytes of a table, and where on the disk they stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// In bytes from the beginning of the disk.
    pub offset: u64,
    /// What stands there: whole sectors.
    pub bytes: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Scheme {
    Gpt(Gpt),
    Mbr(Mbr),
}

impl TableKind {
    /// The word that blkid and sfdisk have for it: `gpt` or `dos`.
    pub fn name(self) -> &'static str {
        match self {
            TableKind::Gpt => "gpt",
            TableKind::Mbr => "dos",
        }
    }
}

impl Table {
    /// Reads the table of the disk `medium`, whose logical sectors have `sector_bytes`; `None` if it has none. Where one copy
    /// of a GPT is damaged, the other is taken, and [`findings`](Table::findings) says so.
    ///
    /// # Errors
    ///
    /// `Damaged` for a GPT of which no copy is right, and where partitions overlap, lie outside the disk, or are chained in a
    /// circle; `Unsupported` for what no tool of our days writes; `Invalid` for a sector size that no disk has.
    pub fn read(medium: &dyn Medium, sector_bytes: u32) -> Result<Option<Self>> {
        if !(512..=4096).contains(&sector_bytes) || !sector_bytes.is_power_of_two() {
            let sentence = format!("no disk has sectors of {sector_bytes} bytes");
            return Err(Error::new(ErrorKind::Invalid, sentence).at(medium.name(), None));
        }
        let reader = Reader::new(medium, sector_bytes)?;
        // Less than this holds no table that could say anything.
        if reader.disk_sectors < 2 {
            return Ok(None);
        }
        let sector0 = reader.sectors(0, 1)?;
        let mut findings = Vec::new();
        let scheme = match mbr::recognise(&sector0) {
            None => return Ok(None),
            Some(mbr::Sector::Protective) => {
                Scheme::Gpt(Gpt::read(&reader, sector0, &mut findings)?)
            }
            Some(mbr::Sector::Master) => Scheme::Mbr(Mbr::read(&reader, sector0, &mut findings)?),
        };
        let disk_sectors = reader.disk_sectors;
        Ok(Some(Table { disk_sectors, sector_bytes, scheme, findings }))
    }

    /// The sector size for which the disk in the file `medium` was partitioned, which a file does not tell by itself.
    ///
    /// # Errors
    ///
    /// Those of the medium.
    pub fn sector_bytes_of_file(medium: &dyn Medium) -> Result<u32> {
        for sector_bytes in [512, 4096] {
            let reader = Reader::new(medium, sector_bytes)?;
            if reader.disk_sectors > 2 && gpt::is_header(&reader.sectors(1, 1)?) {
                return Ok(sector_bytes);
            }
        }
        Ok(512)
    }

    /// What sort of table it is.
    pub fn kind(&self) -> TableKind {
        match self.scheme {
            Scheme::Gpt(_) => TableKind::Gpt,
            Scheme::Mbr(_) => TableKind::Mbr,
        }
    }

    /// The identifier of the disk: a GUID in text, or the signature of an MBR in eight hexadecimal digits.
    pub fn id(&self) -> String {
        match &self.scheme {
            Scheme::Gpt(gpt) => gpt.id(),
            Scheme::Mbr(mbr) => mbr.id(),
        }
    }

    /// Size in bytes of the disk that it is for, in whole sectors.
    pub fn disk_bytes(&self) -> u64 {
        self.disk_sectors * u64::from(self.sector_bytes)
    }

    /// Size of a logical sector in bytes.
    pub fn sector_bytes(&self) -> u32 {
        self.sector_bytes
    }

    /// The partitions, by number.
    pub fn partitions(&self) -> Vec<Partition> {
        match &self.scheme {
            Scheme::Gpt(gpt) => gpt.partitions(self.sector_bytes),
            Scheme::Mbr(mbr) => mbr.partitions(self.sector_bytes),
        }
    }

    /// The partition that lies last on the disk, of those that hold something themselves.
    pub fn last_partition(&self) -> Option<Partition> {
        let holds = |partition: &Partition| !partition.is_container;
        self.partitions().into_iter().filter(holds).max_by_key(|partition| partition.range.end)
    }

    /// What is not as it should be, though the table can be used: sentences without a full stop.
    pub fn findings(&self) -> &[String] {
        &self.findings
    }

    /// What stands where on the disk, in the order in which [`write`](Table::write) writes it.
    pub fn pieces(&self) -> Vec<Piece> {
        self.steps().concat()
    }

    /// The smallest disk that its partitions fit on, in bytes.
    pub fn least_disk_bytes(&self) -> u64 {
        let sector_bytes = u64::from(self.sector_bytes);
        let (head, tail) = match &self.scheme {
            Scheme::Gpt(gpt) => (gpt.usable().start + 1, gpt.tail_sectors(self.sector_bytes)),
            Scheme::Mbr(_) => (2, 0),
        };
        let end = self.partitions().iter().map(|partition| partition.range.end).max();
        end.unwrap_or(0).max(head * sector_bytes) + tail * sector_bytes
    }

    /// The same partitions on a disk of `disk_bytes` with sectors of `sector_bytes`: the backup of a GPT moves to its end.
    ///
    /// # Errors
    ///
    /// `TooSmall`; `Unsupported` for sectors of another size.
    pub fn adapted_to(&self, disk_bytes: u64, sector_bytes: u32) -> Result<Self> {
        if sector_bytes != self.sector_bytes {
            let sentence = format!(
                "the partitions were made on a disk with sectors of {} bytes and cannot be put on one with sectors of \
                 {sector_bytes} bytes: the table and many filesystems count in sectors",
                self.sector_bytes
            );
            return Err(Error::new(ErrorKind::Unsupported, sentence));
        }
        let least_bytes = self.least_disk_bytes();
        if disk_bytes < least_bytes {
            let sentence = format!(
                "the partitions need a disk of {least_bytes} bytes ({}), and this has {disk_bytes} ({})",
                Bytes(least_bytes),
                Bytes(disk_bytes)
            );
            return Err(Error::new(ErrorKind::TooSmall, sentence));
        }
        let mut adapted = self.clone();
        adapted.disk_sectors = disk_bytes / u64::from(sector_bytes);
        adapted.findings.clear();
        if let Scheme::Gpt(gpt) = &mut adapted.scheme {
            gpt.move_to(adapted.disk_sectors, sector_bytes);
        }
        Ok(adapted)
    }

    /// Lets the last partition reach to the end of the disk, rounded down to `alignment_bytes`, along with the extended
    /// partition that it may lie in, and returns it as it is then. It never gets smaller. An MBR ends at 2³² sectors, and an
    /// empty extended partition stays where it is.
    ///
    /// # Errors
    ///
    /// `Invalid` if there is no partition.
    pub fn grow_last(&mut self, alignment_bytes: u64) -> Result<Partition> {
        let sector_bytes = u64::from(self.sector_bytes);
        let Some(last) = self.last_partition() else {
            let sentence = "the table has no partition that could grow";
            return Err(Error::new(ErrorKind::Invalid, sentence));
        };
        let end = match &self.scheme {
            Scheme::Gpt(gpt) => gpt.usable().end,
            Scheme::Mbr(mbr) => {
                let next = mbr.next_behind(last.range.end / sector_bytes);
                next.unwrap_or(self.disk_sectors.min(mbr::SECTORS_MAX))
            }
        };
        let alignment = (alignment_bytes / sector_bytes).max(1);
        let end = end - end % alignment;
        if end * sector_bytes > last.range.end {
            match &mut self.scheme {
                Scheme::Gpt(gpt) => gpt.set_end(last.number, end),
                Scheme::Mbr(mbr) => mbr.set_end(last.number, end),
            }
        }
        let grown = self.partitions().into_iter().find(|now| now.number == last.number);
        Ok(grown.unwrap_or(last))
    }

    /// Writes the table. The sector by which a disk is known to have one comes last, each step is durable before the next:
    /// where `medium` had no table, a power cut leaves none or all of it.
    ///
    /// # Errors
    ///
    /// Those of the medium; `TooSmall` if it is smaller than what the table is for.
    pub fn write(&self, medium: &dyn Medium) -> Result<()> {
        let (has, needs) = (medium.len()?, self.disk_bytes());
        if has < needs {
            let name = medium.name();
            let sentence =
                format!("{name} has {has} bytes, and the table is for a disk of {needs}");
            return Err(Error::new(ErrorKind::TooSmall, sentence).at(name, None));
        }
        for step in self.steps() {
            for piece in &step {
                medium.write_at(&piece.bytes, piece.offset)?;
            }
            medium.sync()?;
        }
        Ok(())
    }

    /// Reads the table again from `medium` and compares it, byte for byte.
    ///
    /// # Errors
    ///
    /// `Damaged` with the position of what is another.
    pub fn verify(&self, medium: &dyn Medium) -> Result<()> {
        for piece in self.pieces() {
            let mut found = vec![0; piece.bytes.len()];
            medium.read_at(&mut found, piece.offset)?;
            if let Some(at) = found.iter().zip(&piece.bytes).position(|(a, b)| a != b) {
                let at = piece.offset + at as u64;
                let name = medium.name();
                let sentence = format!("the partition table of {name} reads otherwise at {at}");
                return Err(Error::new(ErrorKind::Damaged, sentence).at(name, Some(at..at + 1)));
            }
        }
        Ok(())
    }

    /// Makes `medium` a disk without a table: overwrites the first two sectors and the last one, in which the marks of both
    /// kinds stand, and makes that durable.
    ///
    /// # Errors
    ///
    /// Those of the medium.
    pub fn erase(medium: &dyn Medium, sector_bytes: u32) -> Result<()> {
        let sector_bytes = u64::from(sector_bytes);
        let sectors = medium.len()? / sector_bytes;
        let zeroes = vec![0; sector_bytes as usize];
        let marks = [0, 1, sectors.saturating_sub(1)];
        for sector in marks.into_iter().filter(|&sector| sector < sectors) {
            medium.write_at(&zeroes, sector * sector_bytes)?;
        }
        medium.sync()
    }

    /// What has to be durable before the next is written.
    fn steps(&self) -> Vec<Vec<Piece>> {
        match &self.scheme {
            Scheme::Gpt(gpt) => gpt.steps(self.sector_bytes),
            Scheme::Mbr(mbr) => mbr.steps(self.sector_bytes),
        }
    }
}
