//! Who works on a store now, and the locks that keep a chunk from vanishing between two looks at it.
//!
//! ```text
//! .blockprint/lock             shared: a look at a chunk, and the refreshing of its time; exclusive: removing
//! .blockprint/turnstile        whoever removes passes it first, so that those who look cannot keep him out
//! .blockprint/writers/<name>   one for each writer, locked exclusively as long as it lives
//! ```
//!
//! A writer begins when its file was made. It makes each chunk that it needs at least that young; whoever removes
//! leaves alone what is not older than the oldest living writer. So time is only ever compared between files of one
//! filesystem. Nobody else's tools are in the way of this, and none of theirs are kept from anything.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, Timespec, Timestamps};
use rustix::io::{Errno, retry_on_intr};

use super::time::{modified, timespec};

/// casync's gc looks into folders only, and desync takes no file for a chunk whose name is none.
const FOLDER: &str = ".blockprint";
const LOCK: &str = ".blockprint/lock";
const TURNSTILE: &str = ".blockprint/turnstile";
const WRITERS: &str = ".blockprint/writers";
/// So long the threads of one process may hold the shared lock in turns, before somebody who waits comes in.
const TURN: Duration = Duration::from_millis(10);

/// The part of this process in the order of the house.
#[derive(Debug, Default)]
pub(super) struct Writers {
    writer: OnceLock<Writer>,
    beginning: Mutex<()>,
}

impl Writers {
    /// This writer; it begins here if it did not yet.
    pub(super) fn join(&self, store: impl AsFd) -> Result<&Writer, Errno> {
        if let Some(writer) = self.writer.get() {
            return Ok(writer);
        }
        let _one = held(&self.beginning);
        if self.writer.get().is_none() {
            let writer = Writer::begin(store.as_fd())?;
            return Ok(self.writer.get_or_init(|| writer));
        }
        Ok(self.writer.get().expect("somebody else just made it"))
    }

    /// It has ended: nothing protects any more what it used.
    pub(super) fn leave(&mut self, store: impl AsFd) {
        if let Some(writer) = self.writer.take() {
            // Left behind, it is found without its lock, and removed then.
            let _ = rustix::fs::unlinkat(store, &writer.name, AtFlags::empty());
        }
    }
}

/// A writer that is known to whoever removes.
#[derive(Debug)]
pub(super) struct Writer {
    name: String,
    file: OwnedFd,
    beginning: Mutex<SystemTime>,
    gate: Gate,
}

impl Writer {
    fn begin(store: impl AsFd) -> Result<Self, Errno> {
        let store = store.as_fd();
        make_folders(store)?;
        let gate = Gate::open(store)?;
        // Somebody who removes would take a file without a lock for that of a dead writer.
        let passed = gate.pass()?;
        let (name, file) = loop {
            let name = format!("{WRITERS}/{:016x}", fastrand::u64(..));
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            match rustix::fs::openat(store, &name, flags, Mode::from_raw_mode(0o666)) {
                Err(Errno::EXIST) => {}
                other => break (name, other?),
            }
        };
        let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
            .and_then(|()| rustix::fs::fstat(&file));
        let beginning = match locked {
            Ok(status) => modified(&status),
            Err(errno) => {
                let _ = rustix::fs::unlinkat(store, &name, AtFlags::empty());
                return Err(errno);
            }
        };
        drop(passed);
        Ok(Writer { name, file, beginning: Mutex::new(beginning), gate })
    }

    /// While this is held, nobody removes anything.
    pub(super) fn look(&self) -> Result<Passed<'_>, Errno> {
        self.gate.pass()
    }

    /// What is younger, or as old, is safe.
    pub(super) fn beginning(&self) -> SystemTime {
        *held(&self.beginning)
    }

    /// It made a file that is so old. If that lies before its beginning, the clock was set back: it began then.
    pub(super) fn made(&self, modified: SystemTime) -> Result<(), Errno> {
        let mut beginning = held(&self.beginning);
        if modified < *beginning {
            let time = timespec(modified);
            let times = Timestamps { last_access: time, last_modification: time };
            rustix::fs::futimens(&self.file, &times)?;
            *beginning = modified;
        }
        Ok(())
    }
}

/// Held while nobody else may look at chunks, refresh them, or begin to write.
#[derive(Debug)]
pub(super) struct Alone {
    /// The beginning of the oldest writer that lives.
    pub(super) oldest: Option<SystemTime>,
    lock: OwnedFd,
}

