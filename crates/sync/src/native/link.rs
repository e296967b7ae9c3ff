//! What all threads of an end share: what is to be sent, the first failure, and the wish to stop.
//!
//! One thread writes to the wire ([`Link::send_all`]), one reads from it, and neither works on images. What others want
//! to say goes through two queues. *Urgent* never waits: what is put there is bounded by whoever puts it. *Bulk* holds
//! [`BULK_MAX_BYTES`], and whoever puts more there waits for the wire.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use image::{Error, ErrorKind, Result, Task};

use super::frame::Frame;
use super::hello::Hello;
use crate::Hangup;

/// What may wait for the wire in the bulk queue, in bytes.
const BULK_MAX_BYTES: usize = 4 << 20;
/// How long an end is silent before it says that it is there.
const ALIVE_EVERY: Duration = Duration::from_secs(10);
/// How long the main thread sleeps where nothing rings.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long an end that leaves waits while nothing moves on the wire, and how long it has for reading why nobody listens
/// to it.
const PATIENCE: Duration = Duration::from_secs(3);
/// Small frames are gathered up to this before they are written.
const GATHER_BYTES: usize = 64 << 10;

/// The shared part of one end.
pub(super) struct Link {
    queues: Mutex<Queues>,
    /// Something is to be sent, or all is over.
    for_sender: Condvar,
    /// There is room in the bulk queue, or all is over.
    for_bulk: Condvar,
    failure: Mutex<Option<Error>>,
    is_over: AtomicBool,
    /// Digests that were asked for and are not on their way yet.
    owed: AtomicU64,
    bell: Mutex<u64>,
    for_main: Condvar,
    /// What was written to the wire, in bytes.
    sent_bytes: AtomicU64,
    hangup: Hangup,
    task: Task,
}

#[derive(Default)]
struct Queues {
    urgent: VecDeque<Urgent>,
    urgent_bytes: usize,
    bulk: VecDeque<Vec<u8>>,
    bulk_bytes: usize,
    /// What the other end is told last, if this one fails.
    last_words: Option<Vec<u8>>,
    /// Nothing more will come: send what is there, and end.
    is_closing: bool,
    /// The threads at the wire have ended, the sender with this error.
    is_sent: bool,
    lost: Option<(Error, Instant)>,
    is_read: bool,
}

struct Urgent {
    bytes: Vec<u8>,
    pays: u64,
}

