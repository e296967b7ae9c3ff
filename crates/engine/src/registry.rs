//! From a location to an open image: looks at what is there, probes it, opens it for a role.

mod partition;

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chunks::index::Flags;
use chunks::{Algorithm, ChunkSizes, IndexImage};
use formats::probe;
use formats::raw::RawImage;
use formats::spgz::{OnDamage, SpgzImage, looks_like_spgz};
use image::layers::Checked;
use image::{Error, ErrorKind, Image, Medium, Result, Task};
use sys::{Access, DeviceMedium, FileMedium};

use crate::location::{Format, Location};
use crate::stores::{self, Stores};

use partition::Purpose;
pub(crate) use partition::unpacked_name;
pub use partition::{PackedFacts, PartitionFacts, Reach};

/// An image that is open for reading.
pub struct Source {
    /// Its content.
    pub image: Box<dyn Image>,
    /// What it is.
    pub facts: Facts,
    /// The same image, if it is an index: what it names, where the chunks come from.
    pub index: Option<Arc<IndexImage>>,
    /// The same image, if it is a container: which of its blocks were found damaged.
    pub container: Option<Arc<Container>>,
}

/// A container in a file.
pub type Container = SpgzImage<FileMedium>;

/// What an image is, for people and for decisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Where it was found.
    pub path: PathBuf,
    /// Its format.
    pub format: Format,
    /// What its medium is.
    pub medium: MediumKind,
    /// Size of the disk that it holds, in bytes.
    pub size_bytes: u64,
    /// Space that it takes, in bytes; for a device, all of it.
    pub allocated_bytes: u64,
    /// Block (file, container), physical sector (device) or cluster size, in bytes.
    pub block_size_bytes: u64,
    /// For devices, the smallest addressable unit in bytes.
    pub sector_size_bytes: Option<u32>,
    /// The format of others that its first bytes look like, although it is read as raw.
    pub looks_like: Option<&'static str>,
    /// What an index says about itself.
    pub index: Option<IndexFacts>,
    /// How a partition image, or a compressed one, is packed.
    pub packed: Option<PackedFacts>,
    /// What a partition image says about itself.
    pub partition: Option<PartitionFacts>,
    /// What tells it from any other, and from itself once it was changed.
    pub identity: Identity,
}

/// What an index says, and what is known of its stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexFacts {
    /// How many chunks it names, each as often as it stands there.
    pub chunks: u64,
    /// The sizes that they were cut with.
    pub sizes: ChunkSizes,
    /// The digest that names them.
    pub algorithm: Algorithm,
    /// The stores that are asked for chunks, the cache among them; none if none was found.
    pub stores: Vec<String>,
}

/// What the bytes lie on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediumKind {
    /// A regular file.
    File,
    /// A block device.
    Device,
}

/// What identifies a medium, as far as the system can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A file changes its time when it is written. The number of its filesystem's device is no part of it: the
    /// next mount may get another, and gets one after a power cut where disks come up in another order.
    File {
        /// Its number in its filesystem.
        inode: u64,
        /// Its size in bytes.
        size_bytes: u64,
        /// When it was last written (a source) or made (a target), in nanoseconds since 1970.
        time_ns: i128,
    },
    /// A device does not tell when it was written.
    Device {
        /// Its path.
        path: PathBuf,
        /// Its size in bytes.
        size_bytes: u64,
    },
}

impl MediumKind {
    /// What stands at `path`, if it can hold an image: links are followed.
    pub fn of(metadata: &Metadata) -> Option<Self> {
        let kind = metadata.file_type();
        if kind.is_file() {
            Some(MediumKind::File)
        } else if kind.is_block_device() {
            Some(MediumKind::Device)
        } else {
            None
        }
    }

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            MediumKind::File => "file",
            MediumKind::Device => "device",
        }
    }
}

impl Source {
    /// Tells what went other than wished with the stores since it was last told, and makes the cache durable.
    pub fn tell_of_stores(&self, task: &Task) {
        tell_of_stores(self.index.as_deref(), task);
    }
}

/// The same for an index that was taken out of its [`Source`].
pub(crate) fn tell_of_stores(index: Option<&IndexImage>, task: &Task) {
    if let Some(index) = index {
        index.chain().flush_cache();
        index.chain().take_warnings().iter().for_each(|warning| task.warn(warning));
    }
}

impl Facts {
    /// Whether the bytes of its file are those of the image, so that the two may share blocks.
    pub(crate) fn is_plain_file(&self) -> bool {
        self.medium == MediumKind::File && self.format == Format::Raw
    }
}