impl Alone {
    /// Waits until nobody looks at a chunk, then counts who lives.
    pub(super) fn with(store: impl AsFd) -> Result<Self, Errno> {
        let store = store.as_fd();
        make_folders(store)?;
        let (turnstile, lock) = (open(store, TURNSTILE)?, open(store, LOCK)?);
        retry_on_intr(|| rustix::fs::flock(&turnstile, FlockOperation::LockExclusive))?;
        retry_on_intr(|| rustix::fs::flock(&lock, FlockOperation::LockExclusive))?;
        drop(turnstile);
        Ok(Alone { oldest: oldest_living(store)?, lock })
    }

    /// Now, by the clock of the filesystem, or the beginning of the oldest writer that lives.
    pub(super) fn settled(&self) -> Result<SystemTime, Errno> {
        let now = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
        rustix::fs::futimens(&self.lock, &Timestamps { last_access: now, last_modification: now })?;
        Ok(self.limit(modified(&rustix::fs::fstat(&self.lock)?)))
    }

    /// What is younger than this, or as old, stays.
    pub(super) fn limit(&self, unused_since: SystemTime) -> SystemTime {
        self.oldest.map_or(unused_since, |oldest| oldest.min(unused_since))
    }
}

fn oldest_living(store: impl AsFd) -> Result<Option<SystemTime>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(store, WRITERS, flags, Mode::empty())?;
    let mut oldest: Option<SystemTime> = None;
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = match rustix::fs::openat(&folder, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno),
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
                // One that cannot be removed does no harm: it is dead next time too.
                Ok(()) | Err(Errno::NOENT | Errno::PERM | Errno::ACCESS) => {}
                Err(errno) => return Err(errno),
            },
            Err(Errno::WOULDBLOCK) => {
                let beginning = modified(&rustix::fs::fstat(&file)?);
                oldest = Some(oldest.map_or(beginning, |other| other.min(beginning)));
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(oldest)
}

/// The shared lock, for the threads of one store. They hold it together: the first takes it, the last gives it
/// back. When their turn is over, they let each other out, and pass the turnstile again.
#[derive(Debug)]
struct Gate {
    lock: OwnedFd,
    turnstile: OwnedFd,
    state: Mutex<GateState>,
    emptied: Condvar,
}

#[derive(Debug)]
struct GateState {
    inside: u32,
    waiting: u32,
    turn: Option<Instant>,
}

impl Gate {
    fn open(store: impl AsFd) -> Result<Self, Errno> {
        let store = store.as_fd();
        Ok(Gate {
            lock: open(store, LOCK)?,
            turnstile: open(store, TURNSTILE)?,
            state: Mutex::new(GateState { inside: 0, waiting: 0, turn: None }),
            emptied: Condvar::new(),
        })
    }

    fn pass(&self) -> Result<Passed<'_>, Errno> {
        let mut state = held(&self.state);
        loop {
            let is_over = state.turn.is_none_or(|began| began.elapsed() >= TURN);
            if state.inside == 0 {
                if is_over {
                    // Blocks while somebody waits for the exclusive lock, which nobody here holds back now.
                    let wait = FlockOperation::LockShared;
                    retry_on_intr(|| rustix::fs::flock(&self.turnstile, wait))?;
                    rustix::fs::flock(&self.turnstile, FlockOperation::Unlock)?;
                    state.turn = Some(Instant::now());
                }
                retry_on_intr(|| rustix::fs::flock(&self.lock, FlockOperation::LockShared))?;
            } else if is_over {
                state.waiting += 1;
                state = self.emptied.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.waiting -= 1;
                continue;
            }
            state.inside += 1;
            return Ok(Passed { gate: self });
        }
    }
}

/// A share in the shared lock.
#[derive(Debug)]
pub(super) struct Passed<'a> {
    gate: &'a Gate,
}

impl Drop for Passed<'_> {
    fn drop(&mut self) {
        let mut state = held(&self.gate.state);
        state.inside -= 1;
        if state.inside == 0 {
            // Cannot fail: the descriptor is open, and unlocking waits for nothing.
            let _ = rustix::fs::flock(&self.gate.lock, FlockOperation::Unlock);
            if state.waiting > 0 {
                self.gate.emptied.notify_all();
            }
        }
    }
}

