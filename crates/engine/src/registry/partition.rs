//! Partition images and other compressed images: which file is one, and what it is once it is open.

use std::fs::Metadata;
use std::path::Path;
use std::sync::Arc;

use formats::packed::{self, Compression, Opened};
use formats::partclone::{
    Header, PartcloneImage, StreamCheck, UsedBlocks, Version, looks_like_partclone,
};
use formats::raw::RawImage;
use image::layers::Checked;
use image::{Error, ErrorKind, Extent, ExtentKind, Image, Medium, Result, Task};
use sys::FileMedium;

use super::{Facts, Identity, MediumKind, Source};
use crate::backup_name::{BackupName, UNFINISHED};
use crate::kept::{self, PackedFile};
use crate::location::{Format, Location};

/// What a partition image says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionFacts {
    /// The filesystem in partclone's word: `EXTFS`, `XFS`, …
    pub filesystem: String,
    /// Version of the format: 1 or 2.
    pub version: u32,
    /// Version of the tool that wrote it; empty if it does not say.
    pub tool_version: String,
    /// How much of the partition is used, and stored, in bytes.
    pub used_bytes: u64,
}

/// How an image is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedFacts {
    /// By which compression; it may be none.
    pub compression: Compression,
    /// What it takes to read any part of it.
    pub reach: Reach,
}

/// What it takes to read any part of a compressed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Only the file: it tells where its parts are.
    Direct,
    /// What was kept of it when it was read as a whole.
    Kept,
    /// That it is read once as a whole.
    Missing,
}

impl Reach {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Reach::Direct => "direct",
            Reach::Kept => "kept",
            Reach::Missing => "missing",
        }
    }
}

/// Why a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To know what it is and where its runs are. Nothing is made for that.
    Look,
    /// To read it.
    Read,
}

/// What a file was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    compression: Compression,
    /// What is packed.
    pub(super) format: Format,
}

/// What the name of a file says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    /// It is a backup: a partition image.
    Partition,
    /// It is a backup of all bytes, compressed.
    Raw,
    /// It is compressed.
    Packed,
    /// Nothing.
    Other,
}

/// How much of what is packed is looked at, in bytes.
const LOOK_BYTES: usize = 64;
/// In pieces of this length the front of an image is read for its map.
const MAP_PIECE_BYTES: usize = 1 << 20;
/// Ends of names of partition images that are not compressed: ours to choose, and that of Clonezilla.
const PLAIN_ENDS: [&str; 3] = [".pcl", ".partclone", "-ptcl-img"];

/// Whether a file is taken as a partition image, or as a compressed image: its prefix says so, or its first bytes and its
/// name do. The bytes alone are not enough, since whoever writes to a raw image could make it another one.
///
/// # Errors
///
/// `Damaged` for a file that has the name of a backup and is none: it would else be taken for the disk itself.
pub(super) fn recognise(location: &Location, file: &FileMedium) -> Result<Option<Found>> {
    let named = match location.format {
        Some(format @ (Format::Partclone | Format::Packed)) => {
            let compression = mark(file)?.unwrap_or(Compression::Uncompressed);
            return Ok(Some(Found { compression, format }));
        }
        Some(_) => return Ok(None),
        None => Named::of(location.path())?,
    };
    if named == Named::Other {
        return Ok(None);
    }
    let compression = mark(file)?.unwrap_or(Compression::Uncompressed);
    let is_packed = compression != Compression::Uncompressed;
    if named == Named::Raw && is_packed {
        return Ok(Some(Found { compression, format: Format::Packed }));
    }
    let is_partition = named != Named::Raw
        && match front(file, compression) {
            Ok(front) => looks_like_partclone(&front),
            Err(error) if named == Named::Partition => return Err(error),
            Err(_) => false,
        };
    if is_partition {
        return Ok(Some(Found { compression, format: Format::Partclone }));
    }
    if matches!(named, Named::Partition | Named::Raw) {
        let name = file.name();
        let what = if named == Named::Raw { "a compressed image" } else { "a partition image" };
        let sentence = format!(
            "{name} has the name of {what}, and does not begin like one (write raw:{name} for its bytes as they are)"
        );
        return Err(Error::new(ErrorKind::Damaged, sentence).at(name, Some(0..LOOK_BYTES as u64)));
    }
    Ok(None)
}

impl Named {
    fn of(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(backup) = BackupName::parse(&name) {
            if name.ends_with(UNFINISHED) {
                let shown = path.display().to_string();
                let sentence = format!(
                    "{shown} is a backup that was not finished (write raw:{shown} for its bytes as they are)"
                );
                return Err(Error::new(ErrorKind::Damaged, sentence).at(shown, None));
            }
            let is_packed = Compression::by_name(&backup.compression)
                .is_some_and(|compression| compression != Compression::Uncompressed);
            return Ok(match backup.variant.as_str() {
                "dd" if is_packed => Named::Raw,
                "dd" => Named::Other,
                _ => Named::Partition,
            });
        }
        let end = name.rsplit_once('.').and_then(|(_, end)| Compression::by_name(end));
        let is_packed = end.is_some_and(|compression| compression != Compression::Uncompressed);
        let is_plain = PLAIN_ENDS.iter().any(|end| name.ends_with(end));
        Ok(if is_packed || is_plain { Named::Packed } else { Named::Other })
    }
}

