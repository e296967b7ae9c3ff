//! Where chunks end: casync's rule, from the candidates of its rolling hash.
//!
//! The hash of a position depends on the 48 bytes before it only. So candidates are searched wherever and in
//! whichever order it is quick ([`digest::rolling`]); a [`Cutter`] then goes through them once and decides. The
//! result is exact, whatever the pieces are in which the bytes come.

mod cutter;

pub use cutter::Cutter;

use digest::rolling::{Candidates, WINDOW_BYTES};
use image::Result;

use crate::ChunkSizes;

/// Whose rule decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rule {
    /// casync's, and that of desync after v1.0.4: a chunk may end at exactly the smallest size, and the divisor
    /// lies within smallest and largest.
    #[default]
    Casync,
    /// That of desync up to v1.0.4: the first test comes one byte later, and the divisor has no bounds.
    DesyncClassic,
}

/// How a blob is cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cutting {
    sizes: ChunkSizes,
    rule: Rule,
}

impl Cutting {
    /// Chunks of these sizes. With three equal sizes, all chunks have that size.
    ///
    /// # Errors
    ///
    /// `Invalid` if the largest is below the 48 bytes of the rolling hash.
    pub fn new(sizes: ChunkSizes, rule: Rule) -> Result<Self> {
        Ok(Cutting { sizes: sizes.for_cutting()?, rule })
    }

    /// The sizes.
    pub fn sizes(&self) -> ChunkSizes {
        self.sizes
    }

    /// Whose rule decides.
    pub fn rule(&self) -> Rule {
        self.rule
    }

    /// The search for positions where a chunk may end; `None` where the sizes leave no choice.
    pub fn candidates(&self) -> Option<Candidates> {
        if self.first_test() >= self.sizes.max() {
            return None;
        }
        let divisor = match self.rule {
            Rule::Casync => self.sizes.divisor(),
            Rule::DesyncClassic => self.sizes.unbounded_divisor(),
        };
        Some(Candidates::new(divisor))
    }

    /// The shortest chunk that can end by its content, in bytes.
    fn first_test(&self) -> u64 {
        let shortest = self.sizes.min().max(WINDOW_BYTES as u64);
        match self.rule {
            Rule::Casync => shortest,
            Rule::DesyncClassic => shortest + 1,
        }
    }
}

/// The ends of the chunks of `blob`, for small ones and for tests: one thread, all in memory.
pub fn cuts(cutting: &Cutting, blob: &[u8]) -> Vec<u64> {
    let mut found = Vec::new();
    if let Some(candidates) = cutting.candidates() {
        candidates.find(blob, &mut found);
    }
    let mut cutter = Cutter::new(cutting);
    for position in found {
        cutter.candidate(u64::from(position)..=u64::from(position));
    }
    cutter.scanned_to(blob.len() as u64);
    let mut cuts: Vec<u64> = std::iter::from_fn(|| cutter.next_cut()).collect();
    cuts.extend(cutter.finish());
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;
    use digest::rolling::window_hash;

    /// The rule of casync's specification, word for word.
    fn literal(cutting: &Cutting, blob: &[u8]) -> Vec<u64> {
        let (max, divisor) = (cutting.sizes.max() as usize, cutting.sizes.divisor());
        let first = cutting.first_test() as usize;
        let (mut start, mut cuts) = (0, Vec::new());
        while start < blob.len() {
            let remaining = blob.len() - start;
            let mut len = first.min(remaining);
            let is_end = |len: usize| {
                let hash = window_hash(blob[start + len - 48..start + len].try_into().unwrap());
                len >= max || hash % divisor == divisor - 1 || len == remaining
            };
            while remaining >= first && !is_end(len) {
                len += 1;
            }
            start += len;
            cuts.push(start as u64);
        }
        cuts
    }

    #[test]
    fn the_cutter_agrees_with_the_literal_rule() {
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..300 {
            let min = random.u64(1..300);
            let avg = min + random.u64(0..400);
            let max = (avg + random.u64(0..1000)).max(48);
            let sizes = ChunkSizes::new(min, avg, max).unwrap();
            let cutting = Cutting::new(sizes, Rule::Casync).unwrap();
            let len = random.usize(0..20_000);
            let kinds = random.u8(1..=255);
            let blob: Vec<u8> = (0..len).map(|_| random.u8(0..kinds)).collect();
            assert_eq!(cuts(&cutting, &blob), literal(&cutting, &blob), "round {round}: {sizes}");
        }
    }

    #[test]
    fn equal_sizes_cut_blocks() {
        let sizes = ChunkSizes::new(4096, 4096, 4096).unwrap();
        let cutting = Cutting::new(sizes, Rule::Casync).unwrap();
        assert!(cutting.candidates().is_none());
        assert_eq!(cuts(&cutting, &[7; 10_000]), [4096, 8192, 10_000]);
        assert_eq!(cuts(&cutting, &[]), [0; 0]);
    }
}
