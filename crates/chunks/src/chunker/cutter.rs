//! Decides which candidates become cuts.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use super::Cutting;

/// Goes through the candidates of a blob, in order, and says where its chunks end.
///
/// A position is the number of bytes before it. Candidates come in ascending order and as ranges, since in a run
/// of one byte value every position may be one.
pub struct Cutter {
    first_test: u64,
    max: u64,
    start: u64,
    scanned: u64,
    candidates: VecDeque<RangeInclusive<u64>>,
}

impl Cutter {
    /// At the beginning of a blob.
    pub fn new(cutting: &Cutting) -> Self {
        Cutter {
            first_test: cutting.first_test().min(cutting.sizes().max()),
            max: cutting.sizes().max(),
            start: 0,
            scanned: 0,
            candidates: VecDeque::new(),
        }
    }

    /// All of these positions are candidates; they lie behind those before.
    pub fn candidate(&mut self, positions: RangeInclusive<u64>) {
        // What lies before the first test of this chunk cannot be needed any more.
        if *positions.end() >= self.start + self.first_test {
            self.candidates.push_back(positions);
        }
    }

    /// All candidates up to `position` are known.
    pub fn scanned_to(&mut self, position: u64) {
        self.scanned = position;
    }

    /// Where the chunk under way began.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The largest chunk, in bytes.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The end of the next chunk, if what is known decides it.
    pub fn next_cut(&mut self) -> Option<u64> {
        let first = self.start + self.first_test;
        let last = self.start + self.max;
        while self.candidates.front().is_some_and(|range| *range.end() < first) {
            self.candidates.pop_front();
        }
        let by_content = self.candidates.front().map(|range| first.max(*range.start()));
        let cut = match by_content {
            Some(cut) if cut <= last => cut,
            _ if self.scanned >= last => last,
            _ => return None,
        };
        self.start = cut;
        Some(cut)
    }

    /// The blob ends where it was scanned to: the end of the last chunk, unless the last cut was there.
    pub fn finish(self) -> Option<u64> {
        (self.scanned > self.start).then_some(self.scanned)
    }
}
