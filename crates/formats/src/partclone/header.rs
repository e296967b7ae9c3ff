//! The header of a partition image.

use std::ops::{Range, RangeInclusive};

use image::{Error, ErrorKind, Result};

use super::crc::{CHECKSUM_BYTES, checksum};
use super::layout::Layout;

/// What a partition image says about itself.
///
/// Source of the format: images of partclone 0.3.23, version 0002, decoded; partclone's own page on its image formats;
/// for version 0001 also what `partclone.chkimg` 0.3.23 accepts. `docs/formats/partclone.md` describes both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Version of the format.
    pub version: Version,
    /// Version of the tool that wrote it, such as `0.3.23`; empty in version 0001, which does not tell.
    pub tool_version: String,
    /// The filesystem in partclone's word: `EXTFS`, `XFS`, `BTRFS`, `FAT32`, `NTFS`, …
    pub filesystem: String,
    /// Size of the filesystem's device, in bytes.
    pub device_bytes: u64,
    /// How many blocks there are.
    pub total_blocks: u64,
    /// How many blocks are used, as the filesystem says.
    pub used_by_filesystem: u64,
    /// How many blocks are used, as the bitmap says: as many are stored. The header of version 0001 does not tell; there it
    /// is the same as the number before until the bitmap was read.
    pub used_by_bitmap: u64,
    /// Size of a block in bytes.
    pub block_bytes: u32,
    /// How stored blocks are checked.
    pub checksums: Checksums,
}

/// Version of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `0001`: a byte for each block in the map, a checksum behind each block.
    V1,
    /// `0002`.
    V2,
}

/// How stored blocks are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksums {
    /// Not at all.
    None,
    /// A CRC-32 behind each `blocks` stored blocks, and behind the last few.
    Crc32 {
        /// How many blocks a checksum is for.
        blocks: u32,
        /// Whether each begins anew; otherwise each goes on from the one before it.
        reseed: bool,
    },
}

/// What every image begins with.
pub(super) const MAGIC: &[u8; 15] = b"partclone-image";
/// The magic, what differs, and the version: as much as tells how long a header is, in bytes.
pub(super) const BEGINNING_BYTES: usize = 34;
/// The map of version 0001 ends with it.
pub(super) const MAP_END_V1: &[u8; 8] = b"BiTmAgIc";
/// The map is held in memory: this many blocks take 4 GiB.
const BLOCKS_MAX: u64 = 1 << 35;
const BLOCK_BYTES: RangeInclusive<u32> = 512..=64 << 20;

impl Header {
    /// Length of a header of version 2 in bytes.
    pub const V2_BYTES: usize = 110;

    /// Length of a header of version 1 in bytes.
    pub const V1_BYTES: usize = 4160;

    /// Reads the header at the beginning of `head`, and says how long it is. Every number in it is checked against the
    /// others, and its checksum.
    ///
    /// # Errors
    ///
    /// `Damaged`; `Unsupported` for what no partclone up to 0.3.23 writes.
    pub fn decode(head: &[u8]) -> Result<(Header, usize)> {
        let len_bytes = Header::len_at(head)?;
        let Some(head) = head.get(..len_bytes) else {
            return Err(damaged("it ends within its header"));
        };
        let header = if len_bytes == Header::V1_BYTES { decode_v1(head) } else { decode_v2(head) }?;
        header.check()?;
        Ok((header, len_bytes))
    }

    /// How long the header at the beginning of `head` is, which need not be there as a whole.
    pub(super) fn len_at(head: &[u8]) -> Result<usize> {
        if !head.starts_with(MAGIC) {
            return Err(damaged("it does not begin with partclone-image"));
        }
        match head.get(BEGINNING_BYTES - 4..BEGINNING_BYTES) {
            Some(b"0001") => Ok(Header::V1_BYTES),
            Some(b"0002") => Ok(Header::V2_BYTES),
            Some(version) => {
                let version = version.escape_ascii();
                Err(unsupported(format!("its format has the version {version}")))
            }
            None => Err(damaged("it ends within its header")),
        }
    }

