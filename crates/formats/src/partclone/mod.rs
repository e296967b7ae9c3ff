//! Partition images of partclone: a header, a bitmap of used blocks, the used blocks with checksums among them.
//!
//! Source: images of partclone 0.3.23, and its own description of its formats; `docs/formats/partclone.md` describes them.

mod bitmap;
mod check;
mod crc;
mod groups;
mod header;
mod image;
mod layout;
mod map;
mod stream;

pub use bitmap::UsedBlocks;
pub use check::{Checked, StreamCheck};
pub use header::{Checksums, Header, Version};
pub use image::PartcloneImage;
pub use stream::Stream;

/// Whether a stream that begins with `head` is a partition image of partclone, of any version.
pub fn looks_like_partclone(head: &[u8]) -> bool {
    head.starts_with(header::MAGIC)
}
