//! What is compared: all regions of an image, or the parts of them that lie in a scope.

use std::ops::Range;

use digest::blake3::Hasher;
use image::Result;
use image::ranges::RangeSet;

use super::frame::breach;
use super::{BLOCK_BYTES, Digest, PAGE_BYTES, Shape};

/// The most ranges that a scope may have.
const RANGES_MAX: usize = 1 << 20;
/// The longest encoded scope that goes into one frame, in bytes.
const SCOPE_FRAME_BYTES: usize = 1 << 20;
/// The longest encoded number, in bytes.
const VARINT_MAX_BYTES: usize = 10;

/// The regions that are compared, numbered from 0 in ascending order, and the parts of each that count.
///
/// Without a scope the number of a region is its place in the [`Shape`]. In a scope only the regions that it touches
/// are numbered. A scope begins and ends at pages, or at the end of the image, so that a page counts as a whole or not at
/// all.
#[derive(Debug)]
pub(super) struct Cut {
    shape: Shape,
    scope: Option<Scope>,
}

#[derive(Debug)]
struct Scope {
    /// Ascending; they neither touch nor overlap.
    ranges: Vec<Range<u64>>,
    /// The regions that they touch.
    regions: Vec<u32>,
    total_bytes: u64,
    digest: Digest,
}

impl Cut {
    /// All of an image.
    pub(super) fn whole(shape: Shape) -> Self {
        Cut { shape, scope: None }
    }

    /// `scope`, widened to pages, and further where it has too many ranges.
    pub(super) fn scoped(shape: Shape, scope: &RangeSet) -> Self {
        let mut granule_bytes = PAGE_BYTES;
        let ranges = loop {
            match widened(scope, granule_bytes, shape.size_bytes) {
                Some(ranges) => break ranges,
                None => granule_bytes *= 2,
            }
        };
        Cut::of_ranges(shape, ranges)
    }

    fn of_ranges(shape: Shape, ranges: Vec<Range<u64>>) -> Self {
        let mut regions: Vec<u32> = Vec::new();
        for range in &ranges {
            // At most 2^19 regions: see `Shape::of`.
            let touched = range.start / shape.region_bytes..=(range.end - 1) / shape.region_bytes;
            for region in touched.map(|region| region as u32) {
                if regions.last() != Some(&region) {
                    regions.push(region);
                }
            }
        }
        let total_bytes = ranges.iter().map(|range| range.end - range.start).sum();
        let mut hasher = Hasher::new();
        encode(&ranges, |bytes| hasher.update(bytes));
        Cut { shape, scope: Some(Scope { ranges, regions, total_bytes, digest: hasher.finish() }) }
    }

    pub(super) fn shape(&self) -> &Shape {
        &self.shape
    }

    pub(super) fn is_scoped(&self) -> bool {
        self.scope.is_some()
    }

    /// How many regions are compared.
    pub(super) fn count(&self) -> u64 {
        match &self.scope {
            Some(scope) => scope.regions.len() as u64,
            None => self.shape.regions(),
        }
    }

    /// How many bytes are compared.
    pub(super) fn total_bytes(&self) -> u64 {
        self.scope.as_ref().map_or(self.shape.size_bytes, |scope| scope.total_bytes)
    }

    /// The place in the shape of the region `number`.
    pub(super) fn region(&self, number: u64) -> u64 {
        self.scope.as_ref().map_or(number, |scope| u64::from(scope.regions[number as usize]))
    }

    /// Where the region `number` lies.
    pub(super) fn range(&self, number: u64) -> Range<u64> {
        self.shape.region(self.region(number))
    }

    /// The number of the region in which `offset` lies, if that is compared.
    pub(super) fn number_at(&self, offset: u64) -> Option<u64> {
        let region = offset / self.shape.region_bytes;
        match &self.scope {
            _ if offset >= self.shape.size_bytes => None,
            Some(scope) => {
                let region = u32::try_from(region).ok()?;
                scope.regions.binary_search(&region).ok().map(|number| number as u64)
            }
            None => Some(region),
        }
    }

