//! What a set says of itself: `manifest.json`, written last, and believed only as far as it can be true.

mod form;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::ops::Range;
use std::path::{Component, Path};

use filesystems::Filesystem;
use image::{Error, ErrorKind, Folder, Medium, Result};
use serde_json::Value;
use sys::Directory;

use super::json::Object;

/// The name of the manifest in its set.
pub(super) const FILE: &str = "manifest.json";
/// The name of the file of a set with the bytes of the partition table.
pub(super) const TABLE_FILE: &str = "table.bin";
/// The name of the file of a set with what stands before the first partition.
pub(super) const BOOT_FILE: &str = "boot.bin";

/// What is kept of the place before the first partition, at most. Boot loaders use the first MiB; some boards 16 of them.
pub(super) const BOOT_MAX_BYTES: u64 = 64 << 20;
/// What is kept of table and boot area together, at most.
const HEAD_MAX_BYTES: u64 = BOOT_MAX_BYTES + (16 << 20);

/// No manifest is longer: that of 128 partitions has some 60 KiB. What JSON says in a byte can take a hundred in memory.
const LEN_MAX_BYTES: u64 = 1 << 20;

/// What is in a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// When it was made, as it stands in the name of the set: `2026-03-04T0506`, in local time.
    pub made: String,
    /// The disk that it is of.
    pub disk: DiskFacts,
    /// Its partition table.
    pub table: TableFacts,
    /// What stands before the first partition, unless that is all zero.
    pub boot: Option<Boot>,
    /// The partitions, by number.
    pub partitions: Vec<PartitionFacts>,
}

/// A disk of which a set was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskFacts {
    /// The path under which it was read.
    pub path: String,
    /// The maker's name, if it has one.
    pub model: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Its smallest addressable unit in bytes.
    pub sector_bytes: u32,
}

/// The partition table of a disk. Its bytes are in `table.bin`, one piece behind the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFacts {
    /// `gpt` or `dos`.
    pub kind: String,
    /// The identifier of the disk.
    pub id: String,
    /// Where on the disk each piece stands, in bytes.
    pub pieces: Vec<Range<u64>>,
    /// The BLAKE3 digest of `table.bin`.
    pub blake3: String,
}

/// What stands before the first partition: the content of `boot.bin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Where on the disk it stands, in bytes.
    pub range: Range<u64>,
    /// The BLAKE3 digest of `boot.bin`.
    pub blake3: String,
}

/// A partition in a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionFacts {
    /// Its number, as the kernel counts it.
    pub number: u32,
    /// Where it lies, in bytes.
    pub range: Range<u64>,
    /// Its type: a GUID, or two hexadecimal digits.
    pub kind: String,
    /// Its name in a GPT.
    pub name: Option<String>,
    /// Its own identifier, as `/dev/disk/by-partuuid` has it.
    pub uuid: String,
    /// What is on it: kind, label and UUID.
    pub filesystem: Filesystem,
    /// What the set has of it.
    pub content: Content,
}

/// What a set has of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing: it only holds others.
    Container,
    /// An image.
    Image {
        /// The name of its file in the set.
        file: String,
        /// Bytes in used blocks; `None` where all of it was read.
        used_bytes: Option<u64>,
        /// Size of the file in bytes.
        file_bytes: u64,
        /// The BLAKE3 digest of the file, if it was taken.
        blake3: Option<String>,
    },
    /// The beginning of a swap area: what makes it one. The rest holds nothing.
    SwapHeader {
        /// The name of its file in the set.
        file: String,
        /// Size of the file in bytes.
        file_bytes: u64,
        /// The BLAKE3 digest of the file.
        blake3: String,
    },
}

impl Manifest {
    /// Reads and checks the manifest in the folder `set`.
    ///
    /// # Errors
    ///
    /// `NotFound` if the folder has none; `Unsupported` for one of a later version; `Damaged` for one that cannot be true: files
    /// that would lie elsewhere, partitions that overlap or lie outside of the disk.
    pub fn read(set: &Path) -> Result<Self> {
        let path = set.join(FILE).display().to_string();
        let medium = Directory::open(set)?.open(OsStr::new(FILE))?;
        let len_bytes = medium.len()?;
        if len_bytes > LEN_MAX_BYTES {
            let sentence = format!("{path} has {len_bytes} bytes, too many for a manifest");
            return Err(Error::new(ErrorKind::Damaged, sentence).at(path, None));
        }
        let mut bytes = vec![0; len_bytes as usize];
        medium.read_at(&mut bytes, 0)?;
        Manifest::parse(&bytes, &path)
    }

