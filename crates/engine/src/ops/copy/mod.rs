//! Copy an image or device onto another, sparse, resumable, verified.

mod checkpoint;
mod rescue;
mod sharing;
mod sidecar;
mod target;
#[cfg(test)]
mod tests;
pub(crate) mod transfer;
mod work;

use std::num::NonZero;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chunks::IndexImage;
use image::ranges::RangeSet;
use image::{Error, ErrorKind, ExtentKind, Image, ImageExt, Phase, Result, Task};

use crate::journal::Journal;
use crate::location::{Format, Location};
use crate::registry::{self, Container, Facts, Source};
use crate::stores::Stores;
pub use crate::target::TargetKind;
use crate::target::{Claim, Leftover};
use crate::used::used_only;
use crate::{Reflink, Steps, Threads};
use checkpoint::Checkpoints;
pub(crate) use sidecar::forget_journal;
use sidecar::{JournalPlace, write_bad_map};
use transfer::Ledger;
use work::Work;

/// What is to be copied where, and how.
#[derive(Clone, Debug)]
pub struct CopyRequest {
    /// What is read.
    pub source: Location,
    /// Where the chunks of a source come from that is an index.
    pub stores: Stores,
    /// What is written: a block device, or a file; in a folder, the source's name.
    pub target: Location,
    /// Only the used blocks of the filesystem on the source are read, as far as partclone knows them: the rest is as if
    /// it mattered to nobody.
    pub used_only: bool,
    /// The length of the blocks of a container that is made, in bytes; it is rounded as the format asks.
    pub block_bytes: Option<NonZero<u64>>,
    /// What a new file may be used for by others.
    pub mode: NewMode,
    /// Zeroes in a file that is new become holes. Otherwise they are written.
    pub sparse: bool,
    /// What an interrupted copy has done is noted, and kept for `resume`. Otherwise a new file is removed.
    pub keep: bool,
    /// An existing file may be replaced.
    pub force: bool,
    /// An existing file is overwritten where it stands instead of being replaced.
    pub in_place: bool,
    /// Go on where an interrupted copy stopped, if there was one.
    pub resume: bool,
    /// Whether a file shares the blocks of its source, which must be a file of the same filesystem then.
    pub reflink: Reflink,
    /// Read back what was written, and compare.
    pub verify: bool,
    /// What to do where the source cannot be read.
    pub on_read_error: OnReadError,
    /// Where the map of unreadable ranges goes; by default beside the target.
    pub bad_map: Option<PathBuf>,
    /// Where the journal is kept; by default beside the target.
    pub journal: Option<PathBuf>,
    /// Read at most so many bytes a second.
    pub limit_bytes_per_s: Option<u64>,
    /// How many threads.
    pub threads: Threads,
    /// How often what is done is made durable and noted in the journal.
    pub checkpoint_every: Duration,
    /// Told of each step.
    pub steps: Steps,
}

/// What to do where the source cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnReadError {
    /// The copy fails.
    Stop,
    /// The smallest unit that cannot be read becomes zeroes, and its range is reported.
    Zero,
}

/// The permissions of a file that is new and replaces none, less the umask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NewMode {
    /// Those of a source that is a file, as `cp` does; for its owner alone, if the source is a device.
    #[default]
    OfSource,
    /// Reading and writing for all.
    ForAll,
}

/// A copy that can be done: the source is open, the target is claimed, nothing is written.
pub struct CopyPlan {
    /// What is read.
    pub source: Facts,
    /// What will be written.
    pub target: PathBuf,
    /// What the target is.
    pub target_kind: TargetKind,
    /// The format of the target.
    pub target_format: Format,
    /// Bytes of a device behind the image, which stay as they are.
    pub extra_bytes: Option<u64>,
    /// Bytes that have to be read, in the runs of data that are known.
    pub data_bytes: u64,
    /// Bytes that are known to be zero without reading.
    pub zero_bytes: u64,
    /// Bytes that matter to nobody.
    pub unspecified_bytes: u64,
    /// Bytes that an earlier copy has finished.
    pub resumed_bytes: u64,
    request: CopyRequest,
    image: Box<dyn Image>,
    index: Option<Arc<IndexImage>>,
    container: Option<Arc<Container>>,
    claim: Claim,
    journal: JournalPlace,
    resumed: Option<Journal>,
}