    /// The parts of `range` that are compared, in order. `range` may reach past the end of the image.
    pub(super) fn parts(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let range = range.start..range.end.min(self.shape.size_bytes);
        let (ranges, whole) = match &self.scope {
            Some(scope) => {
                let first = scope.ranges.partition_point(|one| one.end <= range.start);
                (&scope.ranges[first..], None)
            }
            None => (&[][..], Some(range.clone()).filter(|range| range.start < range.end)),
        };
        let inside = ranges
            .iter()
            .map(move |one| one.start.max(range.start)..one.end.min(range.end))
            .take_while(|one| one.start < one.end);
        whole.into_iter().chain(inside)
    }

    /// Those of `blocks` that are compared, at least in parts.
    pub(super) fn blocks(&self, blocks: Range<u64>) -> Vec<u64> {
        let is_compared = |block: &u64| self.parts(block_range(*block)).next().is_some();
        blocks.filter(is_compared).collect()
    }

    /// How many bytes of the region `number` are compared.
    pub(super) fn bytes_of(&self, number: u64) -> u64 {
        self.parts(self.range(number)).map(|part| part.end - part.start).sum()
    }

    /// Whether all of `range` is compared; it may be any.
    pub(super) fn contains(&self, range: &Range<u64>) -> bool {
        range.start < range.end
            && range.end <= self.shape.size_bytes
            && self.parts(range.clone()).next().as_ref() == Some(range)
    }

    /// The digest over the digests of all compared regions.
    pub(super) fn root(&self, digests: &[Digest]) -> Digest {
        root(&self.shape, self.scope.as_ref().map(|scope| &scope.digest), digests)
    }

    /// The scope in pieces, as they go over the wire.
    pub(super) fn scope_frames(&self, mut each: impl FnMut(Vec<u8>)) {
        let mut piece = Vec::new();
        if let Some(scope) = &self.scope {
            encode(&scope.ranges, |bytes| {
                if piece.len() + bytes.len() > SCOPE_FRAME_BYTES {
                    each(std::mem::take(&mut piece));
                }
                piece.extend_from_slice(bytes);
            });
        }
        if !piece.is_empty() {
            each(piece);
        }
    }
}

/// Where the block `number` lies; it may reach past the end of the image.
pub(super) fn block_range(number: u64) -> Range<u64> {
    number * BLOCK_BYTES..(number + 1) * BLOCK_BYTES
}

/// The root digest of an image of `shape`, of whose regions these are the digests.
pub fn root_of(shape: &Shape, digests: &[Digest]) -> Digest {
    root(shape, None, digests)
}

fn root(shape: &Shape, scope: Option<&Digest>, digests: &[Digest]) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(b"blockprint sync root 1");
    hasher.update(&shape.size_bytes.to_le_bytes());
    hasher.update(&shape.region_bytes.to_le_bytes());
    hasher.update(scope.unwrap_or(&[0; 32]));
    hasher.update(digests.as_flattened());
    hasher.finish()
}

/// `scope` within `size_bytes`, its borders at multiples of `granule_bytes`; nothing if that is too many ranges.
fn widened(scope: &RangeSet, granule_bytes: u64, size_bytes: u64) -> Option<Vec<Range<u64>>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for range in scope.iter() {
        let start = range.start / granule_bytes * granule_bytes;
        let end = range.end.checked_next_multiple_of(granule_bytes).unwrap_or(u64::MAX);
        let end = end.min(size_bytes);
        let is_full = ranges.len() == RANGES_MAX;
        match ranges.last_mut() {
            _ if start >= end => {}
            Some(last) if last.end >= start => last.end = last.end.max(end),
            _ if is_full => return None,
            _ => ranges.push(start..end),
        }
    }
    Some(ranges)
}

/// Each range as two numbers, gap before it and length, both in pages; each range in one call.
fn encode(ranges: &[Range<u64>], mut put: impl FnMut(&[u8])) {
    let mut at = 0;
    for range in ranges {
        let (first, end) = (range.start / PAGE_BYTES, range.end.div_ceil(PAGE_BYTES));
        let mut bytes = [0; 2 * VARINT_MAX_BYTES];
        let mut len = 0;
        for mut number in [first - at, end - first] {
            loop {
                bytes[len] = (number & 0x7f) as u8 | if number > 0x7f { 0x80 } else { 0 };
                len += 1;
                number >>= 7;
                if number == 0 {
                    break;
                }
            }
        }
        put(&bytes[..len]);
        at = end;
    }
}

/// Reads a scope that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct ScopeReader {
    ranges: Vec<Range<u64>>,
}

