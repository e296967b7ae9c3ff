//! The daemon that graphical programs start and talk to: apart-core's protocol over a PAIR socket.
//!
//! One thread has the line to the client, and never waits for anything but it. Jobs, looks at disks, and whatever else
//! may hang run on threads of their own and post what happened.

mod clones;
mod deletes;
mod inbound;
mod line;
mod log;
mod outbound;
mod restores;
mod settings;
mod sources;
mod view;
mod work;
mod yaml;

use std::collections::BTreeMap;
use std::os::unix::process::parent_id;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use engine::jobs::{JobId, Jobs};
use engine::{Error, ErrorKind, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use inbound::{Rejection, Request};
use line::{Line, Presence};
use settings::{OnDisconnect, Settings};
use sources::{Sources, Ticket};
use view::{Kind, View};
use work::{Event, Work};

use crate::journal;

/// What addresses begin with.
pub(crate) const SCHEME: &str = "ipc://";

/// A client waits so long for disks to be looked at before it is shown what was seen before; at the start, so long.
const STATUS_WITHIN: Duration = Duration::from_millis(700);
const STARTED_WITHIN: Duration = Duration::from_secs(10);
/// A client that is gone may come again within this time.
const AWAY: Duration = Duration::from_secs(5);
/// At the end, jobs have so long to stop, and what they said to be handed over.
const STOP_WITHIN: Duration = Duration::from_millis(500);
const HAND_OVER_WITHIN: Duration = Duration::from_millis(300);
/// What lists disks has so long to be ended.
const GIVE_UP_WITHIN: Duration = Duration::from_millis(200);
/// So often jobs are looked at, and the rest.
const TICK: Duration = Duration::from_millis(50);
const IDLE: Duration = Duration::from_millis(500);
/// Requests that come before the first message has gone out, more of which are not kept.
const EARLY_MAX: usize = 100;

/// Serves the client at `address` until it is told to end, or the client is gone. A fatal error is an exit code other
/// than 0; the client is told of the end all the same.
pub(crate) fn serve(address: &str) -> ExitCode {
    let mut core = match Core::start(address) {
        Ok(core) => core,
        Err(error) => {
            log::error(&error.full_sentence());
            return ExitCode::FAILURE;
        }
    };
    let run = catch_unwind(AssertUnwindSafe(|| core.run()));
    let run = run.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Io, "a mistake in the program has ended it"))
    });
    if let Err(error) = &run {
        log::error(&error.full_sentence());
    }
    core.end();
    match run {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Removes the unfinished images of daemons and programs that were killed.
fn clean(jobs: &Jobs) {
    let cleaning = journal::clean(jobs, |removed| match removed {
        Ok(path) => log::info(&format!("removed {}, of a job that was killed", path.display())),
        Err(error) => log::error(&error.full_sentence()),
    });
    if let Err(error) = cleaning {
        log::error(&error.full_sentence());
    }
}

/// What the thread has that has the line.
struct Core {
    line: Line,
    work: Work,
    events: Receiver<Event>,
    views: BTreeMap<JobId, View>,
    /// Set by signals.
    is_told_to_end: Arc<AtomicBool>,
    /// The look at disks that the first message waits for.
    first_look: Ticket,
    has_started: bool,
    started: Instant,
    early: Vec<Vec<u8>>,
    /// Who wants to know what disks there are: each since when, and from which look on.
    asking: Vec<(Ticket, Instant)>,
    parent: u32,
    /// Since when we are somebody else's child, though no client has ever come.
    orphaned: Option<Instant>,
    has_said_that_it_goes_on: bool,
}

impl Core {
    fn start(address: &str) -> Result<Self> {
        let settings = Settings::from_environment();
        let line = Line::connect(address)?;
        let is_told_to_end: Arc<AtomicBool> = Arc::default();
        for signal in [SIGTERM, SIGINT, SIGHUP] {
            let registered = signal_hook::flag::register(signal, Arc::clone(&is_told_to_end))
                .and_then(|_| line.wake().on_signal(signal));
            registered.map_err(|cause| Error::io("cannot listen to signals", cause))?;
        }
        let wake = line.wake();
        let sources = Sources::start(settings.lsblk.clone(), move || wake.wake())?;
        let first_look = sources.ask();
        let jobs = Jobs::new(settings.journal.clone()).or_else(|error| {
            log::error(&error.full_sentence());
            Jobs::new(None)
        })?;
        clean(&jobs);
        let (post, events) = mpsc::channel();
        let work = Work::new(settings, jobs, sources, post, line.wake());
        Ok(Core {
            line,
            work,
            events,
            views: BTreeMap::new(),
            is_told_to_end,
            first_look,
            has_started: false,
            started: Instant::now(),
            early: Vec::new(),
            asking: Vec::new(),
            parent: parent_id(),
            orphaned: None,
            has_said_that_it_goes_on: false,
        })
    }

    /// Until somebody wants an end.
    fn run(&mut self) -> Result<()> {
        loop {
            let busy = !self.views.is_empty() || !self.asking.is_empty() || !self.has_started;
            self.line.wait(if busy { TICK } else { IDLE })?;
            if self.is_told_to_end.load(Ordering::Relaxed) {
                log::info("a signal has come: the end");
                return Ok(());
            }
            while let Some(message) = self.line.hear()? {
                if self.take(message) {
                    return Ok(());
                }
            }
            self.take_events();
            self.say_status();
            self.say_news();
            if self.is_abandoned() {
                return Ok(());
            }
        }
    }

    /// Stops all, says so, and says goodbye.
    fn end(&mut self) {
        self.work.jobs.stop(STOP_WITHIN);
        self.take_events();
        // A job that hangs in the kernel does not keep us.
        let cancelled = Error::new(ErrorKind::Cancelled, "interrupted");
        for view in std::mem::take(&mut self.views).into_values() {
            view.ended(Err(&cancelled)).into_iter().for_each(|message| self.say(message));
        }
        self.say(outbound::dying());
        self.line.hand_over(HAND_OVER_WITHIN);
        self.work.sources.end(GIVE_UP_WITHIN);
    }

    /// Takes a message, and says whether it asks for the end.
    fn take(&mut self, message: Vec<u8>) -> bool {
        let request = inbound::read(&message);
        if request == Ok(Request::Kill) {
            log::info("the client wants an end");
            return true;
        }
        if self.has_started {
            self.answer(request);
        } else if self.early.len() < EARLY_MAX {
            self.early.push(message);
        }
        false
    }

    fn answer(&mut self, request: Result<Request, Rejection>) {
        let request = match request {
            Ok(request) => request,
            Err(Rejection { request, id, reason }) => {
                log::warn(&format!("a request is rejected: {reason}"));
                let answer = outbound::request_rejected(request.as_deref(), id.as_deref(), &reason);
                return self.say(answer);
            }
        };
        log::debug(&format!("a request has come: {request:?}"));
        match request {
            Request::Status => self.asking.push((self.work.sources.ask(), Instant::now())),
            Request::Clone { source, destination, name, compression } => {
                let Some(id) = self.enter(Kind::Clone, &source.shown(), &destination.shown())
                else {
                    return;
                };
                clones::start(
                    &self.work,
                    id,
                    clones::Wish { source, destination, name, compression },
                );
            }
            Request::Restore { source, destination } => {
                let Some(id) = self.enter(Kind::Restore, &source.shown(), &destination.shown())
                else {
                    return;
                };
                restores::start(&self.work, id, restores::Wish { source, destination });
            }
            Request::CancelClone { id } => self.cancel(Kind::Clone, "cancel-clone", &id),
            Request::CancelRestore { id } => self.cancel(Kind::Restore, "cancel-restore", &id),
            Request::Delete { file } => deletes::start(&self.work, file),
            Request::Kill => {}
        }
    }

    /// Makes the view of a new job.
    fn enter(&mut self, kind: Kind, source: &str, destination: &str) -> Option<JobId> {
        match JobId::new() {
            Ok(id) => {
                let view = View::new(id.clone(), kind, source.to_string(), destination.to_string());
                self.views.insert(id.clone(), view);
                Some(id)
            }
            Err(error) => {
                self.say(outbound::request_rejected(None, None, &error.full_sentence()));
                None
            }
        }
    }

    fn cancel(&mut self, kind: Kind, request: &str, id: &str) {
        let known = JobId::parse(id).and_then(|number| {
            let view = self.views.get_mut(&number).filter(|view| view.kind() == kind)?;
            Some((number, view))
        });
        match known {
            // One that has ended meanwhile has its end on the way.
            Some((number, view)) => {
                if self.work.jobs.cancel(&number) {
                    view.cancelled();
                }
            }
            None => {
                let reason = "no such job runs: it may have ended";
                self.say(outbound::request_rejected(Some(request), Some(id), reason));
            }
        }
    }

    fn take_events(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.take_event(event);
        }
    }

    fn take_event(&mut self, event: Event) {
        match event {
            Event::Named { id, source, destination, source_uuid } => {
                if let Some(view) = self.views.get_mut(&id) {
                    view.named(source, destination, source_uuid);
                }
            }
            Event::Ready { id } => {
                if let Some(view) = self.views.get_mut(&id) {
                    view.ready();
                }
            }
            Event::Heard { id, report } => {
                if let Some(view) = self.views.get_mut(&id) {
                    view.heard(report);
                }
            }
            Event::Ended { id, result } => {
                match &result {
                    Ok(_) => log::info(&format!("job {id} has ended well")),
                    Err(error) if error.kind() == ErrorKind::Cancelled => {
                        log::info(&format!("job {id} is cancelled"));
                    }
                    Err(error) => log::error(&format!("job {id}: {}", error.full_sentence())),
                }
                if let Some(view) = self.views.remove(&id) {
                    let messages = view.ended(result.as_ref().cloned());
                    messages.into_iter().for_each(|message| self.say(message));
                }
            }
            Event::Answered { message } => self.say(message),
        }
        // What a job says is told between its events, as far as it is due.
        self.say_news();
    }

    fn say_status(&mut self) {
        let sources = &self.work.sources;
        let is_late = |since: Instant, within: Duration| since.elapsed() >= within;
        if !self.has_started {
            if !sources.is_done(self.first_look) && !is_late(self.started, STARTED_WITHIN) {
                return;
            }
            self.has_started = true;
            let disks = sources.latest();
            self.say(outbound::status("started", &disks));
            for message in std::mem::take(&mut self.early) {
                self.answer(inbound::read(&message));
            }
        }
        let before = self.asking.len();
        let sources = self.work.sources.clone();
        self.asking
            .retain(|&(ticket, since)| !sources.is_done(ticket) && !is_late(since, STATUS_WITHIN));
        let disks = sources.latest();
        for _ in self.asking.len()..before {
            self.say(outbound::status("running", &disks));
        }
    }

    fn say_news(&mut self) {
        let has_stand_in = self.work.settings.stand_in.is_some();
        for (id, view) in &mut self.views {
            // A stand-in for partclone says itself how far it is.
            if !has_stand_in && let Some(standing) = self.work.jobs.standing(id) {
                view.stands(&standing);
            }
            while let Some(message) = view.due() {
                self.line.say_news(message);
            }
        }
    }

    fn say(&mut self, message: String) {
        log::debug(&format!("said: {message}"));
        self.line.say(message);
    }

    /// Whether the client is gone for good, and nothing is left to do.
    fn is_abandoned(&mut self) -> bool {
        let gone = match self.line.presence() {
            Presence::Here => None,
            Presence::Gone(since) => Some(since),
            // Nobody has come yet. As long as whoever started us is there, somebody may.
            Presence::Awaited if parent_id() == self.parent => None,
            Presence::Awaited => Some(*self.orphaned.get_or_insert_with(Instant::now)),
        };
        if gone.is_none_or(|since| since.elapsed() < AWAY) {
            self.has_said_that_it_goes_on = false;
            return false;
        }
        self.line.forget();
        let running = self.work.jobs.running();
        if running == 0 || self.work.settings.on_disconnect == OnDisconnect::Cancel {
            log::info("the client is gone: the end");
            return true;
        }
        if !self.has_said_that_it_goes_on {
            self.has_said_that_it_goes_on = true;
            log::warn(&format!("the client is gone: {running} jobs come to their end first"));
        }
        false
    }
}
