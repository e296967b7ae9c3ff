//! What concerns the process and the system as a whole: memory, cores, flushing, and the ends that tests bring about.

use std::io;
use std::os::fd::AsFd;

/// Keeps all memory of this process where it is, so that nothing has to be read from a frozen filesystem when
/// a page of the program is touched for the first time.
pub fn lock_memory() -> io::Result<MemoryLock> {
    rustix::mm::mlockall(rustix::mm::MlockAllFlags::CURRENT)?;
    Ok(MemoryLock(()))
}

/// Unlocks the memory when dropped.
#[derive(Debug)]
pub struct MemoryLock(());

impl Drop for MemoryLock {
    fn drop(&mut self) {
        // SAFETY: takes no argument and touches no memory.
        unsafe { libc::munlockall() };
    }
}

/// Writes out all that is dirty in the filesystem that an open file or directory lies in (syncfs).
pub fn flush_filesystem(file: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::syncfs(file)?)
}

/// How much the filesystem that an open file lies in has left for those who are not root.
pub fn available_bytes(file: impl AsFd) -> io::Result<u64> {
    let status = rustix::fs::fstatvfs(file)?;
    Ok(status.f_bavail.saturating_mul(status.f_frsize))
}

/// How many processors this process may use.
pub fn online_cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Stops this process as SIGSTOP does, until somebody continues it: for tests that look at a moment.
pub fn raise_stop() {
    // SAFETY: sends a signal to this process.
    unsafe { libc::kill(libc::getpid(), libc::SIGSTOP) };
}

/// Ends this process as `kill -9` does: for tests of what is left behind.
pub fn kill_self() {
    // SAFETY: sends a signal to this process.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
}

/// The permissions that this process takes away from new files (umask(2)), without changing them.
pub fn umask() -> u32 {
    // The system call can only ask by setting, which another thread would notice.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let digits = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    digits.and_then(|digits| u32::from_str_radix(digits.trim(), 8).ok()).unwrap_or(0o022)
}
