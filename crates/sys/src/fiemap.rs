//! Where the blocks of a file lie on its disk (FIEMAP), and in which ranges two files share them.

use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

use crate::ioctl::{self, Fiemap, FiemapExtent};

/// The physical extents of a file, in ascending order. Holes and preallocated, unwritten ranges are left out:
/// both read as zeroes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PhysicalMap {
    extents: Vec<PhysicalExtent>,
}

/// A run of a file that lies in one piece on its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhysicalExtent {
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub len_bytes: u64,
    /// Where it begins on the disk, in bytes; `None` where the filesystem cannot say which bytes on the disk
    /// are its content (compressed, inline, not yet placed).
    pub physical: Option<u64>,
}

/// `linux/fiemap.h`: flush the file before its map is read.
const FIEMAP_FLAG_SYNC: u32 = 0x1;
const FIEMAP_EXTENT_LAST: u32 = 0x1;
const FIEMAP_EXTENT_UNWRITTEN: u32 = 0x800;
/// UNKNOWN, DELALLOC, ENCODED, DATA_ENCRYPTED, NOT_ALIGNED, DATA_INLINE, DATA_TAIL.
const FIEMAP_EXTENT_OPAQUE: u32 = 0x2 | 0x4 | 0x8 | 0x80 | 0x100 | 0x200 | 0x400;

impl PhysicalMap {
    /// Reads the map of `file`, whose written data is flushed before.
    ///
    /// The map is of one moment only if nobody writes to the file meanwhile.
    pub fn read(file: impl AsFd) -> io::Result<Self> {
        PhysicalMap::read_reserving(file, 0)
    }

    /// The same, with memory for `expected` extents taken before anything is asked.
    pub fn read_reserving(file: impl AsFd, expected: usize) -> io::Result<Self> {
        let mut extents = Vec::with_capacity(expected);
        let mut answer = Fiemap::boxed();
        let mut start = 0;
        let mut flags = FIEMAP_FLAG_SYNC;
        loop {
            ioctl::fiemap(file.as_fd(), start, flags, &mut answer)?;
            flags = 0;
            let batch = &answer.extents[..answer.mapped_extents as usize];
            extents.extend(batch.iter().filter_map(PhysicalExtent::from_kernel));
            match batch.last() {
                Some(last) if last.flags & FIEMAP_EXTENT_LAST == 0 => {
                    let next = last.logical + last.length;
                    if next <= start {
                        return Err(io::Error::other(
                            "the extent map of the file does not advance",
                        ));
                    }
                    start = next;
                }
                _ => return Ok(PhysicalMap { extents }),
            }
        }
    }

    /// A map made by hand, for tests: extents in ascending order that do not overlap.
    pub fn from_extents(extents: Vec<PhysicalExtent>) -> Self {
        PhysicalMap { extents }
    }

    /// The extents, in ascending order.
    pub fn extents(&self) -> &[PhysicalExtent] {
        &self.extents
    }

    /// Whether all of `range` lies in extents whose place on the disk is not told.
    pub fn is_untold_within(&self, range: &Range<u64>) -> bool {
        let mut cursor = Cursor::new(self);
        let mut at = range.start;
        while at < range.end {
            match cursor.look(at) {
                (Place::Unknown, end) => at = end,
                _ => return false,
            }
        }
        true
    }

    /// The ranges below `size_bytes` in which the two files do not provably share their blocks.
    ///
    /// Where both name the same place on the disk, or both have a hole, they hold the same bytes; an extent
    /// whose place is not known counts as differing.
    pub fn differing(&self, other: &PhysicalMap, size_bytes: u64) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        let (mut mine, mut theirs) = (Cursor::new(self), Cursor::new(other));
        let mut at = 0;
        while at < size_bytes {
            let (here, my_end) = mine.look(at);
            let (there, their_end) = theirs.look(at);
            let end = my_end.min(their_end).min(size_bytes);
            if !here.is_same_place(there) {
                match ranges.last_mut() {
                    Some(last) if last.end == at => last.end = end,
                    _ => ranges.push(at..end),
                }
            }
            at = end;
        }
        ranges
    }
}

impl PhysicalExtent {
    fn from_kernel(extent: &FiemapExtent) -> Option<Self> {
        if extent.flags & FIEMAP_EXTENT_UNWRITTEN != 0 || extent.length == 0 {
            return None;
        }
        let known = extent.flags & FIEMAP_EXTENT_OPAQUE == 0;
        Some(PhysicalExtent {
            offset: extent.logical,
            len_bytes: extent.length,
            physical: known.then_some(extent.physical),
        })
    }

    fn end(&self) -> u64 {
        self.offset.saturating_add(self.len_bytes)
    }
}

/// What lies at one offset of a file.
#[derive(Clone, Copy)]
enum Place {
    Hole,
    Disk(u64),
    Unknown,
}

impl Place {
    fn is_same_place(self, other: Place) -> bool {
        match (self, other) {
            (Place::Hole, Place::Hole) => true,
            (Place::Disk(a), Place::Disk(b)) => a == b,
            _ => false,
        }
    }
}

/// Walks a map forwards.
struct Cursor<'a> {
    rest: &'a [PhysicalExtent],
}

impl<'a> Cursor<'a> {
    fn new(map: &'a PhysicalMap) -> Self {
        Cursor { rest: &map.extents }
    }

    /// What lies at `at`, and where that ends. `at` never goes back.
    fn look(&mut self, at: u64) -> (Place, u64) {
        while let Some(extent) = self.rest.first() {
            if extent.end() <= at {
                self.rest = &self.rest[1..];
            } else if extent.offset > at {
                return (Place::Hole, extent.offset);
            } else {
                let place = match extent.physical {
                    Some(physical) => Place::Disk(physical + (at - extent.offset)),
                    None => Place::Unknown,
                };
                return (place, extent.end());
            }
        }
        (Place::Hole, u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(extents: &[(u64, u64, Option<u64>)]) -> PhysicalMap {
        let make = |&(offset, len_bytes, physical)| PhysicalExtent { offset, len_bytes, physical };
        PhysicalMap::from_extents(extents.iter().map(make).collect())
    }

    #[test]
    fn one_map_cut_differently_is_the_same_map() {
        let whole = map(&[(0, 100, Some(1000)), (200, 50, Some(5000))]);
        let cut = map(&[(0, 30, Some(1000)), (30, 70, Some(1030)), (200, 50, Some(5000))]);
        assert_eq!(whole.differing(&cut, 300), []);
    }

    #[test]
    fn what_moved_appeared_or_went_differs() {
        let old = map(&[(0, 100, Some(1000)), (200, 50, Some(5000))]);
        let new = map(&[
            (0, 40, Some(1000)),
            (40, 20, Some(9000)),
            (60, 40, Some(1060)),
            (150, 10, Some(7)),
        ]);
        assert_eq!(old.differing(&new, 300), [40..60, 150..160, 200..250]);
        assert_eq!(new.differing(&old, 220), [40..60, 150..160, 200..220]);
    }

    #[test]
    fn an_extent_in_an_unknown_place_is_never_taken_for_equal() {
        let opaque = map(&[(0, 100, None)]);
        assert!(opaque.differing(&opaque, 100).iter().eq(std::iter::once(&(0..100))));
    }
}