fn make_folders(store: impl AsFd) -> Result<(), Errno> {
    let store = store.as_fd();
    let mode = Mode::from_raw_mode(0o777);
    match rustix::fs::mkdirat(store, WRITERS, mode) {
        Err(Errno::NOENT) => {}
        Ok(()) | Err(Errno::EXIST) => return Ok(()),
        Err(errno) => return Err(errno),
    }
    for folder in [FOLDER, WRITERS] {
        match rustix::fs::mkdirat(store, folder, mode) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Opens a file to lock it. NFS locks exclusively only what is open for writing.
fn open(folder: impl AsFd, name: impl rustix::path::Arg + Copy) -> Result<OwnedFd, Errno> {
    let folder = folder.as_fd();
    let flags = OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mode = Mode::from_raw_mode(0o666);
    match rustix::fs::openat(folder, name, flags | OFlags::RDWR, mode) {
        Err(Errno::ACCESS) => rustix::fs::openat(folder, name, flags | OFlags::RDONLY, mode),
        other => other,
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::fs::File;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use testkit::host::TempDir;

    use super::*;

    fn writers_in(store: &TempDir) -> usize {
        fs::read_dir(store.join(WRITERS)).unwrap().count()
    }

    #[test]
    fn the_oldest_living_writer_counts_and_the_dead_are_removed() {
        let scratch = TempDir::new("writers");
        let store = File::open(scratch.path()).unwrap();
        assert_eq!(Alone::with(&store).unwrap().oldest, None);
        let (mut first, second) = (Writers::default(), Writers::default());
        let beginning = first.join(&store).unwrap().beginning();
        std::thread::sleep(Duration::from_millis(30));
        let later = second.join(&store).unwrap().beginning();
        fs::write(scratch.join(WRITERS).join("0123456789abcdef"), "").unwrap();
        assert!(beginning < later);
        assert_eq!(Alone::with(&store).unwrap().oldest, Some(beginning));
        assert_eq!(writers_in(&scratch), 2, "the dead one stayed, or a living one went");
        first.leave(&store);
        assert_eq!(Alone::with(&store).unwrap().oldest, Some(later));
        // As if it had been killed: its lock goes, its file stays.
        drop(second);
        assert_eq!(writers_in(&scratch), 1);
        assert_eq!(Alone::with(&store).unwrap().oldest, None);
        assert_eq!(writers_in(&scratch), 0);
    }

    #[test]
    fn a_writer_whose_clock_was_set_back_began_then() {
        let scratch = TempDir::new("writers");
        let store = File::open(scratch.path()).unwrap();
        let writers = Writers::default();
        let writer = writers.join(&store).unwrap();
        let beginning = writer.beginning();
        writer.made(beginning + Duration::from_secs(5)).unwrap();
        assert_eq!(writer.beginning(), beginning);
        let before = beginning - Duration::from_secs(3600);
        writer.made(before).unwrap();
        assert_eq!(writer.beginning(), before);
        assert_eq!(Alone::with(&store).unwrap().oldest, Some(before));
    }

    #[test]
    fn nobody_looks_while_somebody_is_alone() {
        let scratch = TempDir::new("writers");
        let store = File::open(scratch.path()).unwrap();
        let writers = Writers::default();
        let writer = writers.join(&store).unwrap();
        let (looking, is_over) = (AtomicU32::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Acquire) {
                        let passed = writer.look().unwrap();
                        looking.fetch_add(1, Ordering::AcqRel);
                        std::hint::spin_loop();
                        looking.fetch_sub(1, Ordering::AcqRel);
                        drop(passed);
                    }
                });
            }
            // Those who look do so without a pause, and yet let it in each time.
            for _ in 0..50 {
                let alone = Alone::with(&store).unwrap();
                for _ in 0..100 {
                    assert_eq!(looking.load(Ordering::Acquire), 0);
                }
                drop(alone);
            }
            is_over.store(true, Ordering::Release);
        });
    }

    #[test]
    fn somebody_who_waits_to_be_alone_comes_before_those_who_come_back() {
        let scratch = TempDir::new("writers");
        let store = File::open(scratch.path()).unwrap();
        let writers = Writers::default();
        let writer = writers.join(&store).unwrap();
        let was_alone = AtomicU32::new(0);
        for round in 1..=20 {
            std::thread::scope(|scope| {
                let passed = writer.look().unwrap();
                scope.spawn(|| {
                    let alone = Alone::with(&store).unwrap();
                    was_alone.fetch_add(1, Ordering::AcqRel);
                    drop(alone);
                });
                let turnstile = open(&store, TURNSTILE).unwrap();
                let wait = FlockOperation::NonBlockingLockShared;
                while rustix::fs::flock(&turnstile, wait).is_ok() {
                    rustix::fs::flock(&turnstile, FlockOperation::Unlock).unwrap();
                    std::thread::yield_now();
                }
                std::thread::sleep(TURN);
                drop(passed);
                let _again = writer.look().unwrap();
                assert_eq!(was_alone.load(Ordering::Acquire), round);
            });
        }
    }
}
