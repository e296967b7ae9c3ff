//! A wire over descriptors: counted, limited, and left when somebody says so.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use image::{Error, Result, Task};
use sync::{Hangup, Wire};
use sys::pipe::{Input, Output, Watch};

use super::Limit;

/// What went over a wire.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    has_ended: AtomicBool,
}

impl Traffic {
    /// Bytes that came.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }

    /// Bytes that went.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    /// Both.
    pub(crate) fn bytes(&self) -> WireBytes {
        WireBytes {
            received_bytes: self.received_bytes(),
            sent_bytes: self.sent_bytes(),
            relayed_bytes: 0,
        }
    }

    /// Whether the other side has closed it, as far as a read or a write has seen that.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }
}

/// What went over a wire, seen from the machine on which the sync was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WireBytes {
    /// Bytes from there.
    pub received_bytes: u64,
    /// Bytes to there.
    pub sent_bytes: u64,
    /// Of those received, bytes that the source said and that went on to the target; 0 unless both are remote.
    pub relayed_bytes: u64,
}

/// After a wish to stop, so long what is left to say may still be sent.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The wire that reads from `from` and writes to `to`. Whoever waits on it leaves when `hangup` is said or `task` is
/// cancelled.
pub(crate) fn wire_over(
    from: OwnedFd,
    to: OwnedFd,
    hangup: Hangup,
    traffic: &Arc<Traffic>,
    limit: Option<&Limit>,
    task: &Task,
) -> Result<Wire<'static>> {
    let input = Input::new(from, watch(&hangup, task, Duration::ZERO));
    let output = Output::new(to, watch(&hangup, task, LAST_WORDS))
        .map_err(|cause| Error::io("cannot prepare the connection to the other end", cause))?;
    let input = Limited { inner: input, traffic: Arc::clone(traffic), limit: limit.cloned() };
    let output = Limited { inner: output, traffic: Arc::clone(traffic), limit: limit.cloned() };
    Ok(Wire { input: Box::new(input), output: Box::new(output), hangup })
}

fn watch(hangup: &Hangup, task: &Task, patience: Duration) -> Watch {
    let (hangup, task) = (hangup.clone(), task.clone());
    let cancelled_at = OnceLock::new();
    Arc::new(move || {
        if hangup.is_said() {
            return Err(Hangup::error());
        }
        if task.is_cancelled() && cancelled_at.get_or_init(Instant::now).elapsed() >= patience {
            // Not `Interrupted`, which the standard library answers by trying again.
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "interrupted"));
        }
        Ok(())
    })
}

struct Limited<T> {
    inner: T,
    traffic: Arc<Traffic>,
    limit: Option<Limit>,
}

impl<T> Limited<T> {
    /// How much of `len` bytes may go at once.
    fn piece(&self, len: usize) -> usize {
        self.limit.as_ref().map_or(len, |limit| len.min(limit.piece_bytes))
    }

    fn pay(&self, bytes: usize) {
        if let Some(limit) = &self.limit {
            limit.throttle.take(bytes as u64);
        }
    }
}

impl<T: Read> Read for Limited<T> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let piece = self.piece(buf.len());
        let len = self.inner.read(&mut buf[..piece])?;
        if len == 0 && piece > 0 {
            self.traffic.has_ended.store(true, Ordering::Relaxed);
        }
        self.traffic.received_bytes.fetch_add(len as u64, Ordering::Relaxed);
        self.pay(len);
        Ok(len)
    }
}

impl<T: Write> Write for Limited<T> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let piece = self.piece(buf.len());
        self.pay(piece);
        let written = self.inner.write(&buf[..piece]);
        match &written {
            Ok(len) => {
                self.traffic.sent_bytes.fetch_add(*len as u64, Ordering::Relaxed);
            }
            Err(cause) if cause.kind() != io::ErrorKind::ConnectionAborted => {
                self.traffic.has_ended.store(true, Ordering::Relaxed);
            }
            Err(_) => {}
        }
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
