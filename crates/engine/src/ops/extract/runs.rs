//! Cuts bytes into runs that are zero and runs that are not, in blocks of the target that they go to.

use std::ops::Range;

/// How runs are cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// A power of two: zero runs are whole blocks of this, counted from the beginning of the target. In bytes.
    pub(super) granule_bytes: usize,
    /// Shorter zero runs between data are data. In bytes.
    pub(super) zero_run_min_bytes: usize,
    /// A zero run at either end counts however short it is, also a part of a block: nothing has to be done for it.
    pub(super) free_ends: bool,
}

/// The runs of `bytes`, which go to `offset`, in order: where, and whether it is zero.
pub(super) fn runs(
    bytes: &[u8],
    offset: u64,
    cut: Cut,
) -> impl Iterator<Item = (Range<usize>, bool)> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= bytes.len() {
            return None;
        }
        let start = at;
        let zeroes = zero_blocks(bytes, offset, at, cut.granule_bytes);
        if zeroes > 0 && counts(at, zeroes, bytes.len(), cut) {
            at += zeroes;
            return Some((start..at, true));
        }
        at += zeroes;
        while at < bytes.len() {
            let zeroes = zero_blocks(bytes, offset, at, cut.granule_bytes);
            if zeroes > 0 && counts(at, zeroes, bytes.len(), cut) {
                break;
            }
            at += zeroes.max(to_next_block(bytes, offset, at, cut.granule_bytes));
        }
        Some((start..at, false))
    })
}

fn counts(at: usize, zeroes: usize, len: usize, cut: Cut) -> bool {
    zeroes >= cut.zero_run_min_bytes || cut.free_ends && (at == 0 || at + zeroes == len)
}

/// How many bytes from `at` on are zero, in whole blocks; the first and the last may be parts of blocks.
fn zero_blocks(bytes: &[u8], offset: u64, at: usize, granule: usize) -> usize {
    match digest::first_nonzero(&bytes[at..]) {
        None => bytes.len() - at,
        Some(zeroes) => {
            let into_block = ((offset + (at + zeroes) as u64) % granule as u64) as usize;
            zeroes.saturating_sub(into_block)
        }
    }
}

fn to_next_block(bytes: &[u8], offset: u64, at: usize, granule: usize) -> usize {
    let into_block = ((offset + at as u64) % granule as u64) as usize;
    (granule - into_block).min(bytes.len() - at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_cover_all_bytes_and_tell_the_truth(
            blocks in prop::collection::vec((0usize..3, 0usize..16), 0..60),
            offset in 0u64..100, min in 0usize..4, free_ends: bool, head in 0usize..16, tail in 0usize..16,
        ) {
            const GRANULE: usize = 16;
            let mut bytes = vec![0; head];
            for (kind, place) in blocks {
                let mut block = vec![0u8; GRANULE];
                if kind == 0 {
                    block[place] = 1;
                }
                bytes.extend(block);
            }
            bytes.extend(vec![0; tail]);
            let cut = Cut { granule_bytes: GRANULE, zero_run_min_bytes: min * GRANULE, free_ends };
            let (mut at, mut last) = (0, None);
            for (range, is_zero) in runs(&bytes, offset, cut) {
                prop_assert_eq!(range.start, at);
                prop_assert!(range.end > at);
                prop_assert!(last != Some(is_zero), "neighbours of one kind are merged");
                if range.start > 0 {
                    prop_assert_eq!((offset + range.start as u64) % GRANULE as u64, 0);
                }
                let part = &bytes[range.clone()];
                if is_zero {
                    prop_assert!(part.iter().all(|&byte| byte == 0));
                    let at_end = range.start == 0 || range.end == bytes.len();
                    prop_assert!(part.len() >= min * GRANULE || free_ends && at_end);
                } else if min <= 1 {
                    // No whole block of zeroes is left in data, except parts at the ends.
                    let mut block = range.start.max(to_next_block(&bytes, offset, 0, GRANULE));
                    while block + GRANULE <= range.end {
                        prop_assert!(bytes[block..block + GRANULE].iter().any(|&byte| byte != 0));
                        block += GRANULE;
                    }
                }
                at = range.end;
                last = Some(is_zero);
            }
            prop_assert_eq!(at, bytes.len());
        }
    }
}
