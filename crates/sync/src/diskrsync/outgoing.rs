//! What is sent to the other end, by a thread of its own, so that an end can read, take digests and write meanwhile.

use std::error::Error as _;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::thread;

use image::{Error, Result, Task};

use crate::Hangup;

/// The stream to the other end: bytes are held here until there are many, or until [`send`](Outgoing::send).
pub(super) struct Outgoing {
    held: Vec<u8>,
    queue: SyncSender<Vec<u8>>,
    spare: Receiver<Vec<u8>>,
    peer: &'static str,
}

/// The longest piece that [`Outgoing::room`] gives, in bytes.
pub(super) const PIECE_BYTES: usize = 256 << 10;

/// Bytes that are held at most: a piece, and some replies.
const HELD_BYTES: usize = PIECE_BYTES + 4096;

/// How many full buffers may wait for the wire.
const QUEUE: usize = 4;

/// Runs `work`, which sends to `peer` what it puts into its argument. The output is closed when all is sent, or when one
/// of both has failed; then `hangup` was said.
pub(super) fn with_output<T>(
    mut output: Box<dyn Write + Send + '_>,
    hangup: &Hangup,
    peer: &'static str,
    task: &Task,
    work: impl FnOnce(&mut Outgoing) -> Result<T>,
) -> Result<T> {
    let (queue, full) = sync_channel(QUEUE);
    let (empty, spare) = channel();
    let mut outgoing = Outgoing { held: Vec::new(), queue, spare, peer };
    thread::scope(|scope| {
        let sender = scope.spawn(move || {
            let sent = send_all(&mut *output, &full, &empty);
            if sent.is_err() {
                // Whoever waits for an answer to what was not sent would wait for ever.
                hangup.now();
            }
            sent
        });
        let done = work(&mut outgoing).and_then(|done| outgoing.send().map(|()| done));
        drop(outgoing);
        if done.is_err() {
            hangup.now();
        }
        let sent = sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let sent = sent.map_err(|error| cannot_send(peer, error));
        match done {
            Err(error) if is_hangup(&error) => {
                task.checkpoint()?;
                sent.and(Err(error))
            }
            Err(error) => Err(error),
            Ok(done) => sent.map(|()| done),
        }
    })
}

/// Writes what comes through the queue, and flushes whenever nothing is left in it.
fn send_all(
    output: &mut dyn Write,
    full: &Receiver<Vec<u8>>,
    empty: &Sender<Vec<u8>>,
) -> io::Result<()> {
    loop {
        let bytes = match full.try_recv() {
            Ok(bytes) => bytes,
            Err(TryRecvError::Disconnected) => return output.flush(),
            Err(TryRecvError::Empty) => {
                output.flush()?;
                match full.recv() {
                    Ok(bytes) => bytes,
                    Err(_) => return Ok(()),
                }
            }
        };
        output.write_all(&bytes)?;
        // Nobody wants it back when the work has ended.
        let _ = empty.send(bytes);
    }
}

impl Outgoing {
    /// Puts `bytes`, at most a piece, behind what is held. Whatever was put last is held until `send`.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.room(bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    /// Room for the next `len` bytes, at most a piece, to be filled by the caller.
    pub(super) fn room(&mut self, len: usize) -> Result<&mut [u8]> {
        if self.held.len() + len > HELD_BYTES {
            self.send()?;
        }
        let start = self.held.len();
        self.held.resize(start + len, 0);
        Ok(&mut self.held[start..])
    }

    /// Sends what is held, without waiting until it is there.
    pub(super) fn send(&mut self) -> Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let mut next = self.spare.try_recv().unwrap_or_default();
        next.clear();
        let full = std::mem::replace(&mut self.held, next);
        // The thread has ended: what it died of is reported instead of this.
        self.queue.send(full).map_err(|_| cannot_send(self.peer, Hangup::error()))
    }
}

fn cannot_send(peer: &'static str, error: io::Error) -> Error {
    let sentence = match error.kind() {
        io::ErrorKind::BrokenPipe => format!("{peer} ended the connection before all was sent"),
        _ => format!("cannot send to {peer}"),
    };
    Error::io(sentence, error).at(peer, None)
}

/// Whether this is only what follows from another failure.
fn is_hangup(error: &Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| cause.kind() == io::ErrorKind::ConnectionAborted)
}
