//! The image that is restored: which compression, which variant, readable at any place or only from front to back.

use std::path::{Path, PathBuf};

use filesystems::partclone::{Partclone, Variant};
use formats::packed::{self, Compression, Opened, PackedMedium};
use formats::partclone::{Checksums, Header, PartcloneImage, looks_like_partclone};
use formats::raw::RawImage;
use image::{Error, ErrorKind, Image, Medium, Result};
use sys::{Access, FileMedium};

use crate::backup_name::{BackupName, UNFINISHED};
use crate::registry;

/// An image that is open, and whose head, table, header and map of used blocks are right.
pub(crate) struct OpenImage {
    pub(crate) path: PathBuf,
    pub(crate) compression: Compression,
    pub(crate) variant: Variant,
    pub(crate) content: Content,
}

/// How an image can be read.
pub(crate) enum Content {
    /// A partition image, at any place.
    Partition(Box<PartcloneImage<PackedMedium<FileMedium>>>),
    /// Raw bytes, at any place.
    Raw(PackedMedium<FileMedium>),
    /// From front to back; a partition image has a header.
    Stream(FileMedium, Option<Box<Header>>),
}

/// As much of an image as is needed to see what it is, in bytes: more than any header.
const HEAD_BYTES: usize = 8192;

/// What a thread may hold to check a part of it, in bytes.
const GROUP_BYTES_MAX: u64 = 16 << 20;

impl OpenImage {
    /// Opens the image at `path`. What is in it decides; its name is a hint, and says of raw bytes that they are an image.
    ///
    /// # Errors
    ///
    /// `NotFound`, `Denied`; `Invalid` for an image that is unfinished, or none; `Damaged`; `Unsupported`.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = open_file(path)?;
        let name = name_of(path);
        let mut first = [0; 16];
        let len = file.len()?.min(first.len() as u64) as usize;
        file.read_at(&mut first[..len], 0)?;
        let compression = compression(path, name.as_ref(), &first[..len])?;
        let head = unpacked_head(&file, compression)?;
        let shown = path.display().to_string();
        if looks_like_partclone(&head) {
            let header = Header::decode(&head).map(|(header, _)| header).map_err(|error| {
                error.context(format!("{shown} cannot be read")).at(&shown, Some(0..110))
            })?;
            let variant = variant_of(name.as_ref(), &header);
            let content = match packed::open(file, compression)? {
                Opened::Indexed(medium) => {
                    medium.check_rest()?;
                    Content::Partition(Box::new(PartcloneImage::open(medium)?))
                }
                Opened::Unindexed(file) => Content::Stream(file, Some(Box::new(header))),
            };
            return Ok(OpenImage { path: path.to_owned(), compression, variant, content });
        }
        if name.as_ref().is_some_and(|name| name.variant != Variant::DD.name()) {
            let sentence = format!(
                "{shown} is damaged: it does not begin with a header of partclone, as its name says"
            );
            return Err(Error::new(ErrorKind::Damaged, sentence).at(shown, Some(0..15)));
        }
        if name.is_none() {
            let sentence = format!(
                "{shown} is no image of a partition: it has no header of partclone, and its name does not say that \
                 it is one of raw bytes (….apt.dd.…)"
            );
            return Err(Error::new(ErrorKind::Invalid, sentence).at(shown, None));
        }
        let content = match packed::open(file, compression)? {
            Opened::Indexed(medium) => {
                medium.check_rest()?;
                Content::Raw(medium)
            }
            Opened::Unindexed(file) => Content::Stream(file, None),
        };
        Ok(OpenImage { path: path.to_owned(), compression, variant: Variant::DD, content })
    }

    /// Opens it for a program that stands in for partclone: only the name says what it is.
    ///
    /// # Errors
    ///
    /// `NotFound`; `Invalid` for a name that is none, and a variant or a compression that nobody knows; `Unsupported` for a
    /// variant without a program.
    pub(super) fn open_for_stub(path: &Path, partclone: &Partclone) -> Result<Self> {
        let file = open_file(path)?;
        let shown = path.display().to_string();
        let invalid = |sentence: String| {
            Err(Error::new(ErrorKind::Invalid, sentence).at(path.display().to_string(), None))
        };
        let Some(name) = name_of(path) else {
            return invalid(format!(
                "{shown} is no name of an image (…-2026-03-04T0506.apt.ext4.gz)"
            ));
        };
        let Some(variant) = Variant::by_name(&name.variant) else {
            return invalid(format!("{shown}: there is no partclone for {:?}", name.variant));
        };
        if partclone.program(variant).is_none() {
            let sentence = format!("{shown}: there is no program partclone.{}", variant.name());
            return Err(Error::new(ErrorKind::Unsupported, sentence).at(shown, None));
        }
        let Some(compression) = Compression::by_name(&name.compression) else {
            return invalid(format!("{shown}: {:?} is no compression", name.compression));
        };
        let content = Content::Stream(file, None);
        Ok(OpenImage { path: path.to_owned(), compression, variant, content })
    }

    /// Its content, if that can be read at any place, and what is read is checked.
    pub(super) fn at_any_place(&self) -> Result<Option<Box<dyn Image + '_>>> {
        Ok(match &self.content {
            Content::Partition(image) if has_short_groups(image.header()) => {
                Some(Box::new(&**image))
            }
            Content::Raw(medium) => Some(Box::new(RawImage::open(medium)?)),
            Content::Partition(_) | Content::Stream(..) => None,
        })
    }

    /// The packed file.
    pub(crate) fn file(&self) -> &FileMedium {
        match &self.content {
            Content::Partition(image) => image.medium().file(),
            Content::Raw(medium) => medium.file(),
            Content::Stream(file, _) => file,
        }
    }

    /// What a partition image says about itself.
    pub(crate) fn header(&self) -> Option<&Header> {
        match &self.content {
            Content::Partition(image) => Some(image.header()),
            Content::Stream(_, header) => header.as_deref(),
            Content::Raw(_) => None,
        }
    }

    /// Size of the partition that was imaged in bytes; `None` if that is known only at the end.
    pub(crate) fn device_bytes(&self) -> Option<u64> {
        match (&self.content, self.header()) {
            (_, Some(header)) => Some(header.device_bytes),
            (Content::Raw(medium), _) => medium.len().ok(),
            _ => None,
        }
    }

    /// Bytes in used blocks; `None` for raw bytes.
    pub(crate) fn used_bytes(&self) -> Option<u64> {
        let header = self.header()?;
        Some(header.used_by_bitmap.saturating_mul(u64::from(header.block_bytes)))
    }
}

