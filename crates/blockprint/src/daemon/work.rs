//! What jobs share, and how they tell what happens.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use engine::jobs::{Claims, JobId, Jobs};
use engine::partitions::{Partclone, Report};
use engine::{Error, ErrorKind, Result, Task};

use super::line::Wake;
use super::log::{self, Log};
use super::settings::Settings;
use super::sources::{Part, Sources, part_at};
use super::view::Outcome;

/// What jobs share. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(super) struct Work {
    pub(super) settings: Arc<Settings>,
    pub(super) jobs: Jobs,
    pub(super) sources: Sources,
    post: Sender<Event>,
    wake: Wake,
}

/// Something that happened on another thread.
pub(super) enum Event {
    /// More is known of what a job is about.
    Named { id: JobId, source: String, destination: String, source_uuid: Option<String> },
    /// A job has passed all checks, and begins.
    Ready { id: JobId },
    /// Partclone has said something.
    Heard { id: JobId, report: Report },
    /// A job has ended.
    Ended { id: JobId, result: Result<Outcome> },
    /// A request that makes no job is answered.
    Answered { message: String },
}

/// Disks are not waited for any longer before a job begins.
const LOOK_WITHIN: Duration = Duration::from_secs(2);

impl Work {
    pub(super) fn new(
        settings: Settings,
        jobs: Jobs,
        sources: Sources,
        post: Sender<Event>,
        wake: Wake,
    ) -> Self {
        Work { settings: Arc::new(settings), jobs, sources, post, wake }
    }

    /// Tells what happened.
    pub(super) fn post(&self, event: Event) {
        // Nobody listens at the end.
        let _ = self.post.send(event);
        self.wake.wake();
    }

    /// Starts a job; whatever becomes of it is posted.
    pub(super) fn start(
        &self,
        id: JobId,
        what: &'static str,
        job: impl FnOnce(&Work, &JobId, &Task) -> Result<Outcome> + Send + 'static,
    ) {
        let claims = Claims { what, ..Claims::default() };
        let (mine, theirs) = (self.clone(), self.clone());
        let number = id.clone();
        let started = self.jobs.start_as(
            &id,
            claims,
            Box::new(Log { job: format!("job {id}") }),
            move |task| job(&mine, &number, task),
            move |id, result| theirs.post(Event::Ended { id: id.clone(), result }),
        );
        if let Err(error) = started {
            self.post(Event::Ended { id, result: Err(error) });
        }
    }

    /// Where partclone is: a stand-in, if there is one.
    pub(super) fn partclone(&self) -> Option<Partclone> {
        self.settings.stand_in.clone().or_else(Partclone::find)
    }

    /// Passes on what a stand-in for partclone says of a job.
    pub(super) fn on_report(&self, id: &JobId) -> Option<Arc<dyn Fn(Report) + Send + Sync>> {
        self.settings.stand_in.as_ref()?;
        let (work, id) = (self.clone(), id.clone());
        Some(Arc::new(move |report| work.post(Event::Heard { id: id.clone(), report })))
    }

    /// What the list of disks that was made last says about the device at `path`, links not followed.
    pub(super) fn known(&self, path: &Path) -> Option<Part> {
        part_at(&self.sources.latest(), path).cloned()
    }

    /// What a new list of disks says about the device at `path`, links followed. Where there is none in time, what was known
    /// before, but not whether it is in use, which may have changed.
    pub(super) fn look_up(&self, path: &Path) -> Option<Part> {
        let (disks, is_fresh) = self.sources.fresh(LOOK_WITHIN);
        let found = part_at(&disks, path).or_else(|| part_at(&disks, &resolved(path)));
        let mut found = found?.clone();
        if !is_fresh {
            found.in_use = None;
        }
        Some(found)
    }

    /// Refuses a device that is in use.
    pub(super) fn refuse_used(&self, path: &Path, part: Option<&Part>) -> Result<()> {
        let Some(words) = part.and_then(|part| part.in_use.as_ref()) else { return Ok(()) };
        let name = path.display().to_string();
        let sentence = format!("{name} {words} (unmount or detach it first)");
        Err(Error::new(ErrorKind::InUse, sentence).at(name, None))
    }
}

/// Refuses a path that depends on where the daemon was started.
pub(super) fn refuse_relative(path: &Path) -> Result<()> {
    if path.is_absolute() {
        return Ok(());
    }
    let name = path.display().to_string();
    let sentence = format!("{name} is no absolute path (it has to begin with a slash)");
    Err(Error::new(ErrorKind::Invalid, sentence).at(name, None))
}

/// The path with its links followed, as far as it is there: what is not is found out by those who open it.
pub(super) fn resolved(path: &Path) -> PathBuf {
    if let Ok(whole) = path.canonicalize() {
        return whole;
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return path.to_owned();
    };
    match folder.canonicalize() {
        Ok(folder) => folder.join(name),
        Err(cause) => {
            log::debug(&format!("{} cannot be resolved: {cause}", path.display()));
            path.to_owned()
        }
    }
}
