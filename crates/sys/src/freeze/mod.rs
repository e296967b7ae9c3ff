//! Freezing filesystems for a moment, in such a way that nothing stays frozen.
//!
//! [`freeze`] starts a watchdog process before it freezes anything, and returns a guard. Whatever happens then,
//! somebody thaws: the guard when it is dropped, the watchdog when this process dies (`kill -9` included) or
//! when the time is up. Only what was frozen here is thawed.

mod watchdog;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use crate::ioctl;
use watchdog::{State, Watchdog};

/// Filesystems that are frozen. Thaws them when dropped.
#[derive(Debug)]
pub struct Frozen<'a> {
    roots: &'a [File],
    watchdog: Option<Watchdog>,
    since: Instant,
}

/// How a freeze ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thawed {
    /// From before the first filesystem was asked to freeze until the last one was thawed.
    pub lasted: Duration,
    /// Whether all of them were frozen all the time. If not (the watchdog or somebody else thawed one), what
    /// was done meanwhile is not of one moment.
    pub held: bool,
}

/// Why nothing is frozen.
#[derive(Debug)]
pub struct FreezeError {
    /// Which of the roots, by its index; `None` if the watchdog could not be started.
    pub root: Option<usize>,
    /// What the system said: EBUSY if it is frozen already, EOPNOTSUPP if it cannot be, EPERM without
    /// CAP_SYS_ADMIN, ETIMEDOUT if it took longer than was allowed.
    pub cause: io::Error,
}

/// Freezes the filesystems of `roots` (open directories), each of which must be another one, in order.
///
/// At the latest `at_most` after the call they are thawed, even if freezing itself takes long. The caller has
/// opened everything it needs before, and touches nothing that lies on them: a write would wait for the thaw.
pub fn freeze(roots: &[File], at_most: Duration) -> Result<Frozen<'_>, FreezeError> {
    let numbers: Vec<_> = roots.iter().map(AsRawFd::as_raw_fd).collect();
    let watchdog =
        Watchdog::start(&numbers, at_most).map_err(|cause| FreezeError { root: None, cause })?;
    let frozen = Frozen { roots, since: Instant::now(), watchdog: Some(watchdog) };
    for index in 0..roots.len() {
        // On an error the guard is dropped and thaws those before.
        frozen.freeze_one(index).map_err(|cause| FreezeError { root: Some(index), cause })?;
    }
    Ok(frozen)
}

impl Frozen<'_> {
    fn freeze_one(&self, index: usize) -> io::Result<()> {
        let Some(watchdog) = &self.watchdog else { return Ok(()) };
        if watchdog.expired() {
            return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
        }
        watchdog.set(index, State::Freezing);
        match ioctl::fifreeze(self.roots[index].as_fd().as_raw_fd()) {
            Ok(()) => {
                watchdog.set_frozen(index);
                // It took so long that nothing can be done any more in the time that is left: none.
                match watchdog.expired() {
                    true => Err(io::Error::from_raw_os_error(libc::ETIMEDOUT)),
                    false => Ok(()),
                }
            }
            Err(cause) => {
                watchdog.set(index, State::Free);
                Err(cause)
            }
        }
    }

    /// Thaws them, and says whether they were frozen until now.
    pub fn thaw(mut self) -> Thawed {
        self.thaw_all()
    }

    fn thaw_all(&mut self) -> Thawed {
        let Some(watchdog) = self.watchdog.take() else {
            return Thawed { lasted: Duration::ZERO, held: false };
        };
        let mut held = true;
        for (index, root) in self.roots.iter().enumerate() {
            if watchdog.get(index) != State::Frozen {
                held = false;
                continue;
            }
            // EINVAL: it is not frozen any more, because somebody else thawed it.
            held &= ioctl::fithaw(root.as_raw_fd()).is_ok();
            watchdog.set(index, State::Free);
        }
        let lasted = self.since.elapsed();
        held &= !watchdog.expired();
        watchdog.finish();
        Thawed { lasted, held }
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.thaw_all();
    }
}