    /// Its bytes, as partclone 0.3.23 writes them: version 2, whatever [`version`](Header::version) says.
    pub fn encode(&self) -> [u8; Header::V2_BYTES] {
        let (mode, size, blocks, reseed) = match self.checksums {
            Checksums::None => (0_u16, 0_u16, 0, true),
            Checksums::Crc32 { blocks, reseed } => (CRC32, 4, blocks, reseed),
        };
        let mut bytes = [0; Header::V2_BYTES];
        let mut put = |offset: usize, field: &[u8]| {
            bytes[offset..offset + field.len()].copy_from_slice(field);
        };
        put(0, MAGIC);
        put(0x10, clip(&self.tool_version, 14));
        put(0x1e, b"0002");
        put(0x22, &BYTE_ORDER.to_le_bytes());
        put(0x24, clip(&self.filesystem, 16));
        put(0x34, &self.device_bytes.to_le_bytes());
        put(0x3c, &self.total_blocks.to_le_bytes());
        put(0x44, &self.used_by_filesystem.to_le_bytes());
        put(0x4c, &self.used_by_bitmap.to_le_bytes());
        put(0x54, &self.block_bytes.to_le_bytes());
        put(0x58, &FEATURES_BYTES.to_le_bytes());
        put(0x5c, &2_u16.to_le_bytes());
        put(0x5e, &64_u16.to_le_bytes());
        put(0x60, &mode.to_le_bytes());
        put(0x62, &size.to_le_bytes());
        put(0x64, &blocks.to_le_bytes());
        put(0x68, &[u8::from(reseed), MAP_OF_BITS]);
        let crc = checksum(&bytes[..0x6a]);
        bytes[0x6a..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Length of the whole stream that begins with it, in bytes.
    pub fn stream_bytes(&self) -> u64 {
        Layout::new(self).len_bytes()
    }

    /// Its own length in bytes.
    pub(super) fn len_bytes(&self) -> u64 {
        match self.version {
            Version::V1 => Header::V1_BYTES as u64,
            Version::V2 => Header::V2_BYTES as u64,
        }
    }

    /// Length of the map of used blocks, without what checks it, in bytes.
    pub(super) fn map_bytes(&self) -> u64 {
        match self.version {
            Version::V1 => self.total_blocks,
            Version::V2 => self.total_blocks.div_ceil(8),
        }
    }

    /// Where the first stored block begins in the stream, in bytes.
    pub fn data_offset(&self) -> u64 {
        let check = match self.version {
            Version::V1 => MAP_END_V1.len() as u64,
            Version::V2 => CHECKSUM_BYTES,
        };
        self.len_bytes() + self.map_bytes() + check
    }

    fn check(&self) -> Result<()> {
        let Header { device_bytes, total_blocks, block_bytes, .. } = *self;
        if !block_bytes.is_power_of_two() || !BLOCK_BYTES.contains(&block_bytes) {
            return Err(unsupported(format!("its blocks have {block_bytes} bytes")));
        }
        if total_blocks > BLOCKS_MAX {
            return Err(unsupported(format!("it has a map of {total_blocks} blocks")));
        }
        let blocks_bytes = total_blocks.checked_mul(u64::from(block_bytes));
        let is_within = |bytes: u64| bytes < device_bytes.saturating_add(u64::from(block_bytes));
        if device_bytes > i64::MAX as u64 || !blocks_bytes.is_some_and(is_within) {
            let sentence = format!(
                "{total_blocks} blocks of {block_bytes} bytes do not fit a device of {device_bytes} bytes"
            );
            return Err(damaged(sentence));
        }
        // Version 0001 says it only as the filesystem counted, which need not be true.
        if self.version == Version::V2 && self.used_by_bitmap > total_blocks {
            let used = self.used_by_bitmap;
            return Err(damaged(format!("{used} of {total_blocks} blocks are said to be used")));
        }
        Ok(())
    }
}

const BYTE_ORDER: u16 = 0xc0de;
const FEATURES_BYTES: u32 = 18;
const CRC32: u16 = 32;
const MAP_OF_BITS: u8 = 1;

fn decode_v1(head: &[u8]) -> Result<Header> {
    let fields = Fields(head);
    let (block_bytes, total_blocks) = (fields.u32(36), fields.u64(48));
    let used = fields.u64(56);
    // Old versions of the tool did not always know how large the device was.
    let device_bytes = fields.u64(40).max(total_blocks.saturating_mul(u64::from(block_bytes)));
    Ok(Header {
        version: Version::V1,
        tool_version: String::new(),
        filesystem: fields.text(15..30)?,
        device_bytes,
        total_blocks,
        used_by_filesystem: used,
        used_by_bitmap: used.min(total_blocks),
        block_bytes,
        checksums: Checksums::Crc32 { blocks: 1, reseed: false },
    })
}

fn decode_v2(head: &[u8]) -> Result<Header> {
    let fields = Fields(head);
    if checksum(&head[..0x6a]) != fields.u32(0x6a) {
        return Err(damaged("the checksum of its header is wrong"));
    }
    let checksums = match (fields.u16(0x60), fields.u16(0x62), fields.u32(0x64)) {
        (0, ..) => Checksums::None,
        (CRC32, 4, blocks) if blocks > 0 => Checksums::Crc32 { blocks, reseed: fields.flag(0x68)? },
        (mode, size, blocks) => {
            let what = format!("checksums of kind {mode}, {size} bytes for each {blocks} blocks");
            return Err(unsupported(what));
        }
    };
    for (what, found, expected) in [
        ("byte order", u32::from(fields.u16(0x22)), u32::from(BYTE_ORDER)),
        ("length of features", fields.u32(0x58), FEATURES_BYTES),
        ("version in binary", u32::from(fields.u16(0x5c)), 2),
        ("kind of map", u32::from(head[0x69]), u32::from(MAP_OF_BITS)),
    ] {
        if found != expected {
            return Err(unsupported(format!("its {what} is {found:#x}, not {expected:#x}")));
        }
    }
    Ok(Header {
        version: Version::V2,
        tool_version: fields.text(0x10..0x1e)?,
        filesystem: fields.text(0x24..0x34)?,
        device_bytes: fields.u64(0x34),
        total_blocks: fields.u64(0x3c),
        used_by_filesystem: fields.u64(0x44),
        used_by_bitmap: fields.u64(0x4c),
        block_bytes: fields.u32(0x54),
        checksums,
    })
}

/// The bytes of a header, all of them there.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.0[offset..offset + N]);
        bytes
    }

