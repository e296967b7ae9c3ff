//! From a location to an open image: looks at what is there, probes it, opens it for a role.

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use formats::probe;
use formats::raw::RawImage;
use image::layers::Checked;
use image::{Error, ErrorKind, Image, Medium, Result};
use sys::{Access, DeviceMedium, FileMedium};

use crate::location::{Format, Location};

/// An image that is open for reading.
pub struct Source {
    /// Its content.
    pub image: Box<dyn Image>,
    /// What it is.
    pub facts: Facts,
}

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
    /// Block (file), physical sector (device) or cluster size, in bytes.
    pub block_size_bytes: u64,
    /// For devices, the smallest addressable unit in bytes.
    pub sector_size_bytes: Option<u32>,
    /// The format of others that its first bytes look like, although it is read as raw.
    pub looks_like: Option<&'static str>,
    /// What tells it from any other, and from itself once it was changed.
    pub identity: Identity,
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
    /// A file changes its time when it is written.
    File {
        /// Number of its filesystem's device.
        device: u64,
        /// Its number there.
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

/// Opens the image at `location` for reading. A device is raw; so is a file, unless its prefix says otherwise.
///
/// # Errors
///
/// `NotFound`, `Denied`; `Invalid` if it can hold no image (a folder, a pipe).
pub fn open_source(location: &Location) -> Result<Source> {
    open(location, Reading::Cached)
}

/// Opens it for reading what stands on the disk, past the page cache where that is possible.
pub(crate) fn open_readback(location: &Location) -> Result<Source> {
    open(location, Reading::PastCache)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Cached,
    PastCache,
}

fn open(location: &Location, reading: Reading) -> Result<Source> {
    let path = location.path();
    let metadata = look(path)?;
    let medium = medium_kind(path, &metadata)?;
    match medium {
        MediumKind::File => {
            let mut file = FileMedium::open(path, Access::Read)?;
            if reading == Reading::PastCache {
                file = file.bypassing_cache();
            } else {
                file.expect_sequential();
            }
            let facts = facts(location, &metadata, medium, &file, None)?;
            Ok(Source { image: Box::new(Checked::new(RawImage::open(file)?)), facts })
        }
        MediumKind::Device => {
            let device = DeviceMedium::open(path, Access::Read)?;
            let sector = device.logical_sector_bytes();
            let facts = facts(location, &metadata, medium, &device, Some(sector))?;
            Ok(Source { image: Box::new(Checked::new(RawImage::open(device)?)), facts })
        }
    }
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
        None => probe::looks_foreign(medium)?.map(|format| format.name),
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
        identity,
    })
}

impl Identity {
    /// That of a regular file.
    pub(crate) fn of_file(metadata: &Metadata) -> Self {
        Identity::File {
            device: metadata.dev(),
            inode: metadata.ino(),
            size_bytes: metadata.len(),
            time_ns: i128::from(metadata.mtime()) * 1_000_000_000
                + i128::from(metadata.mtime_nsec()),
        }
    }
}
