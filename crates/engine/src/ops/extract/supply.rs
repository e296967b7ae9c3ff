//! Cuts the chunks of an index into pieces of work, each from the cheapest source: zeroes, seeds, itself, stores.

use std::collections::VecDeque;
use std::ops::Range;

use chunks::index::{Chunks, Index, Span};
use image::{Error, ErrorKind, Result};

use super::seeds::Seed;
use super::tables::{Repeats, Zeroes, mark};

/// Chunks that stand one behind the other, all from one source.
#[derive(Debug)]
pub(super) enum Piece {
    /// All of the range is zero.
    Zero { range: Range<u64>, chunks: u64 },
    /// Bytes.
    Data { spans: Vec<Span>, from: From },
}

/// Where the bytes of a piece are thought to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// In the seed of this number, one behind the other, from `offset` on.
    Seed { seed: usize, offset: u64 },
    /// In the blob itself, from `offset` on, further to the front.
    Earlier { offset: u64 },
    /// In a store.
    Store,
}

/// What one pass over the index gives out. Together they give out each chunk once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// Everything but what is a copy of something further to the front.
    Firsts,
    /// The rest, whose sources are all written by then.
    Copies,
}

/// What the supply is made from.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) index: &'a Index,
    pub(super) seeds: &'a [Seed],
    pub(super) repeats: &'a Repeats,
    pub(super) zeroes: &'a Zeroes,
    /// How much is fetched in one piece, unless a chunk is larger.
    pub(super) batch_bytes: u64,
    /// How much is zeroed in one piece.
    pub(super) zero_bytes: u64,
}

/// How many chunks are looked at ahead, which bounds the runs of seeds.
const LOOKAHEAD: usize = 1024;
/// How much is taken from a seed in one piece.
const SEED_RUN_BYTES: u64 = 64 << 20;

/// The pieces of one pass.
pub(super) struct Supply<'a> {
    given: Given<'a>,
    pass: Pass,
    ranges: std::vec::IntoIter<Range<u64>>,
    chunks: Chunks<'a>,
    window: VecDeque<Span>,
    failed: Option<Error>,
    /// Where each seed was left.
    hints: Vec<u64>,
}

impl<'a> Supply<'a> {
    /// The pieces of `pass` over the chunks with these numbers, in order.
    pub(super) fn new(given: Given<'a>, numbers: Vec<Range<u64>>, pass: Pass) -> Self {
        Supply {
            given,
            pass,
            ranges: numbers.into_iter(),
            chunks: given.index.chunks(0..0),
            window: VecDeque::new(),
            failed: None,
            hints: vec![0; given.seeds.len()],
        }
    }

    fn fill(&mut self) {
        if self.window.len() > LOOKAHEAD / 2 || self.failed.is_some() {
            return;
        }
        while self.window.len() < LOOKAHEAD {
            match self.chunks.next() {
                Some(Ok(span)) => self.window.push_back(span),
                Some(Err(error)) => {
                    self.failed = Some(error);
                    return;
                }
                None => match self.ranges.next() {
                    Some(range) => self.chunks = self.given.index.chunks(range),
                    None => return,
                },
            }
        }
    }

    /// How many chunks from the front stand one behind the other, fit `is_so`, and have together at most
    /// `limit_bytes`; at least one.
    fn run(&self, limit_bytes: u64, mut is_so: impl FnMut(usize, &Span) -> bool) -> usize {
        let mut end = self.window[0].offset;
        let limit = end.saturating_add(limit_bytes);
        let mut count = 0;
        for span in &self.window {
            if count > 0 && (span.offset != end || span.end() > limit || !is_so(count, span)) {
                break;
            }
            end = span.end();
            count += 1;
        }
        count
    }

    fn in_seeds(&self, span: &Span) -> bool {
        let mark = mark(&span.id);
        self.given.seeds.iter().any(|seed| seed.is_good() && seed.places.has(mark))
    }

    /// The seed with the longest run of what is wanted next: its number, the place, and how many chunks.
    fn best_seed(&self) -> Option<(usize, u64, usize)> {
        let mut best: Option<(usize, u64, usize)> = None;
        for (number, seed) in self.given.seeds.iter().enumerate().filter(|(_, seed)| seed.is_good())
        {
            if let Some((place, run)) = seed.places.longest(&self.window, self.hints[number])
                && best.is_none_or(|(_, _, longest)| run > longest)
            {
                best = Some((number, place, run));
            }
        }
        best
    }

    /// What stands at the front of the window: how many chunks of one kind, and where they come from; `None` for zeroes.
    fn cut(&mut self) -> Result<(usize, Option<From>)> {
        let given = self.given;
        let front = self.window[0];
        if given.zeroes.has(&front) {
            let count = self.run(given.zero_bytes, |_, span| given.zeroes.has(span));
            return Ok((count, None));
        }
        if let Some((seed, place, run)) = self.best_seed() {
            let count = self.run(SEED_RUN_BYTES, |count, _| count < run);
            self.hints[seed] = place + count as u64;
            let offset = offset_of(&given.seeds[seed].index, place)?;
            return Ok((count, Some(From::Seed { seed, offset })));
        }
        let first = given.repeats.first(&front);
        if first < front.number {
            let count = self.run(SEED_RUN_BYTES, |count, span| {
                given.repeats.first(span) == first + count as u64
                    && first + (count as u64) < front.number
                    && !given.zeroes.has(span)
                    && !self.in_seeds(span)
            });
            let offset = offset_of(given.index, first)?;
            return Ok((count, Some(From::Earlier { offset })));
        }
        let count = self.run(given.batch_bytes, |_, span| {
            !given.zeroes.has(span)
                && given.repeats.first(span) == span.number
                && !self.in_seeds(span)
        });
        Ok((count, Some(From::Store)))
    }
}

