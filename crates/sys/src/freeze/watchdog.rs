//! The process that thaws when nobody else does.
//!
//! It is a fork of this one that executes nothing: it waits on a pipe for this process to end, or for the time
//! to be up, and thaws what a page of shared memory says is frozen. It uses only system calls that are
//! permitted after a fork, takes no memory, and lets no signal but SIGKILL disturb it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::pipe::PipeFlags;

use crate::ioctl;

/// A watchdog that is running.
#[derive(Debug)]
pub(super) struct Watchdog {
    board: Board,
    /// The watchdog wakes when the last copy of it is closed by our death, or a byte is written to it. The
    /// byte is for a sibling watchdog, forked later, that holds a copy too.
    lifeline: Option<OwnedFd>,
    pid: libc::pid_t,
}

/// What is known of one filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum State {
    /// Not frozen by us.
    Free = 0,
    /// The call that freezes it has begun. If we die in it, it is thawed: better once too often.
    Freezing = 1,
    /// Frozen by us.
    Frozen = 2,
    /// Not frozen any more: the watchdog thawed it, or found that somebody else had. It is left alone from then
    /// on: the next one who freezes it is not we.
    Thawed = 3,
}

/// What the process is called, as `ps` shows it.
const NAME: &std::ffi::CStr = c"thaw-watchdog";

/// How often a filesystem is tried again that was still on its way to being frozen when the time was up.
const RETRY_MS: i64 = 10;

impl Watchdog {
    /// Starts watching over `roots` for at most `at_most`.
    pub(super) fn start(roots: &[RawFd], at_most: Duration) -> io::Result<Self> {
        let board = Board::new(roots.len())?;
        let (wake, lifeline) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let wait_ms = i64::try_from(at_most.as_millis()).unwrap_or(i64::MAX / 2);
        let (wake_fd, lifeline_fd) = (wake.as_raw_fd(), lifeline.as_raw_fd());
        // Blocked before the fork, so that the child never runs a handler of ours. Nothing is allocated
        // between here and the fork, and in the child not at all.
        let old_mask = block_signals();
        // SAFETY: the child calls only `watch`, which keeps to async-signal-safe system calls and never returns.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            watch(&board, roots, wake_fd, lifeline_fd, wait_ms);
        }
        let failure = (pid < 0).then(io::Error::last_os_error);
        restore_signals(&old_mask);
        match failure {
            Some(error) => Err(error),
            None => Ok(Watchdog { board, lifeline: Some(lifeline), pid }),
        }
    }

    pub(super) fn set(&self, index: usize, state: State) {
        self.board.cell(index + 1).store(state as u32, Ordering::SeqCst);
    }

    /// The call that freezes has succeeded. Changes nothing if the watchdog was quicker and has thawed since.
    pub(super) fn set_frozen(&self, index: usize) {
        replace_state(self.board.cell(index + 1), State::Freezing, State::Frozen);
    }

    pub(super) fn get(&self, index: usize) -> State {
        state_of(self.board.cell(index + 1))
    }

    /// Whether the time was up, so that it has begun to thaw.
    pub(super) fn expired(&self) -> bool {
        self.board.cell(EXPIRED).load(Ordering::SeqCst) != 0
    }

    /// Lets it go and waits for its end.
    pub(super) fn finish(mut self) {
        self.release();
    }

    fn release(&mut self) {
        if let Some(lifeline) = self.lifeline.take() {
            let _ = rustix::io::write(&lifeline, &[0]);
            drop(lifeline);
            let mut status = 0;
            // SAFETY: waits for our own child; `status` outlives the call.
            while unsafe { libc::waitpid(self.pid, &raw mut status, 0) } < 0
                && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
            {}
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.release();
    }
}

/// The life of the child: thaw when the lifeline is cut or the time is up, then end.
fn watch(board: &Board, roots: &[RawFd], wake: RawFd, lifeline: RawFd, wait_ms: i64) -> ! {
    // SAFETY: plain system calls on numbers and a constant string. A terminal's Ctrl-C goes to its process group,
    // which this leaves; `killall -9 blockprint` goes to all of that name, which this gives up.
    unsafe {
        libc::setsid();
        libc::prctl(libc::PR_SET_NAME, NAME.as_ptr());
        libc::close(lifeline);
    }
    let deadline_ms = now_ms().saturating_add(wait_ms);
    loop {
        let left_ms = (deadline_ms - now_ms()).max(0);
        let expired = board.cell(EXPIRED).load(Ordering::SeqCst) != 0;
        let pause_ms = if expired { RETRY_MS } else { left_ms };
        let mut poll = libc::pollfd { fd: wake, events: libc::POLLIN, revents: 0 };
        let pause = libc::c_int::try_from(pause_ms).unwrap_or(libc::c_int::MAX);
        // SAFETY: one pollfd, which outlives the call.
        let woken = unsafe { libc::poll(&raw mut poll, 1, pause) };
        let cut = woken > 0;
        if !cut && now_ms() >= deadline_ms {
            board.cell(EXPIRED).store(1, Ordering::SeqCst);
        }
        if cut || board.cell(EXPIRED).load(Ordering::SeqCst) != 0 {
            for (index, &root) in roots.iter().enumerate() {
                thaw_once(board.cell(index + 1), root);
            }
        }
        if cut {
            // SAFETY: ends this process without running anything of the parent's.
            unsafe { libc::_exit(0) };
        }
    }
}

