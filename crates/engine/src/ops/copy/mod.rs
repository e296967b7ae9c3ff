//! Copy an image or device onto another, sparse, resumable, verified.

mod rescue;
mod sharing;
mod target;
pub(crate) mod transfer;

use std::cell::Cell;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use image::layers::{Throttle, Throttled};
use image::ranges::RangeSet;
use image::{Error, ErrorKind, ExtentKind, Image, ImageExt, ImageMut, Phase, Result, Task};

use crate::folders::{beside, device_file_name, state_folder};
use crate::journal::Journal;
use crate::location::Location;
use crate::ops::compare;
use crate::publish::replace_small;
use crate::registry::{self, Facts, MediumKind, Source};
use crate::{Reflink, Steps, Threads, mapfile};
use sharing::Sharing;
use target::{Claim, Opened};
use transfer::{Ledger, Transfer};

/// What is to be copied where, and how.
#[derive(Clone, Debug)]
pub struct CopyRequest {
    /// What is read.
    pub source: Location,
    /// What is written: a block device, or a file; in a folder, the source's name.
    pub target: Location,
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

/// A copy that can be done: the source is open, the target is claimed, nothing is written.
pub struct CopyPlan {
    /// What is read.
    pub source: Facts,
    /// What will be written.
    pub target: PathBuf,
    /// What the target is.
    pub target_kind: TargetKind,
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
    claim: Claim,
    journal: JournalPlace,
    resumed: Option<Journal>,
}

/// What a copy writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// A new file.
    NewFile,
    /// A new file that takes the place of an old one.
    ReplacedFile,
    /// An existing file, where it stands.
    FileInPlace,
    /// A block device.
    Device,
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
    /// Where the map of those ranges was written.
    pub bad_map: Option<PathBuf>,
    /// Whether the target was read back and found equal.
    pub verified: bool,
    /// How long it took.
    pub elapsed: Duration,
}

/// Where the journal is.
#[derive(Clone, Debug)]
struct JournalPlace {
    path: PathBuf,
}

