//! Digests that are kept: until a sync is complete, or for the next one.
//!
//! A wrong digest would be a wrong sync that calls itself right, so what is kept is used only while something says that
//! nobody has written to the medium since ([`Binding`]), and anything that is not known makes it useless. What still gets
//! past that is written in `docs/sync-digests.md`.
//!
//! What a power cut or `kill -9` leaves: the file of digests before or after a change of it. It never calls a region known
//! that was written since, because that region is taken out of it, durably, before the first write; nor one that is not
//! durable, because the target is flushed before.

mod binding;
mod place;
mod record;
mod regions;
mod sentinels;

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use image::{Error, ErrorKind, Result, Task};
use sync::native::{self, Book, Digest, Shape};
use sys::DiskState;

use super::target::SyncTarget;
use super::{EndRequest, KeepDigests};
use crate::Steps;
use crate::location::{Format, Location};
use crate::registry::{self, Facts, MediumKind};
use crate::target::TargetKind;
use binding::{Binding, Mark};
use place::{BookPlace, Found};
use record::{Record, bytes_of};
use regions::{Regions, Which};

/// The digests of one end's image, in memory and in a file.
pub(super) struct KeptBook {
    subject: Subject,
    place: BookPlace,
    /// All are kept when the sync is complete.
    keep: bool,
    checkpoint_every: Duration,
    steps: Steps,
    task: Task,
    state: Mutex<State>,
    /// Held by the thread that makes a checkpoint.
    checkpoint: Mutex<()>,
}

/// Whose digests they are.
struct Subject {
    /// Where the medium is in the end; links are followed.
    path: PathBuf,
    /// Where it is until then, if it is a file that is put in its place.
    partial: Option<PathBuf>,
    /// Which of the two holds what the image begins with.
    begins_with: PathBuf,
    /// What it is read as.
    location: Location,
    role: Role,
}

enum Role {
    /// Nobody may write to it; what it was when the sync began. Nothing where the system does not tell.
    Source { mark: Option<Mark> },
    /// We write to it.
    Target,
}

struct State {
    /// What was kept before, until it is known how the image is cut.
    loaded: Option<Record>,
    regions: Option<Regions>,
    file: File,
    /// When the last checkpoint was made.
    checkpoint_at: Instant,
    /// When the file was written.
    stored_at: Instant,
    /// Of a device: what had been written to its disk when it was flushed last, and how much may have been since.
    flushed: Option<DiskState>,
    since_flush_bytes: u64,
    /// How much of that the file permits.
    permitted_bytes: u64,
    /// Nothing is stored any more: a flush has failed, or the file could not be written.
    given_up: bool,
}

impl State {
    /// What others keep is not replaced, as long as nothing is written that makes it wrong.
    fn may_store(&self) -> bool {
        !self.given_up && self.file != File::Foreign
    }
}

/// What is known of the file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum File {
    /// There is none.
    Missing,
    /// There is one that is of use for syncs with `--keep-digests` only, and this is none.
    Foreign,
    /// There is one that says nothing of what is there now.
    Unread,
    /// It says what [`Regions`] has noted as kept.
    Known,
    /// It says that of `loaded`.
    Loaded,
}

/// So much longer than two checkpoints a writer may be at work before it says so again.
const LEASE: Duration = Duration::from_secs(2);
/// So much more than was written to a device a writer may write before it says so again, in bytes.
const MORE_BYTES: u64 = 256 << 20;

