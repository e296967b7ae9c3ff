//! The loop of a comparison: two maps side by side, reading only where at least one has data.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use image::ranges::RangeSet;
use image::{AlignedBuf, Extent, ExtentKind, Image, Phase, Result, Task};

use crate::Threads;
use crate::pipeline::for_each_piece;

/// Two images of which some ranges are to be compared.
pub(crate) struct Scan<'a> {
    pub(crate) a: &'a dyn Image,
    pub(crate) b: &'a dyn Image,
    /// Within both of them, in order.
    pub(crate) ranges: Vec<Range<u64>>,
    pub(crate) threads: Threads,
    pub(crate) stop_at_first: bool,
    /// What it is called in progress.
    pub(crate) phase: Phase,
}

/// Where two images differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differences {
    /// Offset of the first byte that differs.
    pub first: Option<u64>,
    /// The differing ranges, rounded out to multiples of the granule.
    pub ranges: RangeSet,
    /// How exact the ranges are, in bytes. It grows where there would be too many of them.
    pub granule_bytes: u64,
    /// Bytes that were read and compared.
    pub compared_bytes: u64,
    /// Bytes that are zero on both sides without reading.
    pub zero_bytes: u64,
    /// Bytes that one side calls nobody's, and that were not compared.
    pub unspecified_bytes: u64,
}

/// How much is read at once from each side: half of it stays in a core's own cache.
const PIECE_BYTES: u64 = 256 << 10;
/// How exact the ranges are at first.
const GRANULE_BYTES: u64 = 512;
/// Above this, neighbours are merged by a coarser granule: some MiB of memory.
const RANGES_MAX: usize = 1 << 16;

/// A range in which both images have one kind of run each.
pub(crate) struct Pair {
    pub(crate) range: Range<u64>,
    pub(crate) a: ExtentKind,
    pub(crate) b: ExtentKind,
}

/// Compares.
pub(crate) fn scan(what: &Scan<'_>, task: &Task) -> Result<Differences> {
    let total_bytes = what.ranges.iter().map(|range| range.end - range.start).sum();
    task.begin(what.phase, total_bytes);
    let found = Mutex::new(Differences {
        first: None,
        ranges: RangeSet::new(),
        granule_bytes: GRANULE_BYTES,
        compared_bytes: 0,
        zero_bytes: 0,
        unspecified_bytes: 0,
    });
    // Pieces are taken in order: once no more are taken, all before the one that differs are being finished.
    let enough = AtomicBool::new(false);
    let supply = pairs(what.a, what.b, what.ranges.clone(), PIECE_BYTES)
        .take_while(|_| !enough.load(Ordering::Relaxed));
    let work = |pair: Pair, buf: &mut AlignedBuf| {
        let differing = compare_pair(what, &pair, buf)?;
        let len = pair.range.end - pair.range.start;
        {
            let mut found = found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match (pair.a, pair.b) {
                (ExtentKind::Unspecified, _) | (_, ExtentKind::Unspecified) => {
                    found.unspecified_bytes += len;
                }
                (ExtentKind::Zero, ExtentKind::Zero) => found.zero_bytes += len,
                _ => found.compared_bytes += len,
            }
            for range in differing {
                found.add(range);
            }
            if what.stop_at_first && found.first.is_some() {
                enough.store(true, Ordering::Relaxed);
            }
        }
        task.advance(len);
        Ok(())
    };
    for_each_piece(what.threads, task, supply, work, Duration::from_secs(3600), || Ok(()))?;
    Ok(found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

impl Differences {
    /// Adds a differing range that begins at an exactly known byte.
    fn add(&mut self, range: Range<u64>) {
        self.first = Some(self.first.map_or(range.start, |first| first.min(range.start)));
        self.ranges.insert(round_out(&range, self.granule_bytes));
        while self.ranges.count() > RANGES_MAX {
            self.granule_bytes *= 2;
            let granule = self.granule_bytes;
            self.ranges = self.ranges.iter().map(|range| round_out(&range, granule)).collect();
        }
    }
}

fn round_out(range: &Range<u64>, granule: u64) -> Range<u64> {
    range.start - range.start % granule..range.end.next_multiple_of(granule)
}

/// `ranges`, which lie within both images, in order; cut where either map changes, and where there is data also at
/// multiples of `piece_bytes`.
pub(crate) fn pairs<'a>(
    a: &'a dyn Image,
    b: &'a dyn Image,
    ranges: Vec<Range<u64>>,
    piece_bytes: u64,
) -> impl Iterator<Item = Result<Pair>> + Send + 'a {
    let mut ranges = ranges.into_iter();
    let mut rest = 0..0;
    let (mut a, mut b) = (Side::new(a), Side::new(b));
    std::iter::from_fn(move || {
        if rest.is_empty() {
            rest = ranges.next()?;
        }
        let mut next = || -> Result<Pair> {
            let (here, there) = (a.at(rest.start)?, b.at(rest.start)?);
            let mut end = rest.end.min(here.end()).min(there.end());
            if here.kind == ExtentKind::Data || there.kind == ExtentKind::Data {
                end = end.min(rest.start - rest.start % piece_bytes + piece_bytes);
            }
            let range = rest.start..end;
            rest.start = end;
            Ok(Pair { range, a: here.kind, b: there.kind })
        };
        Some(next())
    })
}

/// One image's map, walked forwards.
struct Side<'a> {
    image: &'a dyn Image,
    current: Option<Extent>,
}

