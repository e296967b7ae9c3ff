//! Work on threads of its own: started, watched, cancelled by number, with a table of what it uses.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use image::{Listener, Phase, Result, Task};

/// Runs operations. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Jobs {}

/// The number of a job: a UUID, version 4, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(String);

/// What a job is about, for the table of what is in use and for the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// The word for the work: `backup`, `restore`, …
    pub what: &'static str,
    /// Devices and files that are read: others may read them as well.
    pub reads: Vec<PathBuf>,
    /// Devices and files that are written: nobody else may touch them.
    pub writes: Vec<PathBuf>,
}

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

impl Jobs {
    /// No jobs yet. Each that runs is noted in a small file of its own in the folder `journal`, if there is one, until it
    /// ends, so that whoever comes after a crash knows what was left half done.
    ///
    /// # Errors
    ///
    /// Those of the folder.
    pub fn new(_journal: Option<PathBuf>) -> Result<Self> {
        todo!()
    }

    /// Starts `work` on a thread of its own, unless something of `claims` is in use by another job. `done` is called on
    /// that thread, after the claims are given back. A panic of `work` becomes an error.
    ///
    /// # Errors
    ///
    /// `InUse`, naming the other job's work; `Cancelled` once [`stop`](Jobs::stop) was called.
    pub fn start<R: Send + 'static>(
        &self,
        _claims: Claims,
        _listener: Box<dyn Listener>,
        _work: impl FnOnce(&Task) -> Result<R> + Send + 'static,
        _done: impl FnOnce(&JobId, Result<R>) + Send + 'static,
    ) -> Result<JobId> {
        todo!()
    }

    /// The same on the caller's thread, for a program that has but one job. `task` is the caller's own.
    ///
    /// # Errors
    ///
    /// Those of [`start`](Jobs::start) and of `work`.
    pub fn run<R>(
        &self,
        _claims: Claims,
        _task: &Task,
        _work: impl FnOnce(&Task) -> Result<R>,
    ) -> Result<R> {
        todo!()
    }

    /// Asks a job to stop, and says whether there is one of that number. What it did meanwhile may still be its end.
    pub fn cancel(&self, _id: &JobId) -> bool {
        todo!()
    }

    /// How far a job is; `None` if there is none of that number.
    pub fn standing(&self, _id: &JobId) -> Option<Standing> {
        todo!()
    }

    /// The work that has `path` in use, if one has.
    pub fn user_of(&self, _path: &std::path::Path) -> Option<Claims> {
        todo!()
    }

    /// How many jobs run.
    pub fn running(&self) -> usize {
        todo!()
    }

    /// Starts no more jobs, cancels all, and waits at most `within`. Says whether all have ended.
    pub fn stop(&self, _within: Duration) -> bool {
        todo!()
    }
}

impl JobId {
    /// Reads what [`Display`](std::fmt::Display) wrote.
    pub fn parse(_text: &str) -> Option<Self> {
        todo!()
    }
}

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[allow(dead_code)]
fn shared() -> Arc<()> {
    Arc::default()
}