/// The name that the content of `path` has without what says how it is packed: `a-2026-03-04T0506.apt.ext4.gz` becomes
/// `a-2026-03-04T0506.img`, `disk.img.gz` becomes `disk.img`.
pub(crate) fn unpacked_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if let Some(backup) = BackupName::parse(&name) {
        return format!("{}-{}.img", backup.stem, backup.time);
    }
    match name.rsplit_once('.') {
        Some((stem, end)) if Compression::by_name(end).is_some() => stem.to_string(),
        _ => format!("{name}.img"),
    }
}

/// The compression whose mark a file begins with.
fn mark(file: &FileMedium) -> Result<Option<Compression>> {
    let mut head = [0; 4];
    let len = file.len()?.min(head.len() as u64) as usize;
    file.read_at(&mut head[..len], 0)?;
    Ok(Compression::by_mark(&head[..len]))
}

/// The first bytes of what is packed.
fn front(file: &FileMedium, compression: Compression) -> Result<Vec<u8>> {
    let mut front = vec![0; LOOK_BYTES];
    let len = packed::unpack(file, compression)?.read(&mut front)?;
    front.truncate(len);
    Ok(front)
}

/// Opens what was found.
pub(super) fn open(
    location: &Location,
    file: FileMedium,
    metadata: &Metadata,
    found: Found,
    purpose: Purpose,
    task: &Task,
) -> Result<Source> {
    let Found { compression, format } = found;
    let (packed, reach) = match packed::open(Arc::new(file), compression)? {
        Opened::Indexed(packed) => (packed, Reach::Direct),
        Opened::Unindexed(file) if purpose == Purpose::Look && format == Format::Partclone => {
            match kept::find(&file, compression, metadata) {
                Some(packed) => (packed, Reach::Kept),
                None => {
                    let map = MapOnly::read(&file, compression)?;
                    let (header, used) = (&map.header, &map.used);
                    let packed = PackedFacts { compression, reach: Reach::Missing };
                    let facts = facts(location, metadata, packed, &map, Some((header, used)));
                    return Ok(source(map, facts));
                }
            }
        }
        Opened::Unindexed(file) => {
            (kept::find_or_make(&file, compression, metadata, task)?, Reach::Kept)
        }
    };
    let packed_facts = PackedFacts { compression, reach };
    if format == Format::Packed {
        let image = RawImage::open(packed)?;
        let facts = facts(location, metadata, packed_facts, &image, None);
        return Ok(source(image, facts));
    }
    let image: PartcloneImage<PackedFile> = PartcloneImage::open(packed)?;
    let partition = Some((image.header(), image.used()));
    let facts = facts(location, metadata, packed_facts, &image, partition);
    Ok(source(image, facts))
}

fn source(image: impl Image + 'static, facts: Facts) -> Source {
    Source { image: Box::new(Checked::new(image)), facts, index: None, container: None }
}

fn facts(
    location: &Location,
    metadata: &Metadata,
    packed: PackedFacts,
    image: &dyn Image,
    partition: Option<(&Header, &UsedBlocks)>,
) -> Facts {
    use std::os::unix::fs::MetadataExt;
    let partition = partition.map(|(header, used)| PartitionFacts {
        filesystem: header.filesystem.clone(),
        version: match header.version {
            Version::V1 => 1,
            Version::V2 => 2,
        },
        tool_version: header.tool_version.clone(),
        used_bytes: used.used() * u64::from(header.block_bytes),
    });
    Facts {
        path: location.path().to_owned(),
        format: if partition.is_some() { Format::Partclone } else { Format::Packed },
        medium: MediumKind::File,
        size_bytes: image.size(),
        allocated_bytes: metadata.blocks() * 512,
        block_size_bytes: image.block_size_bytes(),
        sector_size_bytes: None,
        looks_like: None,
        index: None,
        packed: Some(packed),
        partition,
        identity: Identity::of_file(metadata),
    }
}

/// An image of which only the map is known, since its file has no places to start from.
struct MapOnly {
    name: String,
    header: Header,
    used: UsedBlocks,
}

impl MapOnly {
    /// Reads the front of the file, as far as the map goes.
    fn read(file: &FileMedium, compression: Compression) -> Result<Self> {
        let mut content = packed::unpack(file, compression)?;
        let mut check = StreamCheck::new(file.name());
        let mut piece = vec![0; MAP_PIECE_BYTES];
        while check.used().is_none() {
            let len = content.read(&mut piece)?;
            if len == 0 {
                break;
            }
            check.feed(&piece[..len])?;
        }
        let (header, used) = check.into_map()?;
        Ok(MapOnly { name: file.name().to_string(), header, used })
    }
}

impl Image for MapOnly {
    fn size(&self) -> u64 {
        self.header.device_bytes
    }

    fn read_at(&self, _: &mut [u8], _: u64) -> Result<()> {
        let name = &self.name;
        let sentence = format!("{name} was opened for its map only, and is not read");
        Err(Error::new(ErrorKind::Unsupported, sentence).at(name, None))
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        let block_bytes = u64::from(self.header.block_bytes);
        let end = (self.header.total_blocks * block_bytes).min(self.size());
        if offset >= end {
            return Ok(Extent::new(offset..self.size(), ExtentKind::Unspecified));
        }
        let (run, is_used) = self.used.run_at(offset / block_bytes);
        let kind = if is_used { ExtentKind::Data } else { ExtentKind::Unspecified };
        Ok(Extent::new(offset..(run.end * block_bytes).min(end), kind))
    }

    fn block_size_bytes(&self) -> u64 {
        u64::from(self.header.block_bytes)
    }
}
