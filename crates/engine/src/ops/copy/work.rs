//! The steps of a copy: share or transfer, note what is durable, verify, and clear up after a failure.

use std::fs;
use std::ops::Range;
use std::path::PathBuf;

use image::layers::{Throttle, Throttled};
use image::ranges::RangeSet;
use image::{Error, ErrorKind, Image, Phase, Result, Task};

use super::checkpoint::{Checkpoints, Who};
use super::rescue::Salvage;
use super::sidecar::{JournalPlace, sidecar};
use super::target;
use super::transfer::{Ledger, Shape, Transfer};
use super::{CopyRequest, TargetKind, sharing};
use crate::Reflink;
use crate::ops::compare;
use crate::registry::{self, Container, Facts};
use crate::target::Opened;

/// What the steps of a copy have in common.
pub(super) struct Work<'a> {
    /// Bytes of data that are to be read.
    pub(super) total_bytes: u64,
    /// Bytes in runs that need no reading.
    pub(super) idle_bytes: u64,
    pub(super) source: &'a Facts,
    pub(super) image: &'a dyn Image,
    pub(super) container: Option<&'a Container>,
    pub(super) request: &'a CopyRequest,
    pub(super) journal: &'a JournalPlace,
    pub(super) checkpoints: Checkpoints<'a>,
}

impl Work<'_> {
    pub(super) fn copy(&self, target: &Opened, ledger: &Ledger, task: &Task) -> Result<()> {
        let (salvage, throttled);
        let mut image: &dyn Image = self.image;
        if let Some(container) = self.container {
            salvage = Salvage { image, container };
            image = &salvage;
        }
        if let Some(rate) = self.request.limit_bytes_per_s {
            throttled = Throttled::new(image, Throttle::new(rate));
            image = &throttled;
        }
        let todo = ledger.snapshot().0.gaps(0..self.source.size_bytes);
        let mut shape = target::shape(target, self.source, self.request.sparse);
        if self.share(target, &todo, task)? {
            // Holes are shared too, but zeroes within data are not known yet.
            shape = Shape { blank: false, shared: true, ..shape };
        }
        let idle_bytes = if shape.counts_idle() { self.idle_bytes } else { 0 };
        task.begin(Phase::Copy, self.total_bytes + idle_bytes);
        let transfer = Transfer {
            source: image,
            target: target.image(),
            ranges: todo,
            shape,
            on_read_error: self.request.on_read_error,
            threads: self.request.threads,
        };
        let checkpoint = |ledger: &Ledger| match self.request.keep {
            true => self.checkpoint(target, ledger),
            false => Ok(()),
        };
        transfer.run(task, ledger, self.request.checkpoint_every, checkpoint)?;
        self.request.steps.reach("copied");
        self.source.refuse_changed("copied")?;
        task.begin(Phase::Flush, 0);
        self.checkpoints.flush(target.image())
    }

    /// Shares the blocks of the source instead of writing its data, if that is asked for and possible.
    fn share(&self, target: &Opened, todo: &[Range<u64>], task: &Task) -> Result<bool> {
        let rule = self.request.reflink;
        let target = match target.file() {
            _ if rule == Reflink::Never || !self.request.sparse => return Ok(false),
            // Shared is a file as a whole, with what stands in its free blocks.
            _ if rule == Reflink::Auto && self.request.used_only => return Ok(false),
            Some(target) if self.source.is_plain_file() => target,
            _ if rule == Reflink::Always => return Err(sharing::impossible()),
            _ => return Ok(false),
        };
        let path = &self.source.path;
        let source = fs::File::open(path).map_err(|cause| {
            let name = path.display().to_string();
            Error::io(format!("cannot open {name}"), cause).at(name, None)
        })?;
        sharing::share(&source, target, todo, rule, task)
    }

    /// Makes durable what is done, then says so in the journal.
    fn checkpoint(&self, target: &Opened, ledger: &Ledger) -> Result<()> {
        self.checkpoints.note(target.image(), ledger, self.who(target)?)?;
        self.request.steps.reach("checkpoint");
        Ok(())
    }

    /// Lets the journal, if there is one, say that all is done: killed between giving the file its name and
    /// removing the journal, a resumed copy then finds nothing to do instead of a file in its way.
    pub(super) fn seal(&self, target: &Opened, ledger: &Ledger) {
        if self.checkpoints.has_journal() {
            // Without it the copy is no less complete.
            let _ = self.checkpoint(target, ledger);
        }
    }

    /// What the journal is about.
    fn who(&self, target: &Opened) -> Result<Who> {
        Ok(Who {
            source: self.source.identity.clone(),
            target: target.identity()?,
            size_bytes: self.source.size_bytes,
        })
    }

    /// After a failure: keeps what is worth going on with, and says what is left.
    pub(super) fn leave(&self, target: Opened, ledger: &Ledger, error: Error) -> Error {
        let hopeless = [ErrorKind::Changed, ErrorKind::Damaged, ErrorKind::Unsupported];
        let useful = self.request.keep && !hopeless.contains(&error.kind());
        let left = target.left_behind("copied");
        let unit_bytes = target.block_bytes().unwrap_or(1);
        let gives_room = (target.kind() != TargetKind::Device).then_some(unit_bytes);
        let noted = useful
            && self
                .checkpoints
                .note_last(target.image(), ledger, || self.who(&target), gives_room)
                .is_ok();
        // If it could not be noted, an earlier journal still says what is safe.
        if noted || useful && self.checkpoints.has_journal() {
            return error.and(format!("{left}; the same command with --resume goes on"));
        }
        let journal_gone = self.journal.remove();
        match target.abandon() {
            Some(removed) if removed.is_ok() && journal_gone.is_ok() => {
                error.and("nothing was left behind")
            }
            _ => error.and(left),
        }
    }

    /// Reads the target back from its medium and compares it with the source.
    pub(super) fn verify(&self, target: &Opened, unreadable: &RangeSet, task: &Task) -> Result<()> {
        let readback = registry::open_readback(&target.location(), task)?;
        let differences = compare::scan(
            &compare::Scan {
                a: self.image,
                b: &*readback.image,
                ranges: unreadable.gaps(0..self.source.size_bytes),
                threads: self.request.threads,
                stop_at_first: true,
                phase: Phase::Verify,
            },
            task,
        )?;
        let Some(at) = differences.first else { return Ok(()) };
        let name = target.location().path.display().to_string();
        let sentence = format!(
            "{name} does not hold what was copied to it: the first difference is at offset {at} \
             (either the medium is bad, or the source changed meanwhile)"
        );
        Err(Error::new(ErrorKind::Damaged, sentence).at(&name, Some(at..at + 1)))
    }

    pub(super) fn bad_map_path(&self, target: &Opened) -> PathBuf {
        self.request
            .bad_map
            .clone()
            .unwrap_or_else(|| sidecar(target.path(), target.kind(), ".map"))
    }
}