/// What a copy did.
#[derive(Clone, Debug)]
pub struct CopyReport {
    /// What was read.
    pub source: PathBuf,
    /// What was written.
    pub target: PathBuf,
    /// Size of the image in bytes.
    pub size_bytes: u64,
    /// Bytes of data that were written now.
    pub written_bytes: u64,
    /// Bytes whose blocks are shared with the source instead of being written.
    pub shared_bytes: u64,
    /// Bytes that were left out, punched or zeroed by the kernel, or skipped as nobody's.
    pub sparse_bytes: u64,
    /// Bytes that an earlier copy had finished.
    pub resumed_bytes: u64,
    /// Ranges that could not be read, and are zeroes in the target.
    pub unreadable: RangeSet,
    /// Whether the last block of a container is among them, so that nobody knows where the image ended.
    pub lost_end: bool,
    /// Where the map of those ranges was written.
    pub bad_map: Option<PathBuf>,
    /// Whether the target was read back and found equal.
    pub verified: bool,
    /// How long it took.
    pub elapsed: Duration,
}

/// Opens the source, claims the target, and refuses what has to be refused. Writes nothing.
///
/// # Errors
///
/// `NotFound`, `Denied`; `Exists` for a file that may not be replaced; `InUse` for a target that is mounted,
/// attached or claimed; `TooSmall` for a device; `Invalid` if source and target are the same; `Changed` if an
/// interrupted copy cannot be resumed.
pub fn plan(request: CopyRequest, task: &Task) -> Result<CopyPlan> {
    let Source { image, facts, index, container } = match request.on_read_error {
        OnReadError::Stop => registry::open_source_over(&request.source, &request.stores, task)?,
        OnReadError::Zero => registry::open_damaged(&request.source, &request.stores, task)?,
    };
    let claim = target::claim(&request, &facts)?;
    warn_about(&facts, &claim, task)?;
    let Source { image, facts, index, container } = match request.used_only {
        true => used_only(Source { image, facts, index, container }, task)?,
        false => Source { image, facts, index, container },
    };
    if container.as_deref().is_some_and(has_lost_its_end) {
        task.warn(format!(
            "the last block of {} is damaged, so that nobody knows where its image ended: it ends before that block now",
            facts.path.display()
        ));
    }
    let journal = JournalPlace::new(&request, claim.path(), claim.kind());
    let resumed = if request.resume { resumable(&journal, &claim, &facts, task)? } else { None };

    let mut plan = CopyPlan {
        target: claim.path().to_owned(),
        target_kind: claim.kind(),
        target_format: claim.format(),
        extra_bytes: claim.extra_bytes(facts.size_bytes),
        data_bytes: 0,
        zero_bytes: 0,
        unspecified_bytes: 0,
        resumed_bytes: resumed.as_ref().map_or(0, |journal| journal.done.total_bytes()),
        source: facts,
        request,
        image,
        index,
        container,
        claim,
        journal,
        resumed,
    };
    task.begin(Phase::Map, plan.source.size_bytes);
    for range in plan.todo() {
        for extent in plan.image.extents(range) {
            task.checkpoint()?;
            let extent = extent?;
            match extent.kind {
                ExtentKind::Data => plan.data_bytes += extent.len_bytes,
                ExtentKind::Zero => plan.zero_bytes += extent.len_bytes,
                ExtentKind::Unspecified => plan.unspecified_bytes += extent.len_bytes,
            }
            task.advance(extent.len_bytes);
        }
    }
    Ok(plan)
}