/// Opens the image at `location` for reading; the chunks of an index come from its default store.
///
/// # Errors
///
/// As [`open_source_over`].
pub fn open_source(location: &Location, task: &Task) -> Result<Source> {
    open_source_over(location, &Stores::default(), task)
}

/// Opens the image at `location` for reading. A device is raw; so is a file, unless its prefix says otherwise, or
/// - it is an index, whose chunks come from `stores`: it begins like one, and its name (`.caibx`, `.caidx`) or a length
///   that no disk has says so too;
/// - it is a container: it begins with the header of one, and its name (`.spgz`) says so too;
/// - it is a partition image, or a compressed image of a disk: it begins like one, and its name (that of a backup,
///   `.gz`, `.zst`, `.lz4`, `.pcl`, …) says so too. One that another tool has compressed may have to be read as a whole
///   once, which `task` tells.
///
/// # Errors
///
/// `NotFound`, also if there is no store for an index; `Denied`; `Invalid` if it can hold no image (a folder, a
/// pipe); `Damaged` for an index with anything wrong, for a container whose header or last block is, and for what has the
/// name of a backup and is none; `Unsupported` for stores that cannot be opened.
pub fn open_source_over(location: &Location, stores: &Stores, task: &Task) -> Result<Source> {
    let opening = Opening { purpose: Purpose::Read, ..Opening::default() };
    with_stores(location, open(location, &opening, stores, task)?)
}

/// The same for whoever wants what can still be read of a container: damaged blocks read as zeroes, and are remembered
/// in [`Source::container`]. If the last one is damaged, the image ends before it.
pub(crate) fn open_damaged(location: &Location, stores: &Stores, task: &Task) -> Result<Source> {
    let opening =
        Opening { purpose: Purpose::Read, on_damage: OnDamage::Repair, ..Opening::default() };
    with_stores(location, open(location, &opening, stores, task)?)
}

/// Refuses an index whose chunks are nowhere.
fn with_stores(location: &Location, source: Source) -> Result<Source> {
    match &source.index {
        Some(index) if index.chain().is_empty() && index.size() > 0 => {
            Err(stores::no_store(location.path()))
        }
        _ => Ok(source),
    }
}

/// The same for whoever wants to know what it is: an index needs no store then, and nothing of it can be read; the same
/// goes for a partition image that would have to be read as a whole first.
pub(crate) fn open_to_look(location: &Location, stores: &Stores, task: &Task) -> Result<Source> {
    open(location, &Opening::default(), stores, task)
}

/// Opens it for reading what stands on the disk, past the page cache where that is possible.
pub(crate) fn open_readback(location: &Location, task: &Task) -> Result<Source> {
    let opening = Opening { is_past_cache: true, ..Opening::default() };
    open(location, &opening, &Stores::default(), task)
}

/// How an image is opened.
struct Opening {
    purpose: Purpose,
    is_past_cache: bool,
    on_damage: OnDamage,
}

impl Default for Opening {
    fn default() -> Self {
        Opening { purpose: Purpose::Look, is_past_cache: false, on_damage: OnDamage::Report }
    }
}

fn open(location: &Location, opening: &Opening, stores: &Stores, task: &Task) -> Result<Source> {
    let path = location.path();
    let metadata = look(path)?;
    let medium = medium_kind(path, &metadata)?;
    match medium {
        MediumKind::File => {
            let mut file = FileMedium::open(path, Access::Read)?;
            if is_index(location, &file)? {
                return open_index(location, file, &metadata, stores);
            }
            if opening.is_past_cache {
                file = file.bypassing_cache();
            } else {
                file.expect_sequential();
            }
            if is_container(location, &file)? {
                return open_container(location, file, &metadata, opening.on_damage);
            }
            if let Some(found) = partition::recognise(location, &file)? {
                return partition::open(location, file, &metadata, found, opening.purpose, task);
            }
            let facts = facts(location, &metadata, medium, &file, None)?;
            let image = Box::new(Checked::new(RawImage::open(file)?));
            Ok(Source { image, facts, index: None, container: None })
        }
        MediumKind::Device => {
            let what = match location.format {
                Some(Format::Index) => Some("an index"),
                Some(Format::Spgz) => Some("a container"),
                Some(Format::Partclone) => Some("a partition image"),
                Some(Format::Packed) => Some("a compressed image"),
                Some(Format::Raw) | None => None,
            };
            if let Some(what) = what {
                let name = path.display().to_string();
                let sentence = format!("{name} is a device, and {what} is a file");
                return Err(Error::new(ErrorKind::Invalid, sentence).at(name, None));
            }
            let device = DeviceMedium::open(path, Access::Read)?;
            let sector = device.logical_sector_bytes();
            let facts = facts(location, &metadata, medium, &device, Some(sector))?;
            let image = Box::new(Checked::new(RawImage::open(device)?));
            Ok(Source { image, facts, index: None, container: None })
        }
    }
}

