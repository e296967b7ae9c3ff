//! The loop of a local sync: two maps side by side, and what differs is written at once.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use image::{AlignedBuf, ExtentKind, Image, ImageMut, Result, Task};

use crate::Threads;
use crate::ops::compare::{Pair, pairs};
use crate::pipeline::for_each_piece;

/// How much is read at once from each side, where both are in the page cache: half of it stays in a core's own cache.
pub(super) const PIECE_BYTES: u64 = 256 << 10;

/// What is written where it differs, in bytes: pages, which neither a file nor a device has to read before.
const GRANULE_BYTES: u64 = 4 << 10;

/// Shorter zero runs on a device are cheaper written with the data around them than zeroed by a call of their own.
const DEVICE_ZERO_RUN_MIN_BYTES: u64 = 64 << 10;

/// Two images, one of which is to be made like the other.
pub(super) struct Changes<'a> {
    /// What is read.
    pub(super) source: &'a dyn Image,
    /// What is compared with it.
    pub(super) there: &'a dyn Image,
    /// The same, to be written; in a dry run it is not.
    pub(super) target: Option<&'a dyn ImageMut>,
    pub(super) cut: Cut,
    pub(super) threads: Threads,
}

/// How the bytes are cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// How much is read at once.
    piece_bytes: u64,
    /// What is written, or made zero, as a whole.
    granule_bytes: u64,
    /// Shorter zero runs are written as data.
    zero_run_min_bytes: u64,
}

/// What differed.
#[derive(Debug, Default)]
pub(super) struct Counts {
    data_bytes: AtomicU64,
    zeroed_bytes: AtomicU64,
}

/// What is to be done with a run of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Keep,
    Write,
    Zero,
}

impl Cut {
    /// For a file whose bytes are those of the image.
    pub(super) fn of_file(piece_bytes: u64) -> Self {
        let granule_bytes = GRANULE_BYTES;
        Cut { piece_bytes, granule_bytes, zero_run_min_bytes: granule_bytes }
    }

    /// For a device.
    pub(super) fn of_device(piece_bytes: u64) -> Self {
        Cut { zero_run_min_bytes: DEVICE_ZERO_RUN_MIN_BYTES, ..Cut::of_file(piece_bytes) }
    }

    /// For a container of such blocks: each is packed once.
    pub(super) fn of_blocks(piece_bytes: u64, block_bytes: u64) -> Self {
        let piece_bytes = piece_bytes.max(PIECE_BYTES);
        let piece_bytes = (piece_bytes / block_bytes).max(1) * block_bytes;
        Cut { piece_bytes, granule_bytes: block_bytes, zero_run_min_bytes: block_bytes }
    }
}

impl Counts {
    /// Bytes of data that differed.
    pub(super) fn data_bytes(&self) -> u64 {
        self.data_bytes.load(Ordering::Relaxed)
    }

    /// Bytes that differed and became zero.
    pub(super) fn zeroed_bytes(&self) -> u64 {
        self.zeroed_bytes.load(Ordering::Relaxed)
    }
}

