//! Which chunks are the same, in few bytes for each: the tables behind seeds and repeated chunks.
//!
//! The tables know only the first 8 bytes of an ID. What they say is a guess that a digest confirms before a byte is
//! used, so that two chunks with one beginning cost time and nothing else.

use std::collections::VecDeque;

use chunks::ChunkId;
use chunks::index::{Index, Span};
use image::{Result, Task};

/// The beginning of an ID.
pub(super) fn mark(id: &ChunkId) -> u64 {
    u64::from_le_bytes(*id.0.first_chunk().expect("32 bytes"))
}

/// The IDs of the chunks of an index that are known to be zero: those of the largest size, and the last one.
#[derive(Clone, Debug)]
pub(crate) struct Zeroes {
    known: [(u64, ChunkId); 2],
}

impl Zeroes {
    /// Takes the digests of as many zeroes as the chunks could have.
    pub(crate) fn of(index: &Index) -> Result<Self> {
        let max = index.sizes().max();
        let last = match index.chunks(index.count().saturating_sub(1)..index.count()).next() {
            Some(span) => span?.len_bytes,
            None => max,
        };
        let id = |len| (len, ChunkId::of_zeroes(index.algorithm(), len));
        let largest = id(max);
        Ok(Zeroes { known: [largest, if last == max { largest } else { id(last) }] })
    }

    /// Whether all bytes of the chunk are zero.
    pub(crate) fn has(&self, span: &Span) -> bool {
        self.known.contains(&(span.len_bytes, span.id))
    }
}

/// The chunks of an index that stand in it more than once. While it is made it takes 16 bytes for each chunk, then
/// 16 for each that is repeated.
#[derive(Debug)]
pub(crate) struct Repeats {
    /// Mark, and number of the first one; in the order of the marks.
    firsts: Vec<(u64, u64)>,
    /// Different chunks in the index, those that are zero included.
    pub(crate) distinct: u64,
}

impl Repeats {
    /// Goes through the whole index.
    pub(crate) fn of(index: &Index, zeroes: &Zeroes, task: &Task) -> Result<Self> {
        let mut all = Vec::new();
        let mut zero_lens = Vec::new();
        for span in index.chunks(0..index.count()) {
            let span = span?;
            if zeroes.has(&span) {
                if !zero_lens.contains(&span.len_bytes) {
                    zero_lens.push(span.len_bytes);
                }
                continue;
            }
            all.push((mark(&span.id), span.number));
            if span.number % 65_536 == 0 {
                task.checkpoint()?;
            }
        }
        all.sort_unstable();
        let mut distinct = zero_lens.len() as u64;
        let mut firsts = Vec::new();
        for same in all.chunk_by(|a, b| a.0 == b.0) {
            distinct += 1;
            if same.len() > 1 {
                firsts.push(same[0]);
            }
        }
        firsts.shrink_to_fit();
        Ok(Repeats { firsts, distinct })
    }

    /// Nothing is known to be repeated.
    pub(crate) const NONE: &'static Repeats = &Repeats { firsts: Vec::new(), distinct: 0 };

    /// Whether no chunk is.
    pub(crate) fn is_empty(&self) -> bool {
        self.firsts.is_empty()
    }

    /// The number of the first chunk that is the same, mostly of `span` itself.
    pub(super) fn first(&self, span: &Span) -> u64 {
        let mark = mark(&span.id);
        match self.firsts.binary_search_by_key(&mark, |&(known, _)| known) {
            Ok(found) => self.firsts[found].1.min(span.number),
            Err(_) => span.number,
        }
    }
}

/// Where chunks stand in a seed: 12 bytes for each chunk of it, 28 while it is made.
#[derive(Debug)]
pub(super) struct Places {
    /// The marks in the order of the seed.
    marks: Vec<u64>,
    /// The numbers of its chunks in the order of the marks.
    order: Vec<u32>,
}

/// How many places of one chunk are tried for the longest run.
const PLACES_MAX: usize = 16;

impl Places {
    /// Goes through the index of a seed. Of what follows the first 4 billion chunks nothing is known.
    pub(super) fn of(index: &Index) -> Result<Self> {
        let mut marks = Vec::with_capacity(index.count().min(1 << 32) as usize);
        for span in index.chunks(0..index.count().min(1 << 32)) {
            marks.push(mark(&span?.id));
        }
        Ok(Places::from_marks(marks))
    }

    fn from_marks(marks: Vec<u64>) -> Self {
        let mut pairs: Vec<(u64, u32)> =
            marks.iter().zip(0..).map(|(&mark, number)| (mark, number)).collect();
        pairs.sort_unstable();
        let order = pairs.into_iter().map(|(_, number)| number).collect();
        Places { marks, order }
    }

    /// Whether the first chunk of `wanted` seems to be there.
    pub(super) fn has(&self, mark: u64) -> bool {
        let at = self.lower_bound(mark);
        at < self.order.len() && self.marks[self.order[at] as usize] == mark
    }

    /// Where the longest run of chunks like `wanted` begins, and how many chunks it has; `hint` is tried first.
    pub(super) fn longest(&self, wanted: &VecDeque<Span>, hint: u64) -> Option<(u64, usize)> {
        let first = mark(&wanted.front()?.id);
        let mut best = None;
        let start = self.lower_bound(first);
        let same = self.order[start..]
            .iter()
            .take_while(|&&number| self.marks[number as usize] == first)
            .take(PLACES_MAX)
            .map(|&number| u64::from(number));
        let hint = Some(hint).filter(|&hint| self.marks.get(hint as usize) == Some(&first));
        for place in hint.into_iter().chain(same) {
            let here = &self.marks[place as usize..];
            let run = here.iter().zip(wanted).take_while(|(a, b)| **a == mark(&b.id)).count();
            if best.is_none_or(|(_, longest)| run > longest) {
                best = Some((place, run));
            }
        }
        best
    }

    fn lower_bound(&self, mark: u64) -> usize {
        self.order.partition_point(|&number| self.marks[number as usize] < mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span(number: u64, name: u8) -> Span {
        Span { number, offset: number * 10, len_bytes: 10, id: ChunkId([name; 32]) }
    }

    proptest! {
        #[test]
        fn the_longest_run_of_a_seed_is_found(
            seed in prop::collection::vec(0u8..4, 0..12), wanted in prop::collection::vec(0u8..4, 1..12),
            hint in 0u64..14,
        ) {
            let places = Places::from_marks(seed.iter().map(|&name| mark(&ChunkId([name; 32]))).collect());
            let spans: VecDeque<Span> = wanted.iter().zip(0..).map(|(&name, n)| span(n, name)).collect();
            let run = |place: usize| seed[place..].iter().zip(&wanted).take_while(|(a, b)| a == b).count();
            let expected = (0..seed.len()).map(run).max().filter(|&run| run > 0);
            let found = places.longest(&spans, hint);
            prop_assert_eq!(found.map(|(_, run)| run), expected);
            if let Some((place, longest)) = found {
                prop_assert_eq!(run(place as usize), longest);
            }
            prop_assert_eq!(places.has(mark(&ChunkId([wanted[0]; 32]))), expected.is_some());
        }
    }
}
