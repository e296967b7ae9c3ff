//! A run of an image, and the three kinds there are.

use std::ops::Range;

/// A run of bytes of one kind, within one image or medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How long it is, in bytes; never 0.
    pub len_bytes: u64,
    /// What stands in it.
    pub kind: ExtentKind,
}

/// What stands in a run. Zero and unspecified are never mixed up: a zero run was made to read as zeroes by
/// somebody who may rely on it; an unspecified one (a filesystem's free blocks) matters to nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExtentKind {
    /// Bytes that must be read to be known. Always a permitted answer.
    Data,
    /// Reads as zeroes, without reading.
    Zero,
    /// May read as anything; whoever copies it may leave it out.
    Unspecified,
}

impl Extent {
    /// The run of `kind` over `range`.
    pub fn new(range: Range<u64>, kind: ExtentKind) -> Self {
        debug_assert!(range.start < range.end, "an extent is never empty");
        Extent { offset: range.start, len_bytes: range.end - range.start, kind }
    }

    /// The first offset behind it.
    pub fn end(&self) -> u64 {
        self.offset + self.len_bytes
    }

    /// Its bytes as offsets.
    pub fn range(&self) -> Range<u64> {
        self.offset..self.end()
    }

    /// The part of it that lies before `end`, which must be behind its beginning.
    #[must_use]
    pub fn until(self, end: u64) -> Self {
        Extent::new(self.offset..self.end().min(end), self.kind)
    }
}

impl ExtentKind {
    /// The word for it in listings and JSON.
    pub fn name(self) -> &'static str {
        match self {
            ExtentKind::Data => "data",
            ExtentKind::Zero => "zero",
            ExtentKind::Unspecified => "unspecified",
        }
    }
}
