//! The two directions of a connection, and how to leave it.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The two directions of a connection to the other end. Dropping `output` closes it.
pub struct Wire<'a> {
    /// What the other end sends.
    pub input: Box<dyn Read + Send + 'a>,
    /// What is sent to the other end. Whoever made it may hold bytes back until `flush`.
    pub output: Box<dyn Write + Send + 'a>,
    /// Ends both.
    pub hangup: Hangup,
}

/// The wish to leave a connection: once it is said, a read or a write that waits, on any thread, fails within a second
/// with [`io::ErrorKind::ConnectionAborted`], and so does each later one.
#[derive(Clone, Debug, Default)]
pub struct Hangup(Arc<AtomicBool>);

impl Hangup {
    /// Not yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on.
    pub fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was said.
    pub fn is_said(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// What a read or write fails with then.
    pub fn error() -> io::Error {
        io::Error::new(io::ErrorKind::ConnectionAborted, "this end has hung up")
    }
}

/// Two ends within one process, each direction with room for `capacity_bytes`.
pub fn pair(capacity_bytes: usize) -> (Wire<'static>, Wire<'static>) {
    let (here, there) = (Hangup::new(), Hangup::new());
    let (one, other) = (Arc::new(Pipe::default()), Arc::new(Pipe::default()));
    let end = |from: &Arc<Pipe>, to: &Arc<Pipe>, hangup: Hangup| Wire {
        input: Box::new(Reader { pipe: Arc::clone(from), hangup: hangup.clone() }),
        output: Box::new(Writer { pipe: Arc::clone(to), hangup: hangup.clone(), capacity_bytes }),
        hangup,
    };
    (end(&one, &other, here), end(&other, &one, there))
}

#[derive(Default)]
struct Pipe {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    is_closed: bool,
    is_deaf: bool,
}

struct Reader {
    pipe: Arc<Pipe>,
    hangup: Hangup,
}

struct Writer {
    pipe: Arc<Pipe>,
    hangup: Hangup,
    capacity_bytes: usize,
}

/// How often somebody who waits looks whether this end has hung up.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `is_ready`, or fails once `hangup` is said.
    fn wait(
        &self,
        hangup: &Hangup,
        is_ready: impl Fn(&State) -> bool,
    ) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        loop {
            if hangup.is_said() {
                return Err(Hangup::error());
            }
            if is_ready(&state) {
                return Ok(state);
            }
            let waited = self.changed.wait_timeout(state, LOOK_EVERY);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Read for Reader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut state =
            self.pipe.wait(&self.hangup, |state| !state.bytes.is_empty() || state.is_closed)?;
        let len = state.bytes.read(buf)?;
        self.pipe.changed.notify_all();
        Ok(len)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.pipe.lock().is_deaf = true;
        self.pipe.changed.notify_all();
    }
}

impl Write for Writer {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let room = |state: &State| self.capacity_bytes - state.bytes.len().min(self.capacity_bytes);
        let mut state = self.pipe.wait(&self.hangup, |state| room(state) > 0 || state.is_deaf)?;
        if state.is_deaf {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let len = buf.len().min(room(&state));
        state.bytes.extend(&buf[..len]);
        self.pipe.changed.notify_all();
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.pipe.lock().is_closed = true;
        self.pipe.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_end_writes_the_other_reads_until_it_is_closed() {
        let (here, there) = pair(3);
        let Wire { input, mut output, .. } = here;
        drop(input);
        std::thread::scope(|scope| {
            scope.spawn(move || output.write_all(b"hello over there").unwrap());
            let Wire { mut input, .. } = there;
            let mut all = Vec::new();
            input.read_to_end(&mut all).unwrap();
            assert_eq!(all, b"hello over there");
        });
    }

    #[test]
    fn whoever_hangs_up_waits_no_longer_and_a_deaf_end_is_a_broken_pipe() {
        let (here, there) = pair(3);
        let Wire { mut input, mut output, hangup } = here;
        std::thread::scope(|scope| {
            let waiting = scope.spawn(move || input.read(&mut [0]).unwrap_err().kind());
            hangup.now();
            assert_eq!(waiting.join().unwrap(), io::ErrorKind::ConnectionAborted);
        });
        assert_eq!(output.write(b"x").unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        let Wire { mut output, .. } = there;
        assert_eq!(output.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