/// Whether a file is taken as an index: its prefix says so, or it begins like one and cannot be meant as a disk.
///
/// Whoever writes to a disk decides what its first bytes are, and an index can be made to show any chunk of a
/// store. So the beginning alone is not enough: the name has to end in `.caibx` or `.caidx`, or the length has to
/// be one that no disk has, no multiple of 512 bytes. Of 64 indexes with other names, one is not recognised, and
/// said to look like one.
pub(crate) fn is_index(location: &Location, file: &FileMedium) -> Result<bool> {
    if let Some(format) = location.format {
        return Ok(format == Format::Index);
    }
    let len = file.len()?;
    let mut head = [0; chunks::index::MARK_BYTES];
    if len < head.len() as u64 {
        return Ok(false);
    }
    file.read_at(&mut head, 0)?;
    let named = location.path().extension().is_some_and(|end| end == "caibx" || end == "caidx");
    Ok(chunks::index::looks_like_index(&head) && (named || !len.is_multiple_of(512)))
}

/// Whether a file is taken as a container: its prefix says so, or its first bytes and its name do. The bytes alone are
/// not enough: whoever writes to a raw image could make it another one.
fn is_container(location: &Location, file: &FileMedium) -> Result<bool> {
    match location.format {
        Some(format) => Ok(format == Format::Spgz),
        None => Ok(is_named_container(location.path()) && begins_like_container(file)?),
    }
}

/// Whether a file of that name is meant as a container.
pub(crate) fn is_named_container(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == Format::Spgz.name())
}

/// `location` with the format that a file has by its first bytes alone, raw or spgz: what those do whose names some of
/// our commands bear. What is not there is left as it is.
pub(crate) fn by_content(location: &Location) -> Result<Location> {
    let path = location.path();
    let is_file = fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
    if location.format.is_some() || !is_file {
        return Ok(location.clone());
    }
    let format = match begins_like_container(&FileMedium::open(path, Access::Read)?)? {
        true => Format::Spgz,
        false => Format::Raw,
    };
    Ok(Location { format: Some(format), path: path.to_owned() })
}

/// The same as [`open_source`] says it: raw, a container or a backup, but never an index.
pub(crate) fn as_disk(location: &Location) -> Result<Location> {
    let path = location.path();
    let format = match location.format {
        Some(Format::Index) => Format::Raw,
        Some(format) => format,
        None if is_named_container(path) => by_content(location)?.format.unwrap_or(Format::Raw),
        None => backup_format(location)?.unwrap_or(Format::Raw),
    };
    Ok(Location { format: Some(format), path: path.to_owned() })
}

/// Whether a file is taken as a partition image or a compressed image, and as which.
pub(crate) fn backup_format(location: &Location) -> Result<Option<Format>> {
    let path = location.path();
    if !fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) {
        return Ok(None);
    }
    let found = partition::recognise(location, &FileMedium::open(path, Access::Read)?)?;
    Ok(found.map(|found| found.format))
}

/// Whether `medium` begins with the header of a container, and nothing in it is out of order. Whoever writes to a raw
/// image can write one there, too.
pub(crate) fn begins_like_container(medium: &FileMedium) -> Result<bool> {
    let mut head = [0; CONTAINER_HEAD_BYTES];
    let len = medium.len()?.min(head.len() as u64) as usize;
    medium.read_at(&mut head[..len], 0)?;
    Ok(looks_like_spgz(&head[..len]))
}

/// How much of a container is its header, in bytes.
const CONTAINER_HEAD_BYTES: usize = 4096;

fn open_container(
    location: &Location,
    file: FileMedium,
    metadata: &Metadata,
    on_damage: OnDamage,
) -> Result<Source> {
    let container = Arc::new(SpgzImage::open(file, on_damage)?);
    let facts = Facts {
        path: location.path().to_owned(),
        format: Format::Spgz,
        medium: MediumKind::File,
        size_bytes: container.size(),
        allocated_bytes: metadata.blocks() * 512,
        block_size_bytes: container.block_bytes(),
        sector_size_bytes: None,
        looks_like: None,
        index: None,
        packed: None,
        partition: None,
        identity: Identity::of_file(metadata),
    };
    let image = Box::new(Checked::new(Arc::clone(&container)));
    Ok(Source { image, facts, index: None, container: Some(container) })
}