    fn u16(&self, offset: usize) -> u16 {
        u16::from_le_bytes(self.array(offset))
    }

    fn u32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.array(offset))
    }

    fn u64(&self, offset: usize) -> u64 {
        u64::from_le_bytes(self.array(offset))
    }

    fn flag(&self, offset: usize) -> Result<bool> {
        match self.0[offset] {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(unsupported(format!("its checksums begin anew in the way {other}"))),
        }
    }

    /// A word that people will see: what a terminal could take for something else is no word.
    fn text(&self, range: Range<usize>) -> Result<String> {
        let word = self.0[range].split(|&byte| byte == 0).next().unwrap_or_default();
        if !word.iter().all(|byte| (0x20..0x7f).contains(byte)) {
            let word = word.escape_ascii();
            return Err(damaged(format!("a name in its header is {word}")));
        }
        Ok(String::from_utf8_lossy(word).into_owned())
    }
}

/// So much of `text` as its field can hold.
fn clip(text: &str, most: usize) -> &[u8] {
    &text.as_bytes()[..text.len().min(most)]
}

fn damaged(what: impl AsRef<str>) -> Error {
    let sentence = format!("the header of the partition image is damaged: {}", what.as_ref());
    Error::new(ErrorKind::Damaged, sentence)
}

fn unsupported(what: impl AsRef<str>) -> Error {
    let sentence = format!(
        "this partition image is none that partclone up to 0.3.23 writes: {}",
        what.as_ref()
    );
    Error::new(ErrorKind::Unsupported, sentence)
}