/// Opens the source, claims the target, and refuses what has to be refused. Writes nothing.
///
/// # Errors
///
/// `NotFound`, `Denied`; `Exists` for a file that may not be replaced; `InUse` for a target that is mounted,
/// attached or claimed; `TooSmall` for a device; `Invalid` if source and target are the same; `Changed` if an
/// interrupted copy cannot be resumed.
pub fn plan(request: CopyRequest, task: &Task) -> Result<CopyPlan> {
    let Source { image, facts } = registry::open_source(&request.source)?;
    let claim = Claim::new(&request, &facts)?;
    warn_about(&facts, &claim, task)?;
    let journal = JournalPlace::new(&request, &claim);
    let resumed = if request.resume { resumable(&journal, &claim, &facts, task)? } else { None };

    let mut plan = CopyPlan {
        target: claim.path().to_owned(),
        target_kind: claim.kind(),
        data_bytes: 0,
        zero_bytes: 0,
        unspecified_bytes: 0,
        resumed_bytes: resumed.as_ref().map_or(0, |journal| journal.done.total_bytes()),
        source: facts,
        request,
        image,
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
    let CopyPlan { source, request, image, claim, journal, resumed, .. } = plan;
    let mut report = CopyReport {
        source: source.path.clone(),
        target: claim.path().to_owned(),
        size_bytes: source.size_bytes,
        written_bytes: 0,
        shared_bytes: 0,
        sparse_bytes: 0,
        resumed_bytes: plan.resumed_bytes,
        unreadable: RangeSet::new(),
        bad_map: None,
        verified: false,
        elapsed: Duration::ZERO,
    };
    let work = Work {
        total_bytes: plan.data_bytes,
        idle_bytes: plan.zero_bytes + plan.unspecified_bytes,
        source: &source,
        image: &*image,
        request: &request,
        journal: &journal,
        has_journal: Cell::new(resumed.is_some()),
        flush_failed: Cell::new(false),
    };
    let mut target = claim.open(source.size_bytes, resumed.is_some())?;
    request.steps.reach("created");
    let ledger = match resumed {
        Some(journal) => Ledger::resumed(journal.done, journal.unreadable),
        None => {
            journal.remove()?;
            Ledger::default()
        }
    };
    let finished = work.copy(&mut target, &ledger, task).and_then(|()| {
        (_, report.unreadable) = ledger.snapshot();
        if request.verify {
            work.verify(&target, &report.unreadable, task)?;
            report.verified = true;
        }
        if !report.unreadable.is_empty() {
            let path = work.bad_map_path(&target);
            write_bad_map(&path, &report.unreadable, source.size_bytes)?;
            report.bad_map = Some(path);
        }
        Ok(())
    });
    if let Err(error) = finished {
        return Err(work.leave(target, &ledger, error));
    }
    target.publish(&request.steps)?;
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

/// What the steps of a copy have in common.
struct Work<'a> {
    /// Bytes of data that are to be read.
    total_bytes: u64,
    /// Bytes in runs that need no reading.
    idle_bytes: u64,
    source: &'a Facts,
    image: &'a dyn Image,
    request: &'a CopyRequest,
    journal: &'a JournalPlace,
    /// Whether there is a journal, of this run or the one before, and all that it says holds.
    has_journal: Cell<bool>,
    /// Whether flushing the target has failed.
    flush_failed: Cell<bool>,
}

/// How much of what was copied is given up, bit by bit, where a full disk has no room for the journal. The last is
/// more than an extent of Btrfs, which gives space back only in whole extents.
const JOURNAL_ROOMS_BYTES: [u64; 3] = [1 << 20, 16 << 20, 256 << 20];

impl Work<'_> {
    fn copy(&self, target: &mut Opened, ledger: &Ledger, task: &Task) -> Result<()> {
        let throttled;
        let image: &dyn Image = match self.request.limit_bytes_per_s {
            Some(rate) => {
                throttled = Throttled::new(self.image, Throttle::new(rate));
                &throttled
            }
            None => self.image,
        };
        let shape = target.shape(self.source);
        // On a blank target the runs without data cost nothing and are not counted.
        let idle_bytes = if shape.blank { 0 } else { self.idle_bytes };
        task.begin(Phase::Copy, self.total_bytes + idle_bytes);
        let source_file = self.open_to_share()?;
        let sharing = match (&source_file, target.file()) {
            (Some(source), Some(target)) => {
                Some(Sharing::new(source, target, self.request.reflink))
            }
            _ if self.request.reflink == Reflink::Always => return Err(sharing::impossible()),
            _ => None,
        };
        let transfer = Transfer {
            source: image,
            target: target.image(),
            ranges: ledger.snapshot().0.gaps(0..self.source.size_bytes),
            shape,
            sharing: sharing.as_ref(),
            on_read_error: self.request.on_read_error,
            threads: self.request.threads,
        };
        let checkpoint = |ledger: &Ledger| self.checkpoint(target, ledger);
        transfer.run(task, ledger, self.request.checkpoint_every, checkpoint)?;
        self.request.steps.reach("copied");
        self.source_unchanged()?;
        task.begin(Phase::Flush, 0);
        self.flush(target)
    }

    /// The source as a file whose blocks can be shared, if that is asked for.
    fn open_to_share(&self) -> Result<Option<fs::File>> {
        let path = &self.source.path;
        // Shared blocks are not read, so that nobody would learn which of them cannot be.
        let must_read = self.request.on_read_error == OnReadError::Zero;
        let never = self.request.reflink == Reflink::Never;
        if self.source.medium == MediumKind::Device || must_read || never {
            return Ok(None);
        }
        fs::File::open(path).map(Some).map_err(|cause| {
            let name = path.display().to_string();
            Error::io(format!("cannot open {name}"), cause).at(name, None)
        })
    }

    /// Makes durable what is done, then says so in the journal.
    fn checkpoint(&self, target: &Opened, ledger: &Ledger) -> Result<()> {
        let (done, unreadable) = ledger.snapshot();
        self.flush(target)?;
        let journal = Journal {
            source: self.source.identity.clone(),
            target: target.identity()?,
            size_bytes: self.source.size_bytes,
            done,
            unreadable,
        };
        self.journal.store(&journal)?;
        self.has_journal.set(true);
        self.request.steps.reach("checkpoint");
        Ok(())
    }

    /// The system tells of a failed flush once, and then calls what is lost clean: the next flush works and
    /// proves nothing.
    fn flush(&self, target: &Opened) -> Result<()> {
        if self.flush_failed.get() {
            let name = target.location().path.display().to_string();
            let sentence = format!("what was written to {name} before could not be made durable");
            return Err(Error::new(ErrorKind::Io, sentence).at(name, None));
        }
        target.image().flush().inspect_err(|_| self.flush_failed.set(true))
    }

    /// A file that was written or cut while it was read is no image of any one moment.
    fn source_unchanged(&self) -> Result<()> {
        let path = &self.source.path;
        if self.source.medium == MediumKind::Device {
            return Ok(());
        }
        let now = registry::Identity::of_file(&registry::look(path)?);
        if now == self.source.identity {
            return Ok(());
        }
        let name = path.display().to_string();
        let sentence = format!(
            "{name} was written to while it was copied (stop what writes to it, or use `blockprint clone`)"
        );
        Err(Error::new(ErrorKind::Changed, sentence).at(name, None))
    }

    /// After a failure: keeps what is worth going on with, and says what is left.
    fn leave(&self, target: Opened, ledger: &Ledger, error: Error) -> Error {
        let useful = !matches!(error.kind(), ErrorKind::Changed | ErrorKind::Damaged);
        let left = target.left_behind();
        if useful && (self.last_checkpoint(&target, ledger).is_ok() || self.has_journal.get()) {
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

    /// A checkpoint for which room is made on a full disk, if there is no earlier one to go on from.
    fn last_checkpoint(&self, target: &Opened, ledger: &Ledger) -> Result<()> {
        let mut outcome = self.checkpoint(target, ledger);
        for room_bytes in JOURNAL_ROOMS_BYTES {
            let is_full = matches!(&outcome, Err(error) if error.kind() == ErrorKind::Full);
            // What an earlier journal calls done may not be touched.
            let may_give_up = target.kind() != TargetKind::Device && !self.has_journal.get();
            if !is_full || !may_give_up || self.flush_failed.get() {
                break;
            }
            ledger.give_up_last(room_bytes);
            let (kept, _) = ledger.snapshot();
            if kept.is_empty() {
                break;
            }
            clear(target.image(), kept.gaps(0..self.source.size_bytes))?;
            outcome = self.checkpoint(target, ledger);
        }
        outcome
    }

    /// Reads the target back from its medium and compares it with the source.
    fn verify(&self, target: &Opened, unreadable: &RangeSet, task: &Task) -> Result<()> {
        let readback = registry::open_readback(&target.location())?;
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

    fn bad_map_path(&self, target: &Opened) -> PathBuf {
        self.request
            .bad_map
            .clone()
            .unwrap_or_else(|| sidecar(target.path(), target.kind(), ".map"))
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
    if let Some(extra_bytes) = claim.extra_bytes(source.size_bytes) {
        task.note(format!(
            "{} is {extra_bytes} bytes larger than the image; the rest of it stays as it is",
            claim.path().display()
        ));
    }
    Ok(())
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

impl JournalPlace {
    fn new(request: &CopyRequest, claim: &Claim) -> Self {
        let path = request.journal.clone();
        let path =
            path.unwrap_or_else(|| sidecar(claim.path(), claim.kind(), ".blockprint-journal"));
        JournalPlace { path }
    }

    fn folder(&self) -> Result<sys::Directory> {
        sys::Directory::of(&self.path)
    }

    fn name(&self) -> &std::ffi::OsStr {
        self.path.file_name().unwrap_or_default()
    }

    fn load(&self) -> Result<Option<Journal>> {
        match self.folder() {
            Ok(folder) => Journal::load(&folder, self.name()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn store(&self, journal: &Journal) -> Result<()> {
        ensure_folder(&self.path)?;
        journal.store(&self.folder()?, self.name())
    }

    fn remove(&self) -> Result<()> {
        match self.folder() {
            Ok(folder) => Journal::remove(&folder, self.name()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The path of something that is kept about `target`: beside a file; for a device in the folder for state.
fn sidecar(target: &Path, kind: TargetKind, suffix: &str) -> PathBuf {
    let named = |name: &std::ffi::OsStr| beside(name, suffix);
    match kind {
        TargetKind::Device => state_folder().join(named(&device_file_name(target))),
        _ => target.with_file_name(named(target.file_name().unwrap_or_default())),
    }
}

fn write_bad_map(path: &Path, unreadable: &RangeSet, size_bytes: u64) -> Result<()> {
    ensure_folder(path)?;
    let name = path.file_name().unwrap_or_default();
    let text = mapfile::to_text(unreadable, size_bytes);
    let folder = sys::Directory::of(path)?;
    replace_small(&folder, &beside(name, ".new"), name, text.as_bytes())
}

/// Makes the folder that `path` lies in, if it is missing.
fn ensure_folder(path: &Path) -> Result<()> {
    let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return Ok(());
    };
    fs::create_dir_all(parent).map_err(|cause| {
        let name = parent.display().to_string();
        Error::io(format!("cannot make the folder {name}"), cause).at(name, None)
    })
}