/// Copies.
///
/// What a power cut, `kill -9`, an error or a wish to stop may leave: of a new or replaced file, the old state
/// under its name, and beside it a partial file with a journal, from which `resume` goes on; of a file in place
/// or a device, a mixture of old and new, and the journal. What the journal calls done is durable.
pub fn perform(plan: CopyPlan, task: &Task) -> Result<CopyReport> {
    let start = Instant::now();
    let CopyPlan { source, request, image, index, container, claim, journal, resumed, .. } = plan;
    let mut report = CopyReport {
        source: source.path.clone(),
        target: claim.path().to_owned(),
        size_bytes: source.size_bytes,
        written_bytes: 0,
        shared_bytes: 0,
        sparse_bytes: 0,
        resumed_bytes: plan.resumed_bytes,
        unreadable: RangeSet::new(),
        lost_end: container.as_deref().is_some_and(has_lost_its_end),
        bad_map: None,
        verified: false,
        elapsed: Duration::ZERO,
    };
    let work = Work {
        total_bytes: plan.data_bytes,
        idle_bytes: plan.zero_bytes + plan.unspecified_bytes,
        source: &source,
        image: &*image,
        container: container.as_deref(),
        request: &request,
        journal: &journal,
        checkpoints: Checkpoints::new(|done| journal.store(done), resumed.is_some()),
    };
    let (leftover, forget): (_, &dyn Fn() -> Result<()>) = match &resumed {
        Some(_) => (Leftover::TakenUp, &|| Ok(())),
        None => (Leftover::Removed, &|| journal.remove()),
    };
    let target = claim.open(source.size_bytes, leftover, forget)?;
    request.steps.reach("created");
    let ledger = match resumed {
        Some(journal) => Ledger::resumed(journal.done, journal.unreadable),
        None => Ledger::default(),
    };
    let finished = work.copy(&target, &ledger, task).and_then(|()| {
        (_, report.unreadable) = ledger.snapshot();
        if request.verify {
            work.verify(&target, &report.unreadable, task)?;
            report.verified = true;
        }
        // The map is for ddrescue, which can do nothing for a container.
        if !report.unreadable.is_empty() && container.is_none() {
            let path = work.bad_map_path(&target);
            write_bad_map(&path, &report.unreadable, source.size_bytes)?;
            report.bad_map = Some(path);
        }
        Ok(())
    });
    registry::tell_of_stores(index.as_deref(), task);
    if let Err(error) = finished {
        return Err(work.leave(target, &ledger, error));
    }
    work.seal(&target, &ledger);
    target.publish("copy", &request.steps)?;
    journal.remove()?;
    request.steps.reach("done");
    report.written_bytes = ledger.written_bytes();
    report.shared_bytes = ledger.shared_bytes();
    report.sparse_bytes =
        source.size_bytes - report.resumed_bytes - report.written_bytes - report.shared_bytes;
    report.elapsed = start.elapsed();
    Ok(report)
}

impl CopyPlan {
    /// The ranges that are to be copied.
    fn todo(&self) -> Vec<Range<u64>> {
        match &self.resumed {
            Some(journal) => journal.done.gaps(0..self.source.size_bytes),
            None => {
                std::iter::once(0..self.source.size_bytes).filter(|all| !all.is_empty()).collect()
            }
        }
    }
}

/// Says before anything is written what people may not have thought of.
fn warn_about(source: &Facts, claim: &Claim, task: &Task) -> Result<()> {
    let name = source.path.display();
    if let Some(format) = source.looks_like {
        if claim.kind() == TargetKind::Device {
            let sentence = format!(
                "{name} looks like a {format} file, whose bytes are not those of a disk (unpack or convert \
                 it first, or write raw:{name} to copy it as it is)"
            );
            return Err(Error::new(ErrorKind::Unsupported, sentence).at(name.to_string(), None));
        }
        task.warn(format!("{name} looks like a {format} file; it is copied as it is"));
    }
    let holders = sys::holders::Holders::of_path(&source.path)?;
    if !holders.mounts.is_empty() {
        task.warn(format!(
            "{name} is in use ({holders}): unless nothing writes to it, the copy is of no single moment \
             (`blockprint clone` freezes a filesystem in an image file for that moment)"
        ));
    }
    if claim.format() == Format::Spgz && !registry::is_named_container(claim.path()) {
        let target = claim.path().display();
        task.note(format!(
            "{target} will be a container whose name does not say so: write spgz:{target} to read it"
        ));
    }
    if let Some(extra_bytes) = claim.extra_bytes(source.size_bytes) {
        task.note(format!(
            "{} is {extra_bytes} bytes larger than the image; the rest of it stays as it is",
            claim.path().display()
        ));
    }
    Ok(())
}

/// Whether the last block of a container is damaged, which alone knows how long the image is. Nothing else of it was
/// read by then.
fn has_lost_its_end(container: &Container) -> bool {
    container.repaired().iter().any(|range| range.start >= container.size())
}

/// The journal to go on from, if there is one and it still holds.
fn resumable(
    place: &JournalPlace,
    claim: &Claim,
    source: &Facts,
    task: &Task,
) -> Result<Option<Journal>> {
    let Some(journal) = place.load()? else {
        task.note("no interrupted copy was found; this one begins at the beginning");
        return Ok(None);
    };
    let refuse = |what: &str| {
        let sentence = format!(
            "cannot resume the copy to {}: {what} (copy without --resume to begin again)",
            claim.path().display()
        );
        Err(Error::new(ErrorKind::Changed, sentence).at(claim.path().display().to_string(), None))
    };
    if journal.source != source.identity || journal.size_bytes != source.size_bytes {
        return refuse(&format!("{} is not what it was then", source.path.display()));
    }
    match claim.resumable_identity()? {
        Some(identity) if identity == journal.target => Ok(Some(journal)),
        Some(_) => refuse("the target is another one"),
        None => refuse("its partial file is gone"),
    }
}