impl KeptBook {
    /// For a source. What was kept is used if nothing has changed since.
    ///
    /// # Errors
    ///
    /// For a folder for digests that cannot be made. Whatever else is wrong makes only that nothing is known.
    pub(super) fn of_source(facts: &Facts, end: &EndRequest, task: &Task) -> Result<Self> {
        let is_device = facts.medium == MediumKind::Device;
        let place = BookPlace::of_source(&facts.path, is_device, &end.keep_digests);
        // Without a flush, a page that a program has mapped and written may change again and leave the time as it is.
        let mark = match end.keep_digests {
            KeepDigests::No => Mark::of_cached(&facts.path),
            KeepDigests::Beside | KeepDigests::In(_) => Mark::of(&facts.path),
        };
        let subject = Subject {
            path: facts.path.clone(),
            partial: None,
            begins_with: facts.path.clone(),
            location: Location { format: Some(facts.format), path: facts.path.clone() },
            role: Role::Source { mark },
        };
        KeptBook::wished(subject, place, end, task)
    }

    /// For a target. What was kept, or left by an interrupted run, is used if nobody else wrote there since.
    ///
    /// # Errors
    ///
    /// As [`of_source`](KeptBook::of_source).
    pub(super) fn of_target(target: &SyncTarget, end: &EndRequest, task: &Task) -> Result<Self> {
        let kind = target.kind();
        let is_device = kind == TargetKind::Device;
        let place = BookPlace::of_target(target.path(), is_device, &end.keep_digests);
        let partial = target.partial_path();
        let begins_with = partial.clone().filter(|_| target.is_ours_alone());
        let subject = Subject {
            path: target.path().to_owned(),
            partial,
            begins_with: begins_with.unwrap_or_else(|| target.path().to_owned()),
            location: Location { format: Some(target.format()), path: target.path().to_owned() },
            role: Role::Target,
        };
        KeptBook::wished(subject, place, end, task)
    }

    fn wished(subject: Subject, place: BookPlace, end: &EndRequest, task: &Task) -> Result<Self> {
        if let KeepDigests::In(folder) = &end.keep_digests {
            fs::create_dir_all(folder).map_err(|cause| {
                let name = folder.display().to_string();
                Error::io(format!("cannot make the folder {name} for digests"), cause)
                    .at(name, None)
            })?;
        }
        let keep = end.keep_digests != KeepDigests::No;
        let mut book = KeptBook::open(subject, place, keep, task);
        book.checkpoint_every = end.checkpoint_every;
        book.steps = end.steps.clone();
        Ok(book)
    }

    fn open(subject: Subject, place: BookPlace, keep: bool, task: &Task) -> Self {
        let (loaded, file) = match place.load() {
            Ok(Found::Nothing) => (None, File::Missing),
            Ok(Found::Record(record)) if record.complete && !keep => (None, File::Foreign),
            Ok(Found::Record(record)) => match subject.refusal(&record) {
                None => (Some(*record), File::Loaded),
                Some(reason) => {
                    let shown = place.path().display();
                    task.note(format!("the digests in {shown} are not used: {reason}"));
                    (None, File::Unread)
                }
            },
            Ok(Found::Damaged) => {
                let shown = place.path().display();
                task.note(format!("the digests in {shown} are damaged, and not used"));
                (None, File::Unread)
            }
            Err(error) => {
                task.note(format!("the digests are not used: {}", error.full_sentence()));
                (None, File::Unread)
            }
        };
        let state = State {
            loaded,
            regions: None,
            file,
            checkpoint_at: Instant::now(),
            stored_at: Instant::now(),
            flushed: None,
            since_flush_bytes: 0,
            permitted_bytes: 0,
            given_up: false,
        };
        KeptBook {
            subject,
            place,
            keep,
            checkpoint_every: Duration::ZERO,
            steps: Steps::default(),
            task: task.clone(),
            state: Mutex::new(state),
            checkpoint: Mutex::new(()),
        }
    }

