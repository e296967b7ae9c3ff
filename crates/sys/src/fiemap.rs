//! Where the blocks of a file lie on its disk (FIEMAP), and in which ranges two files share them.

use std::convert::Infallible;
use std::io;
use std::iter::Peekable;
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
        for extent in PhysicalExtents::of(file) {
            extents.push(extent?);
        }
        Ok(PhysicalMap { extents })
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
        let mut cursor = Cursor::new(self.known());
        let mut at = range.start;
        while at < range.end {
            match cursor.look(at) {
                Ok((Place::Unknown, end)) => at = end,
                Ok(_) => return false,
            }
        }
        true
    }

    /// The ranges below `size_bytes` in which the two files do not provably share their blocks.
    ///
    /// Where both name the same place on the disk, or both have a hole, they hold the same bytes; an extent
    /// whose place is not known counts as differing.
    pub fn differing(&self, other: &PhysicalMap, size_bytes: u64) -> Vec<Range<u64>> {
        let mut ranges = Vec::new();
        let Ok(()) = walk(self.known(), other.known(), size_bytes, |range| {
            ranges.push(range);
            Ok(())
        });
        ranges
    }

    fn known(&self) -> impl Iterator<Item = Result<PhysicalExtent, Infallible>> {
        self.extents.iter().map(|&extent| Ok(extent))
    }
}

/// The physical extents of a file as the kernel tells them, in ascending order, a few hundred in memory at a time.
///
/// Ends after the first error.
pub struct PhysicalExtents<F> {
    file: F,
    answer: Box<Fiemap>,
    /// Which extent of the answer comes next.
    next: usize,
    /// Where the next question begins in the file; `None` if there is none.
    start: Option<u64>,
    flags: u32,
}

impl<F: AsFd> PhysicalExtents<F> {
    /// Those of `file`, whose written data is flushed before the first is told.
    pub fn of(file: F) -> Self {
        PhysicalExtents {
            file,
            answer: Fiemap::boxed(),
            next: 0,
            start: Some(0),
            flags: FIEMAP_FLAG_SYNC,
        }
    }

    fn batch(&self) -> &[FiemapExtent] {
        &self.answer.extents[..self.answer.mapped_extents as usize]
    }

    fn ask(&mut self, start: u64) -> io::Result<()> {
        self.next = 0;
        self.answer.mapped_extents = 0;
        ioctl::fiemap(self.file.as_fd(), start, self.flags, &mut self.answer)?;
        self.flags = 0;
        self.start = match self.batch().last() {
            Some(last) if last.flags & FIEMAP_EXTENT_LAST == 0 => {
                let next = last.logical.saturating_add(last.length);
                if next <= start {
                    let sentence = "the extent map of the file does not advance";
                    return Err(io::Error::other(sentence));
                }
                Some(next)
            }
            _ => None,
        };
        Ok(())
    }
}

impl<F: AsFd> Iterator for PhysicalExtents<F> {
    type Item = io::Result<PhysicalExtent>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            while let Some(extent) = self.batch().get(self.next).map(PhysicalExtent::from_kernel) {
                self.next += 1;
                if extent.is_some() {
                    return extent.map(Ok);
                }
            }
            let start = self.start.take()?;
            if let Err(error) = self.ask(start) {
                self.start = None;
                self.answer.mapped_extents = 0;
                return Some(Err(error));
            }
        }
    }
}

/// Tells `each`, in ascending order, the ranges below `size_bytes` in which two files do not provably share their
/// blocks, as [`PhysicalMap::differing`], without holding either map in memory.
///
/// # Errors
///
/// What the kernel says, or `each`.
pub fn each_differing(
    a: impl AsFd,
    b: impl AsFd,
    size_bytes: u64,
    each: impl FnMut(Range<u64>) -> io::Result<()>,
) -> io::Result<()> {
    walk(PhysicalExtents::of(a), PhysicalExtents::of(b), size_bytes, each)
}

/// Walks two maps side by side; ranges that touch are told as one.
fn walk<E>(
    mine: impl Iterator<Item = Result<PhysicalExtent, E>>,
    theirs: impl Iterator<Item = Result<PhysicalExtent, E>>,
    size_bytes: u64,
    mut each: impl FnMut(Range<u64>) -> Result<(), E>,
) -> Result<(), E> {
    let (mut mine, mut theirs) = (Cursor::new(mine), Cursor::new(theirs));
    let mut differing: Option<Range<u64>> = None;
    let mut at = 0;
    while at < size_bytes {
        let (here, my_end) = mine.look(at)?;
        let (there, their_end) = theirs.look(at)?;
        let end = my_end.min(their_end).min(size_bytes);
        if here.is_same_place(there) {
            if let Some(range) = differing.take() {
                each(range)?;
            }
        } else {
            differing.get_or_insert(at..end).end = end;
        }
        at = end;
    }
    differing.map_or(Ok(()), each)
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
struct Cursor<I: Iterator> {
    rest: Peekable<I>,
}

impl<E, I: Iterator<Item = Result<PhysicalExtent, E>>> Cursor<I> {
    fn new(extents: I) -> Self {
        Cursor { rest: extents.peekable() }
    }

    /// What lies at `at`, and where that ends. `at` never goes back.
    fn look(&mut self, at: u64) -> Result<(Place, u64), E> {
        let is_past = |next: &Result<PhysicalExtent, E>| match next {
            Ok(extent) => extent.end() <= at,
            Err(_) => true,
        };
        while let Some(past) = self.rest.next_if(is_past) {
            past?;
        }
        Ok(match self.rest.peek() {
            Some(Ok(extent)) if extent.offset > at => (Place::Hole, extent.offset),
            Some(Ok(extent)) => {
                let place = match extent.physical {
                    Some(physical) => Place::Disk(physical + (at - extent.offset)),
                    None => Place::Unknown,
                };
                (place, extent.end())
            }
            _ => (Place::Hole, u64::MAX),
        })
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
