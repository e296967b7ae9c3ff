//! The header of a partition image.

use image::Result;

/// What a partition image says about itself.
///
/// Source of the format: images of partclone 0.3.23, version 0002, decoded; version 0001 as older ones wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Version of the format.
    pub version: Version,
    /// Version of the tool that wrote it, such as `0.3.23`.
    pub tool_version: String,
    /// The filesystem in partclone's word: `EXTFS`, `XFS`, `BTRFS`, `FAT32`, `NTFS`, …
    pub filesystem: String,
    /// Size of the filesystem's device, in bytes.
    pub device_bytes: u64,
    /// How many blocks there are.
    pub total_blocks: u64,
    /// How many blocks are used, as the filesystem says.
    pub used_by_filesystem: u64,
    /// How many blocks are used, as the bitmap says: as many are stored.
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

impl Header {
    /// Length of a header of version 2 in bytes.
    pub const V2_BYTES: usize = 110;

    /// Reads the header at the beginning of `head`, and says how long it is. Every number in it is checked against the
    /// others, and its checksum.
    ///
    /// # Errors
    ///
    /// `Damaged`; `Unsupported` for what no partclone up to 0.3.23 writes.
    pub fn decode(_head: &[u8]) -> Result<(Header, usize)> {
        todo!()
    }

    /// Its bytes, as partclone 0.3.23 writes them: version 2, whatever [`version`](Header::version) says.
    pub fn encode(&self) -> [u8; Header::V2_BYTES] {
        todo!()
    }
}