/// Thaws one filesystem, unless it is known not to be frozen by us (any more).
fn thaw_once(cell: &AtomicU32, root: RawFd) {
    let state = state_of(cell);
    if !matches!(state, State::Freezing | State::Frozen) {
        return;
    }
    match ioctl::fithaw(root) {
        // Whatever the other process writes there meanwhile, it is no longer frozen by us.
        Ok(()) => cell.store(State::Thawed as u32, Ordering::SeqCst),
        // Not frozen: somebody else thawed it. While it is still being frozen it is tried again.
        Err(cause) if state == State::Frozen && cause.raw_os_error() == Some(libc::EINVAL) => {
            replace_state(cell, State::Frozen, State::Thawed);
        }
        Err(_) => {}
    }
}

fn replace_state(cell: &AtomicU32, old: State, new: State) {
    // If it is another state by now, the other process knows better.
    let _ = cell.compare_exchange(old as u32, new as u32, Ordering::SeqCst, Ordering::SeqCst);
}

fn now_ms() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.saturating_mul(1000).saturating_add(now.tv_nsec / 1_000_000)
}

fn state_of(cell: &AtomicU32) -> State {
    match cell.load(Ordering::SeqCst) {
        1 => State::Freezing,
        2 => State::Frozen,
        3 => State::Thawed,
        _ => State::Free,
    }
}

/// Index of the cell that says that the time was up; those behind it are the filesystems.
const EXPIRED: usize = 0;

/// A few numbers in memory that parent and child share.
#[derive(Debug)]
struct Board {
    cells: NonNull<AtomicU32>,
    count: usize,
}

// SAFETY: the board is plain atomics at an address that stays mapped until it is dropped.
unsafe impl Send for Board {}
// SAFETY: as above; all access is through atomics.
unsafe impl Sync for Board {}

impl Board {
    fn new(filesystems: usize) -> io::Result<Self> {
        let count = filesystems + 1;
        // SAFETY: a fresh anonymous mapping; nothing else points into it.
        let memory = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                count * size_of::<AtomicU32>(),
                rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE,
                rustix::mm::MapFlags::SHARED,
            )
        }?;
        let cells = NonNull::new(memory.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Board { cells, count })
    }

    fn cell(&self, index: usize) -> &AtomicU32 {
        assert!(index < self.count);
        // SAFETY: within the mapping, aligned, zeroed by the kernel, and only ever used as atomics.
        unsafe { self.cells.add(index).as_ref() }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let len = self.count * size_of::<AtomicU32>();
        // SAFETY: our own mapping, to which no reference is left.
        let _ = unsafe { rustix::mm::munmap(self.cells.as_ptr().cast(), len) };
    }
}

fn block_signals() -> libc::sigset_t {
    // SAFETY: both sets are filled by the calls before they are read.
    unsafe {
        let mut all = std::mem::zeroed::<libc::sigset_t>();
        let mut old = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, &raw mut old);
        old
    }
}

fn restore_signals(old: &libc::sigset_t) {
    // SAFETY: `old` is a mask that the system gave.
    unsafe {
        libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::from_ref(old), std::ptr::null_mut())
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_released_watchdog_ends_at_once_and_has_not_expired() {
        let watchdog = Watchdog::start(&[], Duration::from_secs(60)).unwrap();
        assert!(!watchdog.expired());
        watchdog.finish();
    }

    #[test]
    fn a_watchdog_says_when_its_time_was_up() {
        let watchdog = Watchdog::start(&[-1], Duration::from_millis(20)).unwrap();
        watchdog.set(0, State::Frozen);
        let start = std::time::Instant::now();
        while !watchdog.expired() {
            assert!(start.elapsed() < Duration::from_secs(20), "it never woke");
            std::thread::sleep(Duration::from_millis(2));
        }
        watchdog.finish();
    }
}
