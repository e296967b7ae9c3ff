//! The disks that a client is shown, looked at on a thread of its own: a disk that hangs holds up nobody else.

mod lsblk;
mod own;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use engine::{Error, Result};

use super::log;

/// A disk with partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Disk {
    /// Without `/dev/`.
    pub(super) name: String,
    pub(super) size_bytes: u64,
    pub(super) parts: Vec<Part>,
}

/// A partition, or what is built on one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    /// Without `/dev/`.
    pub(super) name: String,
    pub(super) size_bytes: u64,
    /// How it is in use, in words that go with its name: `is mounted at /mnt`.
    pub(super) in_use: Option<String>,
    /// The filesystem, as lsblk names it.
    pub(super) kind: Option<String>,
    pub(super) label: Option<String>,
    pub(super) uuid: Option<String>,
}

/// The disks as they were last seen, and somebody who looks again when asked. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(super) struct Sources(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// How many looks were asked for, and up to which one they are done.
    asked: u64,
    done: u64,
    disks: Arc<Vec<Disk>>,
    /// Which look showed them: the last one that did not fail.
    seen: u64,
    is_looking: bool,
    /// Nobody wants to know any more.
    is_ended: bool,
}

/// A look that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket(u64);

impl Sources {
    /// Starts whoever looks. `on_look` is called after each look, from there.
    pub(super) fn start(
        lsblk: Option<PathBuf>,
        on_look: impl Fn() + Send + 'static,
    ) -> Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let sources = Sources(Arc::clone(&shared));
        let looking = sources.clone();
        let look = move || {
            while let Some(ticket) = looking.wait_for_wish() {
                looking.put(ticket, list(lsblk.as_deref(), &|| !looking.lock().is_ended));
                on_look();
            }
        };
        match thread::Builder::new().name("sources".to_string()).spawn(look) {
            Ok(_) => Ok(sources),
            Err(cause) => Err(Error::io("cannot start a thread that looks at disks", cause)),
        }
    }

    /// Asks for a look. Several wishes that come while one is made are granted by the next one together.
    pub(super) fn ask(&self) -> Ticket {
        let mut state = self.lock();
        state.asked += 1;
        self.0.changed.notify_all();
        Ticket(state.asked)
    }

    /// Whether that look has been made.
    pub(super) fn is_done(&self, ticket: Ticket) -> bool {
        self.lock().done >= ticket.0
    }

    /// What was seen last.
    pub(super) fn latest(&self) -> Arc<Vec<Disk>> {
        Arc::clone(&self.lock().disks)
    }

    /// What a new look sees, and true; what was seen last, and false, if it fails or takes longer than `within`.
    pub(super) fn fresh(&self, within: Duration) -> (Arc<Vec<Disk>>, bool) {
        let ticket = self.ask();
        let waited =
            self.0.changed.wait_timeout_while(self.lock(), within, |state| state.done < ticket.0);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        (Arc::clone(&state.disks), state.seen >= ticket.0)
    }

    /// Looks no more, and waits at most `within` until the look that is being made is given up.
    pub(super) fn end(&self, within: Duration) {
        let mut state = self.lock();
        state.is_ended = true;
        self.0.changed.notify_all();
        drop(self.0.changed.wait_timeout_while(state, within, |state| state.is_looking));
    }

    /// The next look that is wanted; `None` at the end.
    fn wait_for_wish(&self) -> Option<Ticket> {
        let is_idle = |state: &mut State| state.asked == state.done && !state.is_ended;
        let waited = self.0.changed.wait_while(self.lock(), is_idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.is_looking = !state.is_ended;
        state.is_looking.then_some(Ticket(state.asked))
    }

    fn put(&self, ticket: Ticket, disks: Option<Vec<Disk>>) {
        let mut state = self.lock();
        state.done = ticket.0;
        state.is_looking = false;
        if let Some(disks) = disks {
            state.disks = Arc::new(disks);
            state.seen = ticket.0;
        }
        self.0.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The part whose device is `path`, links not followed.
pub(super) fn part_at<'a>(disks: &'a [Disk], path: &Path) -> Option<&'a Part> {
    let name = path.strip_prefix("/dev").ok()?.to_str()?;
    disks.iter().flat_map(|disk| &disk.parts).find(|part| part.name == name)
}

/// By lsblk, else by ourselves; `None` if neither works, so that what was seen before stands.
fn list(lsblk: Option<&Path>, is_wanted: &dyn Fn() -> bool) -> Option<Vec<Disk>> {
    match lsblk::list(lsblk, is_wanted) {
        Ok(disks) => return Some(disks),
        Err(error) => log::error(&error.full_sentence()),
    }
    // A stand-in for lsblk shows disks that are not there: those that are would be a surprise.
    if lsblk.is_some() || !is_wanted() {
        return None;
    }
    own::list().map_err(|error| log::error(&error.full_sentence())).ok()
}
