//! Any bytes, cut with any sizes, beside a plain reference.

use chunks::chunker::{Cutter, Cutting, Rule, cuts};
use chunks::{ChunkSizes, MAX_CHUNK_BYTES};
use digest::Kernel;
use digest::rolling::{Candidates, WINDOW_BYTES, window_hash};

/// The first seven bytes are sizes, the rest is cut: as casync's rule says, word for word, with every kernel, in one
/// piece and in many.
pub fn chunker(bytes: &[u8]) {
    let Some((head, blob)) = bytes.split_first_chunk::<7>() else { return };
    let word = |at: usize| u64::from(u16::from_le_bytes([head[at], head[at + 1]]));
    let (min, avg, max) = (word(0), word(2), word(4));
    let rule = if head[6] & 1 == 0 { Rule::Casync } else { Rule::DesyncClassic };
    let Ok(sizes) = ChunkSizes::new(min, avg, max) else {
        assert!(min == 0 || min > avg || avg > max || max > MAX_CHUNK_BYTES);
        return;
    };
    let Ok(cutting) = Cutting::new(sizes, rule) else {
        assert!(max < WINDOW_BYTES as u64);
        return;
    };
    let divisor = match rule {
        Rule::Casync => sizes.divisor(),
        Rule::DesyncClassic => sizes.unbounded_divisor(),
    };
    let expected: Vec<u32> = (WINDOW_BYTES..=blob.len())
        .filter(|&end| {
            let window = blob[end - WINDOW_BYTES..end].try_into().expect("48 bytes");
            window_hash(window) % divisor == divisor - 1
        })
        .map(|end| end as u32)
        .collect();
    for kernel in Kernel::available() {
        let mut found = Vec::new();
        Candidates::with_kernel(divisor, kernel).find(blob, &mut found);
        assert_eq!(found, expected, "{} candidates of {divisor}", kernel.name());
    }
    let ends = literal(sizes, rule, &expected, blob.len() as u64);
    assert_eq!(cuts(&cutting, blob), ends, "{sizes} {rule:?}");
    if cutting.candidates().is_some() {
        let step = u64::from(head[6] / 2) + 1;
        assert_eq!(
            in_pieces(&cutting, &expected, blob.len() as u64, step),
            ends,
            "{sizes} by {step}"
        );
    }
}

/// casync's rule, one position after the other.
fn literal(sizes: ChunkSizes, rule: Rule, candidates: &[u32], len: u64) -> Vec<u64> {
    let first = sizes.min().max(WINDOW_BYTES as u64) + u64::from(rule == Rule::DesyncClassic);
    let (mut start, mut ends) = (0, Vec::new());
    for position in 1..=len {
        let chunk = position - start;
        let is_candidate = chunk >= first && candidates.binary_search(&(position as u32)).is_ok();
        if is_candidate || chunk == sizes.max() || position == len {
            ends.push(position);
            start = position;
        }
    }
    ends
}

/// The same from a cutter that learns of the blob bit by bit.
fn in_pieces(cutting: &Cutting, candidates: &[u32], len: u64, step: u64) -> Vec<u64> {
    let mut cutter = Cutter::new(cutting);
    let mut ends = Vec::new();
    let mut scanned = 0;
    while scanned < len {
        let next = (scanned + step).min(len);
        let new = |position: &&u32| (scanned + 1..=next).contains(&u64::from(**position));
        for position in candidates.iter().filter(new) {
            cutter.candidate(u64::from(*position)..=u64::from(*position));
        }
        cutter.scanned_to(next);
        ends.extend(std::iter::from_fn(|| cutter.next_cut()));
        scanned = next;
    }
    ends.extend(cutter.finish());
    ends
}