    /// All is done: keeps all digests if that was asked for, else removes what was kept for an interruption.
    ///
    /// # Errors
    ///
    /// None of its own: what could not be kept is said, and the sync is as good without.
    pub(super) fn finish(self) -> Result<()> {
        let mut state = self.lock();
        let kept = match self.keep {
            true => self.keep_all(&mut state),
            false => Ok(false),
        };
        if let Err(error) = &kept {
            self.task.warn(format!("the digests are not kept: {}", error.full_sentence()));
        }
        let is_needless = !matches!(state.file, File::Missing | File::Foreign);
        if !matches!(kept, Ok(true))
            && is_needless
            && let Err(error) = self.place.remove()
        {
            self.task.warn(error.full_sentence());
        }
        state.given_up = true;
        self.steps.reach("kept");
        Ok(())
    }

    /// Keeps all digests, bound to the medium as it is now.
    fn keep_all(&self, state: &mut State) -> Result<bool> {
        let unknown = || {
            let shown = self.subject.path.display();
            let sentence = format!("the system does not tell whether {shown} is written to");
            Error::new(ErrorKind::Unsupported, sentence)
        };
        let Some(regions) = state.regions.as_ref().filter(|_| !state.given_up) else {
            return Ok(false);
        };
        if !regions.is_complete() {
            let sentence = "not all of them were needed, and known";
            return Err(Error::new(ErrorKind::Unsupported, sentence));
        }
        let mark = Mark::of(&self.subject.path).ok_or_else(unknown)?;
        if let Role::Source { mark: before } = &self.subject.role
            && before.as_ref() != Some(&mark)
        {
            let shown = self.subject.path.display();
            let sentence = format!("{shown} was written to while it was synced");
            return Err(Error::new(ErrorKind::Changed, sentence));
        }
        let binding = Binding::Still { mark, boot: None };
        let digests = regions.chosen(Which::Known);
        let format = self.subject.format();
        self.place.store(&bytes_of(&binding, true, &format, regions.shape(), digests))?;
        Ok(true)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts down what may be kept now. A file that cannot be written is no reason to stop: without it nothing is known.
    fn store(&self, state: &mut State, binding: Option<Binding>, which: Which) -> Result<()> {
        let (Some(binding), Some(regions)) = (binding, &mut state.regions) else {
            return self.give_up(state);
        };
        let (format, digests) = (self.subject.format(), regions.chosen(which));
        match self.place.store(&bytes_of(&binding, false, &format, regions.shape(), digests)) {
            Ok(()) => {
                let are_kept: Vec<bool> =
                    regions.chosen(which).map(|digest| digest.is_some()).collect();
                regions.kept(are_kept);
                state.file = File::Known;
                state.stored_at = Instant::now();
                self.steps.reach("settled");
                Ok(())
            }
            Err(error) => {
                self.task.warn(format!(
                    "an interrupted sync could not be gone on with: {}",
                    error.full_sentence()
                ));
                self.give_up(state)
            }
        }
    }

    /// Nothing is kept from now on. What was kept must be gone before anything is written.
    fn give_up(&self, state: &mut State) -> Result<()> {
        state.given_up = true;
        if state.file != File::Missing {
            self.place.remove()?;
            state.file = File::Missing;
        }
        Ok(())
    }

    fn lease(&self) -> Duration {
        self.checkpoint_every * 2 + LEASE
    }

    /// What ties the digests of a target to it while it is written.
    fn writing(&self, state: &mut State) -> Option<Binding> {
        state.permitted_bytes = state.since_flush_bytes + MORE_BYTES;
        let (path, lease) = (self.subject.medium(), self.lease());
        if state.flushed.is_none() {
            state.flushed = self.flushed_state();
        }
        Binding::writing(path, state.flushed.as_ref(), lease, state.permitted_bytes)
    }

    /// Of a device, how much is written to its disk now; flushed before.
    fn flushed_state(&self) -> Option<DiskState> {
        let is_device = !fs::metadata(&self.subject.path).is_ok_and(|found| found.is_file());
        match Mark::of(&self.subject.path).filter(|_| is_device && self.subject.partial.is_none()) {
            Some(Mark::Device(state)) => Some(state),
            _ => None,
        }
    }

    /// A checkpoint of a target: what is known now is durable once `flush` returns.
    fn checkpoint_target(&self, below: u64, flush: &dyn Fn() -> Result<()>) -> Result<()> {
        {
            let mut state = self.lock();
            state.checkpoint_at = Instant::now();
            state.since_flush_bytes = 0;
            let Some(regions) = &mut state.regions else { return Ok(()) };
            regions.settle(below);
            regions.begin_flush();
        }
        if let Err(error) = flush() {
            // The system tells of a failed flush once: the next one would work and prove nothing.
            self.lock().given_up = true;
            return Err(error);
        }
        let flushed = self.flushed_state();
        let mut state = self.lock();
        state.flushed = flushed;
        if let Some(regions) = &mut state.regions {
            regions.end_flush();
        }
        let binding = self.writing(&mut state);
        self.store(&mut state, binding, Which::LeftAlone)
    }

    /// What is known now is tied to the medium as it is now: nobody writes any more.
    fn keep_interrupted(&self, state: &mut State) -> Result<()> {
        let has_news = state.regions.as_ref().is_some_and(|regions| !regions.is_as_kept());
        if !has_news {
            return Ok(());
        }
        match &self.subject.role {
            Role::Source { mark } => {
                let binding = still(mark.clone());
                self.store(state, binding, Which::Known)
            }
            Role::Target => {
                // What a container has not been told to flush may be nowhere but in memory.
                let is_plain = self.subject.location.format == Some(Format::Raw);
                if let Some(regions) = state.regions.as_mut().filter(|_| is_plain) {
                    regions.begin_flush();
                }
                let mark = Mark::of(self.subject.medium());
                if let Some(regions) = &mut state.regions {
                    regions.end_flush();
                }
                let binding = mark.map(|mark| Binding::Still { mark, boot: None });
                self.store(state, binding, Which::Durable)
            }
        }
    }
}

/// Takes away what is kept beside a target, or where digests are kept, before somebody writes there who keeps none.
pub(super) fn take_away(target: &SyncTarget, end: &EndRequest) -> Result<()> {
    let is_device = target.kind() == TargetKind::Device;
    [&end.keep_digests, &KeepDigests::Beside]
        .into_iter()
        .try_for_each(|keep| BookPlace::of_target(target.path(), is_device, keep).remove())
}

/// The root digest of a file that was synced with `--keep-digests`, if it is as it was then.
pub(super) fn kept_root(path: &Path, end: &EndRequest) -> Option<Digest> {
    if end.keep_digests == KeepDigests::No {
        return None;
    }
    let place = BookPlace::of_source(path, false, &end.keep_digests);
    let Ok(Found::Record(record)) = place.load() else { return None };
    let is_plain = record.format == Format::Raw.name();
    let holds = record.complete && is_plain && record.binding.refusal(path).is_none();
    record.root().filter(|_| holds)
}

/// Bound to a source as it was when the sync began. What was read may have been in memory only.
fn still(mark: Option<Mark>) -> Option<Binding> {
    let boot = Some(sys::boot_id()?);
    mark.map(|mark| Binding::Still { mark, boot })
}

impl Subject {
    /// Where the medium is now.
    fn medium(&self) -> &Path {
        self.partial.as_deref().filter(|partial| partial.exists()).unwrap_or(&self.path)
    }

