//! Power cuts on demand: a disk in memory that yields every state a power cut could leave of it.
//!
//! A [`CrashDisk`] holds media under names, as one [folder](CrashFolder). All writes, punches, discards, length
//! changes, namings and syncs go into one log, in the order in which they happen; two threads are put in some
//! order. A test runs real code on it, then looks at each [`Cut`]:
//!
//! ```
//! use image::Medium;
//! use testkit::crash::CrashDisk;
//!
//! let disk = CrashDisk::new();
//! let medium = disk.add("table", b"old");
//! medium.write_at(b"new", 0)?;
//! medium.sync()?;
//! let written = disk.operations();
//! disk.each_cut(|cut, disk| {
//!     let found = disk.bytes("table").unwrap();
//!     assert!(found == b"new" || found == b"old" && cut.after() < written);
//! });
//! # Ok::<(), image::Error>(())
//! ```
//!
//! # The model
//!
//! It is the contract of [`Medium`] and [`Folder`], taken at its worst. After a cut:
//!
//! - Of each medium, everything before its last [`sync`](Medium::sync) is there. Of what came after, any subset
//!   is there, independent of other media and of namings, each of it whole or torn.
//! - A torn write has any subset of its 512-byte sectors, or a first part that ends at a sector. Punches and
//!   discards tear alike; a length change is there or not.
//! - A write past the end is a write and a length change, and either may be there without the other: the new
//!   length may stand over zeroes, and a torn write may end the medium before its own end.
//! - Namings before the last [`sync`](Folder::sync) of the folder are there. Of those after, the first so many
//!   are, for each number from none to all. A medium that has lost its name is gone.
//! - What was discarded reads as garbage at once, so that nobody relies on it.
//!
//! # What it assumes
//!
//! - A sync that returned is true, and one sector is written whole or not at all.
//! - What a write does not touch it does not harm, the rest of its sectors included.
//! - Writes that survive take effect in their order: of two on one place, the earlier never covers the later.
//! - Media that were [added](CrashDisk::add) were durable, names included, before the first operation.
//!
//! # How many states
//!
//! All of them for a cut where they are few; else all sets of whole changes with a sample of torn ones; else a
//! sample that includes none, all, each one alone, and all but each one. See [`Cuts`].

mod content;
mod cuts;
mod fate;
mod folder;
mod medium;
mod picture;
mod plan;
#[cfg(test)]
mod tests;

pub use cuts::{Cut, Cuts};
pub use folder::CrashFolder;
pub use medium::CrashMedium;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::image::{Error, ErrorKind, Result};
#[cfg(doc)]
use ::image::{Folder, Medium};

use content::Content;
use picture::{Op, Picture};

/// Media under names whose power can be cut. Clones are the same disk.
#[derive(Clone, Default)]
pub struct CrashDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// What was durable before the first operation.
    start: Image,
    log: Vec<Op>,
    /// What a running program sees.
    live: Image,
    plug: Plug,
}

/// Names, and the files that they stand for.
#[derive(Clone, Default)]
struct Image {
    names: BTreeMap<OsString, FileId>,
    files: BTreeMap<FileId, File>,
}

type FileId = usize;

/// The bytes under a name, or of an open medium that has none any more.
#[derive(Clone)]
struct File {
    /// The name under which it came into being.
    label: String,
    /// Whether its length stays as it is.
    fixed: bool,
    content: Content,
}

#[derive(Clone, Copy, Default)]
enum Plug {
    #[default]
    In,
    PulledAfter(usize),
    Out,
}

impl CrashDisk {
    /// A disk without media.
    pub fn new() -> Self {
        CrashDisk::default()
    }

    /// Puts a medium that can grow under `name`: its bytes and its name have been durable for long.
    ///
    /// # Panics
    ///
    /// If the name is taken.
    pub fn add(&self, name: impl AsRef<OsStr>, bytes: &[u8]) -> CrashMedium {
        self.put(name.as_ref(), bytes, false)
    }

    /// Puts a medium that keeps its length under `name`, as a device.
    ///
    /// # Panics
    ///
    /// If the name is taken.
    pub fn add_fixed(&self, name: impl AsRef<OsStr>, bytes: &[u8]) -> CrashMedium {
        self.put(name.as_ref(), bytes, true)
    }

    /// The medium under `name`, if there is one.
    pub fn medium(&self, name: impl AsRef<OsStr>) -> Option<CrashMedium> {
        let state = self.state();
        let &id = state.live.names.get(name.as_ref())?;
        Some(self.handle(id, name.as_ref()))
    }