impl Changes<'_> {
    /// Compares `ranges`, which lie within both, and writes what differs.
    pub(super) fn make(&self, ranges: &[Range<u64>], task: &Task) -> Result<Counts> {
        let counts = Counts::default();
        let work = |pair: Pair, buf: &mut AlignedBuf| {
            self.make_piece(&pair, buf, &counts)?;
            task.advance(pair.range.end - pair.range.start);
            Ok(())
        };
        let supply = pairs(self.source, self.there, ranges.to_vec(), self.cut.piece_bytes);
        for_each_piece(self.threads, task, supply, work, Duration::from_secs(3600), || Ok(()))?;
        Ok(counts)
    }

    fn make_piece(&self, pair: &Pair, buf: &mut AlignedBuf, counts: &Counts) -> Result<()> {
        use ExtentKind::{Data, Unspecified, Zero};
        if matches!((pair.a, pair.b), (Unspecified, _) | (Zero, Zero)) {
            return Ok(());
        }
        // Where one side has data, no pair is longer than a piece.
        let start = pair.range.start;
        let len = (pair.range.end - start) as usize;
        let room = len.next_multiple_of(AlignedBuf::ALIGNMENT);
        buf.grow_to(2 * room);
        let (new, old) = buf.split_at_mut(room);
        let (new, old) = (&mut new[..len], &mut old[..len]);
        let is_alike = match (pair.a, pair.b) {
            (Data, Zero) => {
                self.source.read_at(new, start)?;
                digest::is_zero(new) || {
                    old.fill(0);
                    false
                }
            }
            (Zero, _) => {
                self.there.read_at(old, start)?;
                digest::is_zero(old) || {
                    new.fill(0);
                    false
                }
            }
            _ => {
                self.source.read_at(new, start)?;
                self.there.read_at(old, start)?;
                new == old
            }
        };
        if is_alike { Ok(()) } else { self.apply(new, old, start, counts) }
    }

    /// Writes what of `new` is not in `old`, which stands at `start`.
    fn apply(&self, new: &[u8], old: &[u8], start: u64, counts: &Counts) -> Result<()> {
        for (run, action) in runs(new, old, start, self.cut) {
            let len = (run.end - run.start) as u64;
            let at = start + run.start as u64;
            match action {
                Action::Keep => continue,
                Action::Write => counts.data_bytes.fetch_add(len, Ordering::Relaxed),
                Action::Zero => counts.zeroed_bytes.fetch_add(len, Ordering::Relaxed),
            };
            match (self.target, action) {
                (Some(target), Action::Write) => target.write_at(&new[run], at)?,
                (Some(target), Action::Zero) => target.zero(at..at + len)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// What is to be done with `new` so that it stands where `old` does, at `start`: runs that are cut at granules of the
/// image; neighbours differ.
fn runs(new: &[u8], old: &[u8], start: u64, cut: Cut) -> Vec<(Range<usize>, Action)> {
    let granule = cut.granule_bytes;
    let mut runs: Vec<(Range<usize>, Action)> = Vec::new();
    let mut at = 0;
    while at < new.len() {
        let here = start + at as u64;
        let end = new.len().min(at + (granule - here % granule) as usize);
        let action = if new[at..end] == old[at..end] {
            Action::Keep
        } else if digest::is_zero(&new[at..end]) {
            Action::Zero
        } else {
            Action::Write
        };
        push(&mut runs, at..end, action);
        at = end;
    }
    if cut.zero_run_min_bytes <= granule {
        return runs;
    }
    let mut joined = Vec::with_capacity(runs.len());
    for (run, action) in runs {
        let is_short = ((run.end - run.start) as u64) < cut.zero_run_min_bytes;
        let action = if action == Action::Zero && is_short { Action::Write } else { action };
        push(&mut joined, run, action);
    }
    joined
}

fn push(runs: &mut Vec<(Range<usize>, Action)>, run: Range<usize>, action: Action) {
    match runs.last_mut() {
        Some((last, same)) if *same == action && last.end == run.start => last.end = run.end,
        _ => runs.push((run, action)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_make_the_old_bytes_the_new_ones_and_keep_what_is_alike(
            blocks in prop::collection::vec((0u8..3, 0u8..3), 1..40),
            tail in 0usize..16, start in 0u64..48, min in 1u64..4,
        ) {
            let cut = Cut { piece_bytes: 0, granule_bytes: 16, zero_run_min_bytes: min * 16 };
            let fill = |pick: fn(&(u8, u8)) -> u8| -> Vec<u8> {
                let mut bytes: Vec<u8> = blocks.iter().flat_map(|block| [pick(block); 16]).collect();
                bytes.truncate(bytes.len() - tail.min(bytes.len() - 1));
                bytes
            };
            let (new, mut old) = (fill(|block| block.0), fill(|block| block.1));
            let (mut at, mut last) = (0, None);
            for (run, action) in runs(&new, &old.clone(), start, cut) {
                prop_assert_eq!(run.start, at);
                prop_assert_ne!(last, Some(action), "neighbours of one kind are merged");
                let is_inner = run.start > 0;
                prop_assert!(!is_inner || (start + run.start as u64).is_multiple_of(16));
                match action {
                    Action::Keep => prop_assert_eq!(&new[run.clone()], &old[run.clone()]),
                    Action::Write => old[run.clone()].copy_from_slice(&new[run.clone()]),
                    Action::Zero => {
                        let len = (run.end - run.start) as u64;
                        prop_assert!(min == 1 || len >= cut.zero_run_min_bytes);
                        old[run.clone()].fill(0);
                    }
                }
                (at, last) = (run.end, Some(action));
            }
            prop_assert_eq!(at, new.len());
            prop_assert_eq!(new, old);
        }
    }

    #[test]
    fn a_short_zero_run_on_a_device_is_written_with_its_neighbours() {
        let mut new = vec![1; 256 << 10];
        new[8192..12288].fill(0);
        new[131_072..].fill(0);
        let old = vec![2; new.len()];
        let found = runs(&new, &old, 0, Cut::of_device(1 << 20));
        assert_eq!(found, [(0..131_072, Action::Write), (131_072..262_144, Action::Zero)]);
        let found = runs(&new, &old, 0, Cut::of_file(1 << 20));
        assert_eq!(found.len(), 4);
    }
}