fn offset_of(index: &Index, number: u64) -> Result<u64> {
    match index.chunks(number..number + 1).next() {
        Some(span) => Ok(span?.offset),
        None => {
            let sentence = format!("{} became shorter while it was read", index.name());
            Err(Error::new(ErrorKind::Changed, sentence).at(index.name(), None))
        }
    }
}

impl Iterator for Supply<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.fill();
            if self.window.is_empty() {
                return self.failed.take().map(Err);
            }
            let (count, from) = match self.cut() {
                Ok(cut) => cut,
                Err(error) => {
                    self.window.clear();
                    self.ranges = Vec::new().into_iter();
                    self.chunks = self.given.index.chunks(0..0);
                    return Some(Err(error));
                }
            };
            let spans: Vec<Span> = self.window.drain(..count).collect();
            let is_copy = matches!(from, Some(From::Earlier { .. }));
            if is_copy != (self.pass == Pass::Copies) {
                continue;
            }
            match from {
                Some(from) => return Some(Ok(Piece::Data { spans, from })),
                None => {
                    let range = spans[0].offset..spans[count - 1].end();
                    return Some(Ok(Piece::Zero { range, chunks: count as u64 }));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chunks::index::{Flags, Header, IndexWriter};
    use chunks::{Algorithm, ChunkId, ChunkSizes};
    use image::Task;
    use proptest::prelude::*;

    const MAX: u64 = 40;

    fn index_of(names: &[u8]) -> Index {
        let header = Header::new(Algorithm::Sha256, ChunkSizes::new(1, 20, MAX).unwrap());
        let mut writer = IndexWriter::new(Vec::new(), &header).unwrap();
        let zero = ChunkId::of_zeroes(Algorithm::Sha256, MAX);
        for &name in names {
            // What has one name has one length.
            match name {
                0 => writer.push(&zero, MAX).unwrap(),
                _ => writer.push(&ChunkId([name; 32]), u64::from(name) + 3).unwrap(),
            }
        }
        let bytes = writer.finish().unwrap();
        Index::read(&bytes[..], "test", 1 << 20, Flags::Known).unwrap()
    }

    proptest! {
        #[test]
        fn two_passes_give_out_each_chunk_once_and_copies_have_sources_in_front(
            names in prop::collection::vec(0u8..9, 0..80), batch_bytes in 1u64..100, zero_bytes in 1u64..200,
        ) {
            let index = index_of(&names);
            let zeroes = Zeroes::of(&index).unwrap();
            let repeats = Repeats::of(&index, &zeroes, &Task::silent()).unwrap();
            let spans: Vec<Span> = index.chunks(0..index.count()).map(Result::unwrap).collect();
            let given = Given {
                index: &index, seeds: &[], repeats: &repeats, zeroes: &zeroes, batch_bytes, zero_bytes,
            };
            let mut given_out = vec![0; names.len()];
            let mut written: Vec<Range<u64>> = Vec::new();
            let all: Vec<_> = std::iter::once(0..index.count()).collect();
            for pass in [Pass::Firsts, Pass::Copies] {
                for piece in Supply::new(given, all.clone(), pass) {
                    match piece.unwrap() {
                        Piece::Zero { range, chunks } => {
                            let inside = spans.iter().filter(|span| range.contains(&span.offset));
                            let numbers: Vec<u64> = inside.map(|span| span.number).collect();
                            prop_assert_eq!(numbers.len() as u64, chunks);
                            for number in numbers {
                                prop_assert_eq!(names[number as usize], 0);
                                given_out[number as usize] += 1;
                            }
                        }
                        Piece::Data { spans: piece, from } => {
                            let len = piece[piece.len() - 1].end() - piece[0].offset;
                            if from == From::Store {
                                prop_assert!(len <= batch_bytes || piece.len() == 1);
                            }
                            for (one, next) in piece.iter().zip(&piece[1..]) {
                                prop_assert_eq!(one.end(), next.offset);
                            }
                            if let From::Earlier { offset } = from {
                                prop_assert_eq!(pass, Pass::Copies);
                                let mut at = offset;
                                for span in &piece {
                                    let source = spans.iter().find(|source| source.offset == at).unwrap();
                                    prop_assert_eq!(source.id, span.id);
                                    prop_assert!(source.number < piece[0].number);
                                    prop_assert!(written.contains(&source.range()), "it is not there yet");
                                    at = source.end();
                                }
                            }
                            for span in &piece {
                                given_out[span.number as usize] += 1;
                                if pass == Pass::Firsts {
                                    written.push(span.range());
                                }
                            }
                        }
                    }
                }
            }
            prop_assert!(given_out.iter().all(|count| *count == 1), "{:?}", given_out);
            let mut different = names.clone();
            different.sort_unstable();
            different.dedup();
            prop_assert_eq!(repeats.distinct, different.len() as u64);
        }
    }
}