    /// All media by their names.
    pub fn folder(&self) -> CrashFolder {
        CrashFolder(self.clone())
    }

    /// The names there are, in order.
    pub fn names(&self) -> Vec<OsString> {
        self.state().live.names.keys().cloned().collect()
    }

    /// All bytes of the medium under `name`, if there is one; with the plug pulled too.
    pub fn bytes(&self, name: impl AsRef<OsStr>) -> Option<Vec<u8>> {
        let state = self.state();
        let id = state.live.names.get(name.as_ref())?;
        Some(state.live.files[id].content.to_vec())
    }

    /// How many operations were logged so far: writes, punches, discards, length changes, namings and syncs.
    pub fn operations(&self) -> usize {
        self.state().log.len()
    }

    /// Pulls the plug while the program still runs: once `operations` have been logged in all, everything fails
    /// with [`ErrorKind::Io`]. The operation that is under way then may or may not have had its effect: it
    /// is in the last cut.
    pub fn pull_plug_after(&self, operations: usize) {
        self.state().plug = Plug::PulledAfter(operations);
    }

    /// The states that power cuts could have left: one cut after each operation so far, one before the first.
    pub fn cuts(&self) -> Cuts {
        let state = self.state();
        Cuts::new(Picture::new(state.start.clone()), state.log.clone())
    }

    /// The states that a power cut could leave now.
    pub fn cuts_now(&self) -> Cuts {
        let last = self.operations();
        self.cuts().within(last..=last)
    }

    /// Calls `check` for each state of [`cuts`](CrashDisk::cuts), and says how many there were.
    ///
    /// # Panics
    ///
    /// If `check` does: the message then tells the cut.
    pub fn each_cut(&self, check: impl FnMut(&Cut, CrashDisk)) -> usize {
        self.cuts().check_each(check)
    }

    fn of(start: Image) -> Self {
        let live = start.clone();
        CrashDisk(Arc::new(Mutex::new(State { start, live, ..State::default() })))
    }

    fn put(&self, name: &OsStr, bytes: &[u8], fixed: bool) -> CrashMedium {
        let mut state = self.state();
        let taken = state.live.names.contains_key(name) || state.start.names.contains_key(name);
        assert!(!taken, "the name {} is taken", name.display());
        let id = state.new_id();
        let file = File { fixed, content: Content::of(bytes), ..File::empty(name) };
        state.start.put(name, id, file.clone());
        state.live.put(name, id, file);
        drop(state);
        self.handle(id, name)
    }

    fn handle(&self, id: FileId, name: &OsStr) -> CrashMedium {
        CrashMedium::new(self.clone(), id, name.to_string_lossy().into_owned())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new_id(&self) -> FileId {
        let highest = |image: &Image| image.files.keys().next_back().map_or(0, |id| id + 1);
        highest(&self.live).max(highest(&self.start))
    }

    /// Fails if the plug is out by now.
    fn powered(&mut self, what: impl fmt::Display) -> Result<()> {
        if let Plug::PulledAfter(operations) = self.plug
            && self.log.len() >= operations
        {
            self.plug = Plug::Out;
        }
        match self.plug {
            Plug::Out => Err(Error::new(ErrorKind::Io, format!("cannot {what}: the power is off"))),
            Plug::In | Plug::PulledAfter(_) => Ok(()),
        }
    }

    /// Logs `op`, which `permit` may refuse, and lets the program see it; or fails if the plug is out by now.
    fn perform(&mut self, op: Op, permit: impl FnOnce(&Image) -> Result<()>) -> Result<()> {
        let had_power = !matches!(self.plug, Plug::Out);
        let powered = self.powered(&op);
        if powered.is_ok() {
            permit(&self.live)?;
            op.apply(&mut self.live);
            self.log.push(op);
        } else if had_power && !op.is_sync() && permit(&self.live).is_ok() {
            // Under way while the plug was pulled: nobody knows whether it came through.
            self.log.push(op);
        }
        powered
    }
}

impl Image {
    fn put(&mut self, name: &OsStr, id: FileId, file: File) {
        self.names.insert(name.to_owned(), id);
        self.files.insert(id, file);
    }
}

impl File {
    fn empty(name: &OsStr) -> Self {
        let label = name.to_string_lossy().into_owned();
        File { label, fixed: false, content: Content::default() }
    }
}
