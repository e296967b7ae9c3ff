//! How an image is cut: regions, whose digests are always exchanged; blocks and pages, where regions differ.

use std::ops::Range;

/// A BLAKE3 digest.
pub type Digest = [u8; 32];

/// Length of a block in bytes: what a region that differs is compared by.
pub const BLOCK_BYTES: u64 = 64 << 10;
/// Length of a page in bytes: what a block that differs may be compared by.
pub const PAGE_BYTES: u64 = 4 << 10;

/// The regions of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Size of the image in bytes.
    pub size_bytes: u64,
    /// Length of a region in bytes, a power of two; the last may be shorter.
    pub region_bytes: u64,
}

impl Shape {
    /// That of an image of `size_bytes`: regions of 1 MiB, longer where there would be more than 2^19 of them.
    pub fn of(size_bytes: u64) -> Self {
        const MIN_BYTES: u64 = 1 << 20;
        const COUNT_MAX: u64 = 1 << 19;
        let mut region_bytes = MIN_BYTES;
        while size_bytes.div_ceil(region_bytes) > COUNT_MAX {
            region_bytes *= 2;
        }
        Shape { size_bytes, region_bytes }
    }

    /// How many regions there are.
    pub fn regions(&self) -> u64 {
        self.size_bytes.div_ceil(self.region_bytes)
    }

    /// Where region `number` lies.
    pub fn region(&self, number: u64) -> Range<u64> {
        let start = number * self.region_bytes;
        start..self.size_bytes.min(start + self.region_bytes)
    }
}
