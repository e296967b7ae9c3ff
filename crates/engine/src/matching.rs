//! Which chunks of an index some bytes hold, by their digests.

use chunks::Algorithm;
use chunks::index::Span;
use digest::{DIGEST_BYTES, Lanes, Message};

/// For each of `spans`, which stand one behind the other, whether it is what `bytes` hold of it; these begin where the
/// first chunk begins.
pub(crate) fn are_right(algorithm: Algorithm, spans: &[Span], bytes: &[u8]) -> Vec<bool> {
    let mut right = vec![false; spans.len()];
    let Some(start) = spans.first().map(|span| span.offset) else { return right };
    let mut lanes = Lanes::new(algorithm);
    let mut done = |part: Part<'_>, digest: [u8; DIGEST_BYTES]| {
        right[part.number] = spans[part.number].id.0 == digest;
    };
    for number in longest_first(spans) {
        let range = spans[number].range();
        let bytes = &bytes[(range.start - start) as usize..(range.end - start) as usize];
        lanes.push(Part { number, bytes }, &mut done);
    }
    lanes.finish(&mut done);
    right
}

/// Their places among `spans`, so that lanes which begin with the longest end at about the same time.
pub(crate) fn longest_first(spans: &[Span]) -> Vec<usize> {
    let mut numbers: Vec<usize> = (0..spans.len()).collect();
    numbers.sort_unstable_by_key(|&number| std::cmp::Reverse(spans[number].len_bytes));
    numbers
}

/// Bytes of a chunk whose digest is being taken.
struct Part<'a> {
    number: usize,
    bytes: &'a [u8],
}

impl Message for Part<'_> {
    fn piece(&self, number: usize) -> Option<&[u8]> {
        (number == 0).then_some(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chunks::ChunkId;

    #[test]
    fn each_chunk_is_judged_by_its_own_bytes() {
        let algorithm = Algorithm::Sha512_256;
        let mut bytes = vec![0; 100_000];
        fastrand::Rng::with_seed(1).fill(&mut bytes);
        let mut spans = Vec::new();
        let mut offset = 0;
        for number in 0..100 {
            let len_bytes = 10 * (number + 1);
            let range = offset as usize..(offset + len_bytes) as usize;
            let id = ChunkId::of(algorithm, &bytes[range]);
            spans.push(Span { number, offset: 777 + offset, len_bytes, id });
            offset += len_bytes;
        }
        assert!(are_right(algorithm, &spans, &bytes).iter().all(|right| *right));
        for wrong in [3, 57, 99] {
            bytes[(spans[wrong].offset - 777) as usize] ^= 1;
        }
        let right = are_right(algorithm, &spans, &bytes);
        let wrong: Vec<usize> = (0..100).filter(|&number| !right[number]).collect();
        assert_eq!(wrong, [3, 57, 99]);
        assert!(are_right(algorithm, &[], &[]).is_empty());
    }
}