fn open_index(
    location: &Location,
    file: FileMedium,
    metadata: &Metadata,
    stores: &Stores,
) -> Result<Source> {
    let path = location.path();
    let index = chunks::index::Index::open(file, Flags::Known)?;
    let (algorithm, sizes) = (index.algorithm(), index.sizes());
    let chain = stores::open_chain(stores, path, algorithm, true)?;
    let chain = chain.unwrap_or_else(|| chunks::store::Chain::new(Vec::new(), None, algorithm));
    let facts = Facts {
        path: path.to_owned(),
        format: Format::Index,
        medium: MediumKind::File,
        size_bytes: index.size_bytes(),
        allocated_bytes: metadata.blocks() * 512,
        block_size_bytes: 4096,
        sector_size_bytes: None,
        looks_like: None,
        index: Some(IndexFacts {
            chunks: index.count(),
            sizes,
            algorithm,
            stores: chain.counts().into_iter().map(|place| place.name).collect(),
        }),
        packed: None,
        partition: None,
        identity: Identity::of_file(metadata),
    };
    let index = Arc::new(IndexImage::new(index, Arc::new(chain)));
    let image = Box::new(Checked::new(Arc::clone(&index)));
    Ok(Source { image, facts, index: Some(index), container: None })
}

/// The metadata of `path`, links followed.
pub(crate) fn look(path: &Path) -> Result<Metadata> {
    fs::metadata(path).map_err(|cause| {
        let name = path.display().to_string();
        Error::io(format!("cannot open {name}"), cause).at(name, None)
    })
}

/// What stands there, or the error for what can hold no image.
pub(crate) fn medium_kind(path: &Path, metadata: &Metadata) -> Result<MediumKind> {
    MediumKind::of(metadata).ok_or_else(|| {
        let name = path.display().to_string();
        let what = if metadata.is_dir() { "a folder" } else { "neither a file nor a block device" };
        Error::new(ErrorKind::Invalid, format!("{name} is {what} and can hold no image"))
            .at(name, None)
    })
}

/// Whether `metadata` is that of the file at `path`.
pub(crate) fn is_same_file(path: &Path, metadata: &Metadata) -> bool {
    fs::metadata(path)
        .is_ok_and(|of_path| (of_path.dev(), of_path.ino()) == (metadata.dev(), metadata.ino()))
}

/// The error for a file that stands where another is to be made.
pub(crate) fn exists_already(path: &Path) -> Error {
    let name = path.display().to_string();
    let sentence = format!("{name} exists already (--force replaces it)");
    Error::new(ErrorKind::Exists, sentence).at(name, None)
}

fn facts(
    location: &Location,
    metadata: &Metadata,
    kind: MediumKind,
    medium: &dyn Medium,
    sector_size_bytes: Option<u32>,
) -> Result<Facts> {
    let path = location.path().to_owned();
    let size_bytes = medium.len()?;
    let looks_like = match location.format {
        Some(_) => None,
        None => probe::looks_foreign(medium)?.map(|format| format.name).or_else(|| {
            let is_named = kind == MediumKind::File && is_named_container(&path) && size_bytes > 0;
            is_named.then_some(Format::Spgz.name())
        }),
    };
    let (identity, allocated_bytes) = match kind {
        MediumKind::File => (Identity::of_file(metadata), metadata.blocks() * 512),
        MediumKind::Device => (Identity::Device { path: path.clone(), size_bytes }, size_bytes),
    };
    Ok(Facts {
        path,
        format: Format::Raw,
        medium: kind,
        size_bytes,
        allocated_bytes,
        block_size_bytes: medium.block_size_bytes(),
        sector_size_bytes,
        looks_like,
        index: None,
        packed: None,
        partition: None,
        identity,
    })
}

impl Identity {
    /// That of a regular file.
    pub(crate) fn of_file(metadata: &Metadata) -> Self {
        Identity::File {
            inode: metadata.ino(),
            size_bytes: metadata.len(),
            time_ns: i128::from(metadata.mtime()) * 1_000_000_000
                + i128::from(metadata.mtime_nsec()),
        }
    }
}

impl Facts {
    /// A file that was written or cut while it was read is no image of any one moment. Devices do not tell.
    pub(crate) fn refuse_changed(&self, while_it_was: &str) -> Result<()> {
        let path = &self.path;
        if self.medium == MediumKind::Device {
            return Ok(());
        }
        if Identity::of_file(&look(path)?) == self.identity {
            return Ok(());
        }
        let name = path.display().to_string();
        let sentence = format!(
            "{name} was written to while it was {while_it_was} (stop what writes to it, or use `blockprint clone`)"
        );
        Err(Error::new(ErrorKind::Changed, sentence).at(name, None))
    }
}