    fn format(&self) -> String {
        self.location.format.map_or("", |format| format.name()).to_owned()
    }

    /// Why that record may not be used; nothing if it may.
    fn refusal(&self, record: &Record) -> Option<String> {
        if record.format != self.format() {
            return Some(format!("they are those of a {} image", record.format));
        }
        if let Some(reason) = record.binding.refusal(&self.begins_with) {
            return Some(reason.to_owned());
        }
        if matches!(record.binding, Binding::Still { .. }) {
            return None;
        }
        let location = Location { path: self.begins_with.clone(), ..self.location.clone() };
        let seed = RandomState::new().hash_one(&self.path);
        let hold = registry::open_source(&location, &Task::silent()).and_then(|source| {
            sentinels::hold(&*source.image, &record.shape, &record.digests, seed)
        });
        match hold {
            Ok(true) => None,
            Ok(false) => Some("it was written to since".to_owned()),
            Err(error) => Some(error.full_sentence()),
        }
    }
}

impl Book for KeptBook {
    fn begin(&self, shape: &Shape) {
        let mut state = self.lock();
        let mut regions = Regions::new(*shape);
        if let Some(record) = state.loaded.take() {
            regions.take_over(&record.shape, &record.digests);
            // The file says all that was loaded, whatever of it is of use now.
            if state.file == File::Loaded {
                state.file = match record.shape == *shape {
                    true => {
                        regions.kept(record.digests.iter().map(Option::is_some));
                        File::Known
                    }
                    false => File::Unread,
                };
            }
        }
        state.regions = Some(regions);
    }