impl ScopeReader {
    /// The next piece, for an image of `size_bytes`.
    pub(super) fn add(&mut self, mut bytes: &[u8], size_bytes: u64) -> Result<()> {
        let pages = size_bytes.div_ceil(PAGE_BYTES);
        while !bytes.is_empty() {
            let (gap, len) = (varint(&mut bytes)?, varint(&mut bytes)?);
            if self.ranges.len() == RANGES_MAX {
                return Err(breach(format!("sent a scope of more than {RANGES_MAX} ranges")));
            }
            let at = self.ranges.last().map_or(0, |last| last.end.div_ceil(PAGE_BYTES));
            let first = at.checked_add(gap);
            let end = first.and_then(|first| first.checked_add(len)).filter(|end| *end <= pages);
            match (first, end) {
                (Some(first), Some(end)) if len > 0 && (gap > 0 || self.ranges.is_empty()) => {
                    self.ranges.push(first * PAGE_BYTES..size_bytes.min(end * PAGE_BYTES));
                }
                _ => return Err(breach("sent a scope that is out of order, or past the end")),
            }
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// What is compared.
    pub(super) fn finish(self, shape: Shape) -> Cut {
        Cut::of_ranges(shape, self.ranges)
    }
}

fn varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut number = 0u64;
    for place in 0..VARINT_MAX_BYTES {
        let Some((&byte, rest)) = bytes.split_first() else { break };
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        let shifted = bits << (7 * place);
        if shifted >> (7 * place) != bits {
            break;
        }
        number |= shifted;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(breach("sent a number in a scope that does not end"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random_scope(rng: &mut fastrand::Rng, size_bytes: u64) -> RangeSet {
        let mut scope = RangeSet::new();
        for _ in 0..rng.usize(0..12) {
            let start = rng.u64(0..size_bytes);
            scope.insert(start..start + rng.u64(1..3 << 20));
        }
        scope
    }

    #[test]
    fn a_scope_arrives_as_it_was_sent_and_covers_what_it_should() {
        let mut rng = fastrand::Rng::with_seed(7);
        for _ in 0..300 {
            let shape = Shape::of(rng.u64(1..20 << 20));
            let scope = random_scope(&mut rng, shape.size_bytes);
            let sent = Cut::scoped(shape, &scope);
            let mut reader = ScopeReader::default();
            sent.scope_frames(|piece| reader.add(&piece, shape.size_bytes).unwrap());
            let came = reader.finish(shape);
            assert_eq!(came.root(&[]), sent.root(&[]));
            assert_eq!(came.count(), sent.count());
            let mut all = RangeSet::new();
            for number in 0..came.count() {
                assert_eq!(came.number_at(came.range(number).start), Some(number));
                for part in came.parts(came.range(number)) {
                    assert!(came.contains(&part));
                    assert!(!came.contains(&(part.start..part.end + (64 << 20))));
                    all.insert(part);
                }
            }
            assert_eq!(all.total_bytes(), came.total_bytes());
            for range in scope.iter() {
                assert!(all.contains(&(range.start..range.end.min(shape.size_bytes))));
            }
        }
    }

    #[test]
    fn a_scope_of_too_many_ranges_is_widened() {
        let scope: RangeSet =
            (0..(RANGES_MAX as u64) * 2).map(|n| n * 8192..n * 8192 + 1).collect();
        let cut = Cut::scoped(Shape::of(1 << 35), &scope);
        assert!(cut.scope.as_ref().unwrap().ranges.len() <= RANGES_MAX);
        assert!(scope.iter().step_by(1001).all(|range| cut.contains(&range)));
    }

    #[test]
    fn a_scope_that_makes_no_sense_is_refused() {
        let bad: [&[u8]; 8] = [
            &[0],                                                 // no length
            &[0, 0],                                              // nothing
            &[0, 200, 1],                                         // past the end
            &[1, 1, 0, 1],                                        // touches the one before
            &[0x80],                                              // no end
            &[0xff; 11],                                          // never ends
            &[0, 1, 0xff],                                        // no end in the second
            &[255, 255, 255, 255, 255, 255, 255, 255, 255, 2, 1], // more than 64 bits
        ];
        for bytes in bad {
            assert!(ScopeReader::default().add(bytes, 100 * PAGE_BYTES).is_err(), "{bytes:?}");
        }
    }
}