/// Whether stored blocks can be checked without those before them, a few at a time.
fn has_short_groups(header: &Header) -> bool {
    match header.checksums {
        Checksums::Crc32 { blocks, reseed: true } => {
            u64::from(blocks) * u64::from(header.block_bytes) <= GROUP_BYTES_MAX
        }
        _ => false,
    }
}

fn open_file(path: &Path) -> Result<FileMedium> {
    let shown = path.display().to_string();
    if !registry::look(path)?.is_file() {
        let sentence = format!("{shown} is no image: images are files");
        return Err(Error::new(ErrorKind::Invalid, sentence).at(shown, None));
    }
    if shown.ends_with(UNFINISHED) {
        let sentence = format!("{shown} is an image that is not whole (make another one)");
        return Err(Error::new(ErrorKind::Invalid, sentence).at(shown, None));
    }
    let file = FileMedium::open(path, Access::Read)?;
    file.expect_sequential();
    Ok(file)
}

fn name_of(path: &Path) -> Option<BackupName> {
    BackupName::parse(&path.file_name()?.to_string_lossy())
}

/// The compression that the first bytes tell. Raw bytes that are not compressed may begin like anything: there the name
/// has the last word.
fn compression(path: &Path, name: Option<&BackupName>, first: &[u8]) -> Result<Compression> {
    if looks_like_partclone(first) {
        return Ok(Compression::Uncompressed);
    }
    let by_name = name.and_then(|name| Compression::by_name(&name.compression));
    let is_raw = name.is_some_and(|name| name.variant == Variant::DD.name());
    if is_raw && by_name == Some(Compression::Uncompressed) {
        return Ok(Compression::Uncompressed);
    }
    if let Some(compression) = Compression::by_mark(first) {
        return Ok(compression);
    }
    match by_name {
        // Frames that are to be skipped may stand in front of the others.
        Some(Compression::Zst | Compression::Lz4) if first.get(1..4) == Some(b"\x2a\x4d\x18") => {
            Ok(by_name.unwrap_or(Compression::Zst))
        }
        Some(compression) if compression != Compression::Uncompressed => {
            let shown = path.display().to_string();
            let sentence =
                format!("{shown} is damaged: it does not begin as {} does", compression.name());
            Err(Error::new(ErrorKind::Damaged, sentence).at(shown, Some(0..4)))
        }
        _ => Ok(Compression::Uncompressed),
    }
}

fn unpacked_head(file: &FileMedium, compression: Compression) -> Result<Vec<u8>> {
    let mut head = vec![0; HEAD_BYTES];
    let len = packed::unpack(file, compression)?.read(&mut head)?;
    head.truncate(len);
    Ok(head)
}

/// That of the name, if it is one of a filesystem, else that of the header: partclone's own restore takes any.
fn variant_of(name: Option<&BackupName>, header: &Header) -> Variant {
    let by_name = name.and_then(|name| Variant::by_name(&name.variant));
    let by_header = || {
        let word = header.filesystem.to_ascii_lowercase();
        Variant::by_name(if word == "extfs" { "ext4" } else { &word })
    };
    by_name
        .filter(|variant| !variant.is_raw())
        .or_else(by_header)
        .or_else(|| Variant::by_name("imager"))
        .unwrap_or(Variant::DD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str, first: &[u8]) -> Result<Compression, ErrorKind> {
        let path = Path::new(name);
        compression(path, name_of(path).as_ref(), first).map_err(|error| error.kind())
    }

    #[test]
    fn the_first_bytes_tell_the_compression_whatever_the_name_says() {
        let (gz, zst) = (b"\x1f\x8b\x08\x00", b"\x28\xb5\x2f\xfd");
        assert_eq!(told("x-2026-03-04T0506.apt.ext4.zst", gz), Ok(Compression::Gz));
        assert_eq!(told("renamed", zst), Ok(Compression::Zst));
        let plain = b"partclone-image\0";
        assert_eq!(told("x-2026-03-04T0506.apt.ext4.gz", plain), Ok(Compression::Uncompressed));
    }

    #[test]
    fn raw_bytes_that_are_not_compressed_may_begin_like_anything() {
        let name = "x-2026-03-04T0506.apt.dd.uncompressed";
        assert_eq!(told(name, b"\x1f\x8b\x08\x00"), Ok(Compression::Uncompressed));
        assert_eq!(told(name, b""), Ok(Compression::Uncompressed));
    }

    #[test]
    fn a_file_that_does_not_begin_as_its_name_says_is_damaged() {
        for name in ["x-2026-03-04T0506.apt.dd.gz", "x-2026-03-04T0506.apt.ext4.zstd"] {
            assert_eq!(told(name, b"abcd"), Err(ErrorKind::Damaged), "{name}");
            assert_eq!(told(name, b""), Err(ErrorKind::Damaged), "{name}");
        }
    }
}
