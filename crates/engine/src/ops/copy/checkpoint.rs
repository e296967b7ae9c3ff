//! What is done is made durable first and noted in the journal then: never the other way round.

use std::cell::Cell;
use std::ops::Range;

use image::{Error, ErrorKind, ExtentKind, ImageExt, ImageMut, Result};

use super::transfer::Ledger;
use crate::journal::Journal;
use crate::registry::Identity;

/// The checkpoints of one copy.
///
/// Invariant: of the ranges that a stored journal calls done, all bytes were durable on the target before.
pub(super) struct Checkpoints<'a> {
    /// Where the journal goes.
    store: Box<Store<'a>>,
    /// Whether there is a journal, of this run or the one before, and all that it says holds.
    has_journal: Cell<bool>,
    /// Whether flushing the target has failed.
    flush_failed: Cell<bool>,
}

type Store<'a> = dyn Fn(&Journal) -> Result<()> + 'a;

/// What a journal says besides what is done.
pub(super) struct Who {
    pub(super) source: Identity,
    pub(super) target: Identity,
    pub(super) size_bytes: u64,
}

/// How much of what was copied is given up, bit by bit, where a full disk has no room for the journal. The last is
/// more than an extent of Btrfs, which gives space back only in whole extents.
const JOURNAL_ROOMS_BYTES: [u64; 3] = [1 << 20, 16 << 20, 256 << 20];

impl<'a> Checkpoints<'a> {
    /// Checkpoints that `store` puts down; `has_journal` if the copy goes on from one.
    pub(super) fn new(
        store: impl Fn(&Journal) -> Result<()> + 'a,
        has_journal: bool,
    ) -> Checkpoints<'a> {
        Checkpoints {
            store: Box::new(store),
            has_journal: Cell::new(has_journal),
            flush_failed: Cell::new(false),
        }
    }

    /// Whether there is a journal to go on from.
    pub(super) fn has_journal(&self) -> bool {
        self.has_journal.get()
    }

    /// Makes durable what is done, then says so in the journal.
    pub(super) fn note(&self, target: &dyn ImageMut, ledger: &Ledger, who: Who) -> Result<()> {
        let (done, unreadable) = ledger.snapshot();
        self.flush(target)?;
        let Who { source, target, size_bytes } = who;
        (self.store)(&Journal { source, target, size_bytes, done, unreadable })?;
        self.has_journal.set(true);
        Ok(())
    }

    /// Makes durable what was written.
    ///
    /// The system tells of a failed flush once, and then calls what is lost clean: the next flush works and proves
    /// nothing. So after a failure all further ones fail too.
    pub(super) fn flush(&self, target: &dyn ImageMut) -> Result<()> {
        if self.flush_failed.get() {
            let sentence = "what was written before could not be made durable";
            return Err(Error::new(ErrorKind::Io, sentence));
        }
        target.flush().inspect_err(|_| self.flush_failed.set(true))
    }

    /// The same as [`note`](Checkpoints::note) on a disk that may be full: if there is no earlier journal to go on
    /// from, and punching holes in the target gives room to a new one, some of what was copied is given up for it, in
    /// multiples of `gives_room`.
    pub(super) fn note_last(
        &self,
        target: &dyn ImageMut,
        ledger: &Ledger,
        who: impl Fn() -> Result<Who>,
        gives_room: Option<u64>,
    ) -> Result<()> {
        let mut outcome = self.note(target, ledger, who()?);
        for room_bytes in JOURNAL_ROOMS_BYTES {
            let is_full = matches!(&outcome, Err(error) if error.kind() == ErrorKind::Full);
            // What an earlier journal calls done may not be touched.
            let Some(unit_bytes) = gives_room.filter(|_| !self.has_journal.get()) else { break };
            if !is_full || self.flush_failed.get() {
                break;
            }
            ledger.give_up_last(room_bytes, unit_bytes);
            let (kept, _) = ledger.snapshot();
            if kept.is_empty() {
                break;
            }
            clear(target, kept.gaps(0..target.size()))?;
            outcome = self.note(target, ledger, who()?);
        }
        outcome
    }
}

/// Makes holes of `ranges`, where there are none yet.
fn clear(target: &dyn ImageMut, ranges: Vec<Range<u64>>) -> Result<()> {
    for extent in ranges.into_iter().flat_map(|range| target.extents(range)) {
        let extent = extent?;
        if extent.kind != ExtentKind::Zero {
            target.zero(extent.range())?;
        }
    }
    Ok(())
}