    /// Writes it into the folder `set`, in which no manifest may be, and makes it durable.
    ///
    /// # Errors
    ///
    /// `Exists`; those of the folder.
    pub fn write(&self, set: &Path) -> Result<()> {
        let mut text = format!("{:#}", form::to_json(self));
        text.push('\n');
        let medium = Directory::open(set)?.create(OsStr::new(FILE))?;
        medium.write_at(text.as_bytes(), 0)?;
        medium.sync()
    }

    /// The files of the set, beside the manifest, and how long each is if the manifest says so.
    pub fn files(&self) -> Vec<(&str, Option<u64>)> {
        let table_bytes = self.table.pieces.iter().map(|piece| piece.end - piece.start).sum();
        let boot = self.boot.as_ref();
        let boot = boot.map(|boot| (BOOT_FILE, Some(boot.range.end - boot.range.start)));
        let of_partitions =
            self.partitions.iter().filter_map(|partition| match &partition.content {
                Content::Container => None,
                Content::Image { file, file_bytes, .. }
                | Content::SwapHeader { file, file_bytes, .. } => {
                    Some((file.as_str(), Some(*file_bytes)))
                }
            });
        std::iter::once((TABLE_FILE, Some(table_bytes))).chain(boot).chain(of_partitions).collect()
    }

    /// Reads the manifest `bytes`, which stand in the file `path`.
    fn parse(bytes: &[u8], path: &str) -> Result<Self> {
        let damaged = |sentence: String| Error::new(ErrorKind::Damaged, sentence).at(path, None);
        let value: Value = serde_json::from_slice(bytes)
            .map_err(|cause| damaged(format!("{path} is no JSON")).because(cause))?;
        let manifest = form::from_json(&Object::root(&value, path))?;
        manifest.check().map_err(|why| damaged(format!("{path} cannot be used: {why}")))?;
        Ok(manifest)
    }

    /// Says in a sentence what cannot be true.
    fn check(&self) -> Result<(), String> {
        let end = self.disk.size_bytes;
        let sector_bytes = u64::from(self.disk.sector_bytes);
        if !(512..=4096).contains(&sector_bytes) || !sector_bytes.is_power_of_two() {
            return Err(format!("no disk has sectors of {sector_bytes} bytes"));
        }
        let is_whole = |range: &Range<u64>| {
            range.start < range.end
                && range.end <= end
                && range.start.is_multiple_of(sector_bytes)
                && range.end.is_multiple_of(sector_bytes)
        };
        let ranges = self.table.pieces.iter().chain(self.boot.iter().map(|boot| &boot.range));
        if let Some(range) = ranges.clone().find(|range| !is_whole(range)) {
            return Err(format!(
                "the bytes {} to {} are no sectors of a disk of {end} bytes",
                range.start, range.end
            ));
        }
        let held = ranges.fold(0u64, |sum, range| sum.saturating_add(range.end - range.start));
        if held > HEAD_MAX_BYTES {
            return Err(format!("its table and boot area have {held} bytes"));
        }
        let mut areas = Vec::new();
        let (mut numbers, mut files) = (BTreeSet::new(), BTreeSet::new());
        for partition in &self.partitions {
            let (number, range) = (partition.number, &partition.range);
            if !is_whole(range) {
                return Err(format!(
                    "partition {number} is said to have the bytes {} to {} of a disk of {end}",
                    range.start, range.end
                ));
            }
            if !numbers.insert(number) {
                return Err(format!("there are two partitions {number}"));
            }
            if partition.content != Content::Container {
                areas.push((range.clone(), number));
            }
        }
        areas.sort_by_key(|(range, _)| range.start);
        for pair in areas.windows(2) {
            if pair[1].0.start < pair[0].0.end {
                return Err(format!("the partitions {} and {} overlap", pair[0].1, pair[1].1));
            }
        }
        for (file, _) in self.files() {
            let mut parts = Path::new(file).components();
            let is_name = matches!(parts.next(), Some(Component::Normal(name)) if name == file)
                && parts.next().is_none()
                && !file.chars().any(char::is_control);
            if !is_name || file == FILE || !files.insert(file) {
                return Err(format!("{file:?} is no name for a file of this set"));
            }
        }
        Ok(())
    }
}