impl Link {
    pub(super) fn new(hangup: Hangup, task: &Task) -> Self {
        Link {
            queues: Mutex::default(),
            for_sender: Condvar::new(),
            for_bulk: Condvar::new(),
            failure: Mutex::new(None),
            is_over: AtomicBool::new(false),
            owed: AtomicU64::new(0),
            bell: Mutex::new(0),
            for_main: Condvar::new(),
            sent_bytes: AtomicU64::new(0),
            hangup,
            task: task.clone(),
        }
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn task(&self) -> &Task {
        &self.task
    }

    /// Sends `bytes` as soon as possible.
    pub(super) fn urgent(&self, bytes: Vec<u8>) {
        self.answer(bytes, 0);
    }

    /// Sends an answer of so many digests as soon as possible.
    pub(super) fn answer(&self, bytes: Vec<u8>, pays: u64) {
        let mut queues = self.queues();
        queues.urgent_bytes += bytes.len();
        queues.urgent.push_back(Urgent { bytes, pays });
        drop(queues);
        self.for_sender.notify_one();
    }

    /// So many digests were asked for; says how many there are now that did not leave yet.
    pub(super) fn owe(&self, digests: u64) -> u64 {
        self.owed.fetch_add(digests, Ordering::Relaxed) + digests
    }

    /// What waits in the urgent queue, in bytes.
    pub(super) fn urgent_bytes(&self) -> usize {
        self.queues().urgent_bytes
    }

    /// Sends `bytes` behind all that was put here before; waits for room.
    pub(super) fn bulk(&self, bytes: Vec<u8>) -> Result<()> {
        let mut queues = self.queues();
        loop {
            // Also while nothing moves: somebody may want to stop because of that.
            self.go_on()?;
            if queues.bulk_bytes < BULK_MAX_BYTES {
                break;
            }
            let waited = self.for_bulk.wait_timeout(queues, LOOK_EVERY);
            queues = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        queues.bulk_bytes += bytes.len();
        queues.bulk.push_back(bytes);
        drop(queues);
        self.for_sender.notify_one();
        Ok(())
    }

    /// Says `hello`, and writes to the wire until the end is closed or has failed. Then `output` is dropped, which the other
    /// end sees.
    pub(super) fn send_all(&self, hello: &Hello, mut output: Box<dyn Write + Send + '_>) {
        // First of all, also where there is nothing to say but why this end fails.
        let sent = self.write_all(&mut *output, &hello.to_bytes());
        let sent = sent.and_then(|()| self.send_from_queues(&mut *output));
        drop(output);
        let mut queues = self.queues();
        queues.is_sent = true;
        if let Err(cause) = sent {
            let error = Error::io("cannot send to the other end", cause);
            queues.lost = Some((error, Instant::now()));
        }
        drop(queues);
        self.ring();
    }

    fn send_from_queues(&self, output: &mut dyn Write) -> io::Result<()> {
        let mut gathered = Vec::new();
        loop {
            let mut queues = self.queues();
            let silent_since = Instant::now();
            let mut is_flushed = false;
            loop {
                if let Some(words) = queues.last_words.take() {
                    drop(queues);
                    self.write_all(output, &words)?;
                    return output.flush();
                }
                if self.is_over() {
                    return Ok(());
                }
                if !queues.urgent.is_empty() || !queues.bulk.is_empty() {
                    break;
                }
                if !is_flushed {
                    // Whatever comes next, the other end may be waiting for what was written.
                    drop(queues);
                    output.flush()?;
                    is_flushed = true;
                    queues = self.queues();
                    continue;
                }
                if queues.is_closing {
                    return Ok(());
                }
                if silent_since.elapsed() >= ALIVE_EVERY {
                    drop(queues);
                    self.write_all(output, &Frame::Alive.to_bytes())?;
                    output.flush()?;
                    queues = self.queues();
                    break;
                }
                let waited = self.for_sender.wait_timeout(queues, ALIVE_EVERY);
                queues = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            gathered.clear();
            while gathered.len() < GATHER_BYTES {
                let Some(urgent) = queues.urgent.pop_front() else { break };
                queues.urgent_bytes -= urgent.bytes.len();
                self.owed.fetch_sub(urgent.pays, Ordering::Relaxed);
                gathered.extend_from_slice(&urgent.bytes);
            }
            let mut large = None;
            while gathered.len() < GATHER_BYTES {
                let Some(bytes) = queues.bulk.pop_front() else { break };
                queues.bulk_bytes -= bytes.len();
                if bytes.len() >= GATHER_BYTES {
                    large = Some(bytes);
                    break;
                }
                gathered.extend_from_slice(&bytes);
            }
            drop(queues);
            self.for_bulk.notify_all();
            self.write_all(output, &gathered)?;
            if let Some(large) = large {
                self.write_all(output, &large)?;
            }
        }
    }

    /// Writes `bytes`, and counts what has gone, so that somebody who waits sees it move.
    fn write_all(&self, output: &mut dyn Write, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match output.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => {
                    self.sent_bytes.fetch_add(len as u64, Ordering::Relaxed);
                    bytes = &bytes[len..];
                }
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(cause),
            }
        }
        Ok(())
    }

    /// Runs the thread that reads. Whatever it fails with, this end fails with.
    pub(super) fn read_all(&self, read: impl FnOnce() -> Result<()>) {
        if let Err(error) = read() {
            self.fail(error);
        }
        self.queues().is_read = true;
        self.ring();
    }

    /// This end has failed, if it did not before: tells the other one, and stops all threads. What this returns is never
    /// shown: the first failure is.
    pub(super) fn fail(&self, error: Error) -> Error {
        let words = Frame::Error { kind: error.kind(), sentence: error.full_sentence() };
        self.end(error, Some(words.to_bytes()));
        stopped()
    }

    /// The other end gave up: it need not be told.
    pub(super) fn given_up(&self, kind: ErrorKind, sentence: &str) {
        self.end(Error::new(kind, format!("the other end says: {sentence}")), None);
    }

    fn end(&self, error: Error, last_words: Option<Vec<u8>>) {
        {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            if failure.is_some() {
                return;
            }
            *failure = Some(error);
        }
        let mut queues = self.queues();
        queues.last_words = last_words;
        self.is_over.store(true, Ordering::Relaxed);
        drop(queues);
        self.for_sender.notify_all();
        self.for_bulk.notify_all();
        self.ring();
    }

    /// Whether this end has failed, so that its threads should stop.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Whether the first failure was of this kind.
    pub(super) fn failed_with(&self, kind: ErrorKind) -> bool {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.as_ref().is_some_and(|error| error.kind() == kind)
    }

    /// Ends a thread that should not go on.
    pub(super) fn go_on(&self) -> Result<()> {
        if self.is_over() {
            return Err(stopped());
        }
        self.task.checkpoint()
    }

    /// The main thread should look around.
    pub(super) fn ring(&self) {
        *self.bell.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.for_main.notify_all();
    }

    /// Calls `look` again and again until it returns something, at least every 50 ms. Ends with the failure if this end
    /// fails, or is cancelled.
    pub(super) fn wait_until<T>(&self, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let lock = || self.bell.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let heard = *lock();
            self.go_on()?;
            if let Some(found) = look()? {
                return Ok(found);
            }
            if let Some(lost) = self.loss() {
                // What is waited for may be the last that the other end said, and have come meanwhile.
                return look()?.ok_or(lost);
            }
            let bell = lock();
            if *bell == heard {
                drop(self.for_main.wait_timeout(bell, LOOK_EVERY));
            }
        }
    }

