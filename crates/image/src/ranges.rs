//! An ordered set of byte ranges, merged where they touch: differing, unreadable or finished parts of an image.

use std::collections::BTreeMap;
use std::ops::Range;

/// Byte ranges in ascending order that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet {
    /// Start to end.
    map: BTreeMap<u64, u64>,
}

impl RangeSet {
    /// An empty set.
    pub fn new() -> Self {
        RangeSet::default()
    }

    /// Adds `range`, merging it with what it overlaps or touches. An empty range changes nothing.
    pub fn insert(&mut self, range: Range<u64>) {
        if range.start >= range.end {
            return;
        }
        let (mut start, mut end) = (range.start, range.end);
        if let Some((&before, &before_end)) = self.map.range(..=start).next_back()
            && before_end >= start
        {
            start = before;
            end = end.max(before_end);
        }
        while let Some((&next, &next_end)) = self.map.range(start..=end).next() {
            end = end.max(next_end);
            self.map.remove(&next);
        }
        self.map.insert(start, end);
    }

    /// Whether all of `range` is in the set.
    pub fn contains(&self, range: &Range<u64>) -> bool {
        range.start >= range.end
            || self.map.range(..=range.start).next_back().is_some_and(|(_, &end)| end >= range.end)
    }

    /// The parts of `range` that are not in the set, in order.
    pub fn gaps(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = range.start;
        let first = self.map.range(..=at).next_back().map_or(at, |(&start, _)| start);
        for (&start, &end) in self.map.range(first..range.end.max(first)) {
            if start > at {
                gaps.push(at..start);
            }
            at = at.max(end);
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        gaps
    }

    /// The ranges, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.map.iter().map(|(&start, &end)| start..end)
    }

    /// How many ranges there are.
    pub fn count(&self) -> usize {
        self.map.len()
    }

    /// How many bytes they hold.
    pub fn total_bytes(&self) -> u64 {
        self.iter().map(|range| range.end - range.start).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }
}

impl FromIterator<Range<u64>> for RangeSet {
    fn from_iter<T: IntoIterator<Item = Range<u64>>>(ranges: T) -> Self {
        let mut set = RangeSet::new();
        for range in ranges {
            set.insert(range);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_range_set_agrees_with_a_set_of_bytes(
            ranges in prop::collection::vec((0u64..200, 0u64..20), 0..40),
            ask in (0u64..200, 0u64..40),
        ) {
            let set: RangeSet = ranges.iter().map(|&(at, len)| at..at + len).collect();
            let inside = |byte: u64| ranges.iter().any(|&(at, len)| byte >= at && byte < at + len);
            let bytes: Vec<u64> = (0..260).filter(|&byte| inside(byte)).collect();
            prop_assert_eq!(set.iter().flatten().collect::<Vec<_>>(), bytes);
            let mut last_end = None;
            for range in set.iter() {
                prop_assert!(range.start < range.end && last_end.is_none_or(|end| end < range.start));
                last_end = Some(range.end);
            }
            let asked = ask.0..ask.0 + ask.1;
            prop_assert_eq!(set.contains(&asked), asked.clone().all(inside));
            let outside: Vec<u64> = asked.clone().filter(|&byte| !inside(byte)).collect();
            prop_assert_eq!(set.gaps(asked).into_iter().flatten().collect::<Vec<_>>(), outside);
        }
    }
}
