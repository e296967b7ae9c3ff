//! Work on threads of its own: started, watched, cancelled by number, with a table of what it uses.

mod claims;
mod id;
mod journal;
mod meter;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use image::{Error, ErrorKind, Listener, Phase, Result, Task};

pub use claims::Claims;
use claims::Uses;
pub use id::JobId;
pub use journal::Leftover;
use journal::{Journal, Note};
use meter::{Meter, Metered};

/// Runs operations. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Jobs(Arc<Shared>);

/// How far a job is.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// What is being done.
    pub phase: Option<Phase>,
    /// Bytes done in this phase.
    pub done_bytes: u64,
    /// Bytes that the phase has in all.
    pub total_bytes: u64,
    /// Bytes a second, of the last seconds; `None` as long as nothing can be said.
    pub rate_bytes_per_s: Option<f64>,
    /// What is left of this phase; `None` as long as nothing can be said.
    pub left: Option<Duration>,
    /// When the job began.
    pub started: SystemTime,
}

struct Shared {
    journal: Option<Journal>,
    state: Mutex<State>,
    /// Told when a job has ended.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    jobs: BTreeMap<JobId, Job>,
    is_stopped: bool,
}

struct Job {
    uses: Vec<Uses>,
    task: Task,
    started: SystemTime,
    meter: Arc<Mutex<Meter>>,
    note: Option<Note>,
    /// Its work has returned, and its claims are given back; only its end has still to be told.
    is_over: bool,
}

impl Jobs {
    /// No jobs yet. Each that runs is noted in a small file of its own in the folder `journal`, if there is one, until it
    /// ends, so that whoever comes after a crash knows what was left half done.
    ///
    /// # Errors
    ///
    /// Those of the folder.
    pub fn new(journal: Option<PathBuf>) -> Result<Self> {
        let journal = journal.map(Journal::open).transpose()?;
        Ok(Jobs(Arc::new(Shared { journal, state: Mutex::default(), ended: Condvar::new() })))
    }

    /// What processes that are gone have left noted in the journal: see [`Leftover::forget`].
    ///
    /// # Errors
    ///
    /// Those of the folder. A note that cannot be read is passed over.
    pub fn leftovers(&self) -> Result<Vec<Leftover>> {
        self.0.journal.as_ref().map_or(Ok(Vec::new()), Journal::leftovers)
    }