    /// The error of a wire to which nothing can be written any more, unless the reason may still be on its way here.
    fn loss(&self) -> Option<Error> {
        let mut queues = self.queues();
        let (_, since) = queues.lost.as_ref()?;
        let is_known = queues.is_read || since.elapsed() > PATIENCE;
        is_known.then(|| queues.lost.take().map(|(error, _)| error))?
    }

    /// Ends the connection: sends what is to be sent, and waits a little for the other end to close it. `worked` is what
    /// the main thread came to.
    pub(super) fn close<T>(&self, worked: Result<T>) -> Result<T> {
        let result = worked.map_err(|error| self.fail(error));
        self.queues().is_closing = true;
        self.for_sender.notify_all();
        let mut moved = (self.sent_bytes.load(Ordering::Relaxed), Instant::now());
        loop {
            let heard = *self.bell.lock().unwrap_or_else(PoisonError::into_inner);
            let sent_bytes = self.sent_bytes.load(Ordering::Relaxed);
            if moved.0 != sent_bytes {
                moved = (sent_bytes, Instant::now());
            }
            let (is_sent, is_read) = {
                let queues = self.queues();
                (queues.is_sent, queues.is_read)
            };
            if is_sent && (is_read || self.is_over()) {
                break;
            }
            // After a success the other end needs what is still to be sent, however slow this machine is.
            if moved.1.elapsed() >= PATIENCE && (is_sent || result.is_err()) {
                break;
            }
            let bell = self.bell.lock().unwrap_or_else(PoisonError::into_inner);
            if *bell == heard {
                drop(self.for_main.wait_timeout(bell, LOOK_EVERY));
            }
        }
        // A reader that still waits has nothing to wait for.
        self.hangup.now();
        result.map_err(|stopped| {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.take().unwrap_or(stopped)
        })
    }

    /// While it lives, a panic of its thread ends this end, so that no other thread waits for ever.
    pub(super) fn watch(&self) -> Watch<'_> {
        Watch(self)
    }
}

fn stopped() -> Error {
    Error::new(ErrorKind::Cancelled, "stopped")
}

/// See [`Link::watch`].
pub(super) struct Watch<'a>(&'a Link);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(Error::new(ErrorKind::Io, "a thread of the sync panicked"));
            self.0.hangup.now();
        }
    }
}