impl<'a> Side<'a> {
    fn new(image: &'a dyn Image) -> Self {
        Side { image, current: None }
    }

    /// The extent in which `at` lies.
    fn at(&mut self, at: u64) -> Result<Extent> {
        match self.current {
            Some(extent) if extent.range().contains(&at) => Ok(extent),
            _ => {
                let extent = self.image.extent_at(at)?;
                self.current = Some(extent);
                Ok(extent)
            }
        }
    }
}

/// The differing ranges within one pair, each beginning at its first differing byte.
fn compare_pair(what: &Scan<'_>, pair: &Pair, buf: &mut AlignedBuf) -> Result<Vec<Range<u64>>> {
    use ExtentKind::{Data, Unspecified, Zero};
    let len = (pair.range.end - pair.range.start) as usize;
    match (pair.a, pair.b) {
        (Unspecified, _) | (_, Unspecified) | (Zero, Zero) => Ok(Vec::new()),
        (Data, Zero) => differing_from_zero(what.a, pair, buf),
        (Zero, Data) => differing_from_zero(what.b, pair, buf),
        (Data, Data) => {
            buf.grow_to(2 * PIECE_BYTES as usize);
            let (left, right) = buf.split_at_mut(PIECE_BYTES as usize);
            let (left, right) = (&mut left[..len], &mut right[..len]);
            what.a.read_at(left, pair.range.start)?;
            what.b.read_at(right, pair.range.start)?;
            if left == right {
                return Ok(Vec::new());
            }
            Ok(differing_blocks(left, right, pair.range.start))
        }
    }
}

fn differing_from_zero(
    image: &dyn Image,
    pair: &Pair,
    buf: &mut AlignedBuf,
) -> Result<Vec<Range<u64>>> {
    let len = (pair.range.end - pair.range.start) as usize;
    buf.grow_to(2 * PIECE_BYTES as usize);
    let (bytes, zeroes) = buf.split_at_mut(PIECE_BYTES as usize);
    let bytes = &mut bytes[..len];
    image.read_at(bytes, pair.range.start)?;
    if digest::is_zero(bytes) {
        return Ok(Vec::new());
    }
    let zeroes = &mut zeroes[..len];
    zeroes.fill(0);
    Ok(differing_blocks(bytes, zeroes, pair.range.start))
}

fn differing_blocks(left: &[u8], right: &[u8], offset: u64) -> Vec<Range<u64>> {
    let block = GRANULE_BYTES as usize;
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for (number, (a, b)) in left.chunks(block).zip(right.chunks(block)).enumerate() {
        if a == b {
            continue;
        }
        let start = offset + (number * block) as u64;
        let end = start + a.len() as u64;
        match ranges.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => {
                let same = a.iter().zip(b).take_while(|(a, b)| a == b).count() as u64;
                ranges.push(start + same..end);
            }
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use formats::raw::RawImage;
    use image::{Medium, MemoryMedium};

    const SIZE: u64 = 3 << 20;

    fn with(bytes: &[(u64, u8)]) -> RawImage<MemoryMedium> {
        let medium = MemoryMedium::new("m", SIZE);
        for &(at, byte) in bytes {
            medium.write_at(&[byte], at).unwrap();
        }
        RawImage::open(medium).unwrap()
    }

    fn differences(a: &dyn Image, b: &dyn Image, stop_at_first: bool) -> Differences {
        let all = std::iter::once(0..SIZE).collect();
        let threads = Threads::Automatic;
        let phase = Phase::Compare;
        scan(&Scan { a, b, ranges: all, threads, stop_at_first, phase }, &Task::silent()).unwrap()
    }

    #[test]
    fn the_first_difference_is_exact_and_ranges_are_whole_sectors() {
        let (a, b) = (with(&[(5, 1), (70_000, 2)]), with(&[(5, 1), (2_000_001, 3)]));
        let found = differences(&a, &b, false);
        assert_eq!(found.first, Some(70_000));
        let ranges: Vec<_> = found.ranges.iter().collect();
        assert_eq!(ranges, [69_632..70_144, 1_999_872..2_000_384]);
    }

    #[test]
    fn stopping_at_the_first_difference_finds_the_first_of_all() {
        let many: Vec<(u64, u8)> = (0..40).map(|number| (SIZE - 1 - number * 70_000, 1)).collect();
        for _ in 0..20 {
            assert_eq!(
                differences(&with(&many), &with(&[]), true).first,
                Some(SIZE - 1 - 39 * 70_000)
            );
        }
    }

    #[test]
    fn a_hole_equals_written_zeroes_and_two_holes_are_not_read() {
        let found = differences(&with(&[(9000, 0)]), &with(&[]), false);
        assert_eq!(found.first, None);
        assert_eq!(found.compared_bytes, 4096);
        assert_eq!(found.zero_bytes, SIZE - 4096);
    }

    #[test]
    fn very_many_ranges_are_told_more_coarsely_but_completely() {
        let mut found = differences(&with(&[]), &with(&[]), false);
        for number in 0..(RANGES_MAX as u64 + 10) {
            found.add(number * 2048..number * 2048 + 1);
        }
        assert!(found.ranges.count() <= RANGES_MAX);
        assert!(found.granule_bytes > GRANULE_BYTES);
        assert!((0..RANGES_MAX as u64).all(|n| found.ranges.contains(&(n * 2048..n * 2048 + 1))));
    }
}