    fn digest(&self, region: u64) -> Option<Digest> {
        self.lock().regions.as_ref()?.digest(region)
    }

    fn learn(&self, region: u64, digest: Digest) {
        if let Some(regions) = &mut self.lock().regions {
            regions.learn(region, digest);
        }
    }

    fn forget(&self, region: u64) -> Result<()> {
        let mut state = self.lock();
        let bytes = state.regions.as_ref().map_or(0, |regions| regions.shape().region_bytes);
        state.since_flush_bytes += bytes;
        let is_kept = state.regions.as_mut().is_none_or(|regions| regions.forget(region));
        match state.file {
            File::Missing => Ok(()),
            // It is about another state of the medium, or another cut of it.
            File::Foreign | File::Unread | File::Loaded => {
                self.place.remove()?;
                state.file = File::Missing;
                Ok(())
            }
            File::Known => {
                let is_late = state.stored_at.elapsed() > self.lease() / 2
                    || state.since_flush_bytes > state.permitted_bytes;
                if !is_kept && !is_late {
                    return Ok(());
                }
                let binding = self.writing(&mut state);
                self.store(&mut state, binding, Which::LeftAlone)
            }
        }
    }

    fn settle(&self, below: u64, flush: &dyn Fn() -> Result<()>) -> Result<()> {
        let is_due = |state: &State| {
            state.may_store() && state.checkpoint_at.elapsed() >= self.checkpoint_every
        };
        let turn = match self.checkpoint.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(()),
            turn => turn,
        };
        if !is_due(&self.lock()) {
            return Ok(());
        }
        let done = match &self.subject.role {
            Role::Target => self.checkpoint_target(below, flush),
            Role::Source { mark } => {
                let mut state = self.lock();
                state.checkpoint_at = Instant::now();
                let binding = still(mark.clone());
                self.store(&mut state, binding, Which::Known)
            }
        };
        drop(turn);
        done
    }

    fn root(&self) -> Option<Digest> {
        let state = self.lock();
        match (&state.regions, &state.loaded) {
            (Some(regions), _) => root(regions.shape(), regions.known()),
            (None, Some(record)) => record.root(),
            (None, None) => None,
        }
    }
}

impl Record {
    fn root(&self) -> Option<Digest> {
        root(&self.shape, &self.digests)
    }
}

/// The root digest, if all digests are known.
fn root(shape: &Shape, digests: &[Option<Digest>]) -> Option<Digest> {
    let all: Vec<Digest> = digests.iter().copied().collect::<Option<_>>()?;
    Some(native::root_of(shape, &all))
}

/// Dropped without [`finish`](KeptBook::finish): the sync was interrupted in a way that leaves time for this.
impl Drop for KeptBook {
    fn drop(&mut self) {
        let mut state = self.lock();
        if !state.may_store() {
            return;
        }
        if let Err(error) = self.keep_interrupted(&mut state) {
            self.task.warn(error.full_sentence());
        }
    }
}

#[cfg(test)]
mod tests;