    /// Starts `work` on a thread of its own, unless something of `claims` is in use by another job. `done` is called on
    /// that thread, after the claims are given back. A panic of `work` becomes an error.
    ///
    /// # Errors
    ///
    /// `InUse`, naming the other job's work; `Cancelled` once [`stop`](Jobs::stop) was called.
    pub fn start<R: Send + 'static>(
        &self,
        claims: Claims,
        listener: Box<dyn Listener>,
        work: impl FnOnce(&Task) -> Result<R> + Send + 'static,
        done: impl FnOnce(&JobId, Result<R>) + Send + 'static,
    ) -> Result<JobId> {
        let id = JobId::new()?;
        self.start_as(&id, claims, listener, work, done)?;
        Ok(id)
    }

    /// The same with a number that the caller chose before, because it has told others of it.
    ///
    /// # Errors
    ///
    /// Those of [`start`](Jobs::start); `Exists` for a number that is taken.
    pub fn start_as<R: Send + 'static>(
        &self,
        id: &JobId,
        claims: Claims,
        listener: Box<dyn Listener>,
        work: impl FnOnce(&Task) -> Result<R> + Send + 'static,
        done: impl FnOnce(&JobId, Result<R>) + Send + 'static,
    ) -> Result<()> {
        let meter = Arc::default();
        let task =
            Task::new(Box::new(Metered { listener, meter: Arc::clone(&meter) }), Arc::default());
        self.enter(id, claims, &task, meter)?;
        let jobs = self.clone();
        let number = id.clone();
        let run = move || {
            // Dropped whatever happens, a panic of `done` included.
            let place = Place { jobs: &jobs, id: &number };
            let result = catch_unwind(AssertUnwindSafe(|| work(&task)))
                .unwrap_or_else(|panic| Err(of_panic(&*panic)));
            place.give_back_claims();
            done(&number, result);
        };
        match thread::Builder::new().name("job".to_string()).spawn(run) {
            Ok(_) => Ok(()),
            Err(cause) => {
                self.leave(id);
                Err(Error::io("cannot start a thread for the work", cause))
            }
        }
    }

    /// The same on the caller's thread, for a program that has but one job. `task` is the caller's own.
    ///
    /// # Errors
    ///
    /// Those of [`start`](Jobs::start) and of `work`.
    pub fn run<R>(
        &self,
        claims: Claims,
        task: &Task,
        work: impl FnOnce(&Task) -> Result<R>,
    ) -> Result<R> {
        let id = JobId::new()?;
        self.enter(&id, claims, task, Arc::default())?;
        let _place = Place { jobs: self, id: &id };
        work(task)
    }

    /// Claims more for a job that runs, which has found out only now what it needs.
    ///
    /// # Errors
    ///
    /// `InUse`, naming the other job's work; `NotFound` if there is no such job.
    pub fn claim_more(&self, id: &JobId, claims: Claims) -> Result<()> {
        let uses = Uses::of(claims);
        let mut state = self.lock();
        refuse_conflicts(&state, &uses, Some(id))?;
        let job = state.jobs.get_mut(id).filter(|job| !job.is_over);
        let job =
            job.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no job {id} runs")))?;
        if let Some(note) = &mut job.note {
            let all = job.uses.iter().chain([&uses]).map(|uses| &uses.claims);
            note.write(id, all)?;
        }
        job.uses.push(uses);
        Ok(())
    }

    /// Asks a job to stop, and says whether there is one of that number. What it did meanwhile may still be its end.
    pub fn cancel(&self, id: &JobId) -> bool {
        let state = self.lock();
        let job = state.jobs.get(id).filter(|job| !job.is_over);
        if let Some(job) = job {
            job.task.cancel();
        }
        job.is_some()
    }

    /// How far a job is; `None` if there is none of that number.
    pub fn standing(&self, id: &JobId) -> Option<Standing> {
        let state = self.lock();
        let job = state.jobs.get(id).filter(|job| !job.is_over)?;
        let progress = job.task.progress();
        let mut meter = job.meter.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = progress.and_then(|progress| meter.rate(progress, Instant::now()));
        let (done_bytes, total_bytes) =
            progress.map_or((0, 0), |progress| (progress.done_bytes, progress.total_bytes));
        Some(Standing {
            phase: progress.map(|progress| progress.phase),
            done_bytes,
            total_bytes,
            rate_bytes_per_s: rate,
            left: rate
                .and_then(|rate| meter::time_for(total_bytes.saturating_sub(done_bytes), rate)),
            started: job.started,
        })
    }

    /// The work that has `path` in use, if one has.
    pub fn user_of(&self, path: &Path) -> Option<Claims> {
        let wanted = Claims { what: "", reads: Vec::new(), writes: vec![path.to_owned()] };
        let wanted = Uses::of(wanted);
        let state = self.lock();
        let mut uses = state.jobs.values().flat_map(|job| &job.uses);
        uses.find(|uses| uses.conflict(&wanted).is_some()).map(|uses| uses.claims.clone())
    }

    /// How many jobs there are, those included whose end is just being told.
    pub fn running(&self) -> usize {
        self.lock().jobs.len()
    }

    /// Starts no more jobs, cancels all, and waits at most `within`. Says whether all have ended, and have told so.
    pub fn stop(&self, within: Duration) -> bool {
        let mut state = self.lock();
        state.is_stopped = true;
        for job in state.jobs.values() {
            job.task.cancel();
        }
        let waited = self.0.ended.wait_timeout_while(state, within, |state| !state.jobs.is_empty());
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.jobs.is_empty()
    }

    /// Enters a job into the table, with all it claims, or refuses it.
    fn enter(
        &self,
        id: &JobId,
        claims: Claims,
        task: &Task,
        meter: Arc<Mutex<Meter>>,
    ) -> Result<()> {
        let uses = Uses::of(claims);
        let mut state = self.lock();
        if state.is_stopped {
            return Err(Error::new(
                ErrorKind::Cancelled,
                "no more work is begun: the program ends",
            ));
        }
        if state.jobs.contains_key(id) {
            return Err(Error::new(ErrorKind::Exists, format!("there is a job {id} already")));
        }
        refuse_conflicts(&state, &uses, None)?;
        let note = self.0.journal.as_ref().map(|journal| journal.note(id, &uses.claims));
        let job = Job {
            uses: vec![uses],
            task: task.clone(),
            started: SystemTime::now(),
            meter,
            note: note.transpose()?,
            is_over: false,
        };
        state.jobs.insert(id.clone(), job);
        Ok(())
    }

    fn leave(&self, id: &JobId) {
        self.lock().jobs.remove(id);
        self.0.ended.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A job's place in the table; dropped, the job is out of it.
struct Place<'a> {
    jobs: &'a Jobs,
    id: &'a JobId,
}

impl Place<'_> {
    fn give_back_claims(&self) {
        if let Some(job) = self.jobs.lock().jobs.get_mut(self.id) {
            job.uses.clear();
            job.note = None;
            job.is_over = true;
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.jobs.leave(self.id);
    }
}

fn refuse_conflicts(state: &State, wanted: &Uses, but: Option<&JobId>) -> Result<()> {
    for (id, job) in &state.jobs {
        if Some(id) == but {
            continue;
        }
        for uses in &job.uses {
            if let Some(path) = uses.conflict(wanted) {
                let name = path.display().to_string();
                let sentence = format!("{name} is in use by a {} that runs", uses.claims.what);
                return Err(Error::new(ErrorKind::InUse, sentence).at(name, None));
            }
        }
    }
    Ok(())
}

fn of_panic(panic: &(dyn std::any::Any + Send)) -> Error {
    let words = panic.downcast_ref::<&str>().copied();
    let words = words.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let words = words.unwrap_or("nothing is known of it");
    Error::new(ErrorKind::Io, format!("the work was ended by a mistake in the program: {words}"))
}

#[cfg(test)]
mod tests;
