//! The one small handle that goes along with a piece of work: progress goes up, the wish to stop goes down.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::{Error, ErrorKind, Result};

/// A handle on a piece of work, shared by the one who does it and the one who waits for it.
///
/// Cheap to clone. The work calls [`begin`](Task::begin), [`advance`](Task::advance), [`note`](Task::note), and
/// [`checkpoint`](Task::checkpoint) at least once a block; a face listens, looks at
/// [`progress`](Task::progress) as often as it likes, and cancels.
#[derive(Clone)]
pub struct Task(Arc<Shared>);

struct Shared {
    phase: Mutex<Option<Phase>>,
    done_bytes: AtomicU64,
    total_bytes: AtomicU64,
    cancel: Arc<AtomicBool>,
    listener: Box<dyn Listener>,
}

/// What is being done: the word in the progress bar and in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Reading the map of an image.
    Map,
    /// Moving bytes.
    Copy,
    /// Making written bytes durable.
    Flush,
    /// Reading back and comparing what was written.
    Verify,
    /// Comparing two images.
    Compare,
    /// Cloning extents.
    Clone,
    /// Cutting an image into chunks and naming them.
    Chunk,
    /// Putting an image together from chunks.
    Extract,
    /// Removing what nobody needs.
    Prune,
    /// Taking the digests of what is to be compared.
    Hash,
    /// Making one image like another.
    Sync,
}

/// Hears what happens, from any thread; must be quick.
pub trait Listener: Send + Sync {
    /// A phase begins; `total_bytes` is known from the start.
    fn began(&self, phase: Phase, total_bytes: u64);
    /// Something that people may want to know, in a sentence without a full stop.
    fn noted(&self, sentence: &str);
    /// Something that went other than wished, though the work goes on.
    fn warned(&self, sentence: &str);
}

/// How far the current phase is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// Bytes done in this phase.
    pub done_bytes: u64,
    /// Bytes that the phase has in all.
    pub total_bytes: u64,
}

struct Silence;

impl Listener for Silence {
    fn began(&self, _: Phase, _: u64) {}
    fn noted(&self, _: &str) {}
    fn warned(&self, _: &str) {}
}

impl Task {
    /// A task that tells `listener` what happens, and stops when `cancel` becomes true.
    pub fn new(listener: Box<dyn Listener>, cancel: Arc<AtomicBool>) -> Self {
        Task(Arc::new(Shared {
            phase: Mutex::new(None),
            done_bytes: AtomicU64::new(0),
            total_bytes: AtomicU64::new(0),
            cancel,
            listener,
        }))
    }

    /// A task to which nobody listens.
    pub fn silent() -> Self {
        Task::new(Box::new(Silence), Arc::default())
    }

    /// A phase begins, with `total_bytes` of work.
    pub fn begin(&self, phase: Phase, total_bytes: u64) {
        {
            let mut current =
                self.0.phase.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            self.0.done_bytes.store(0, Ordering::Relaxed);
            self.0.total_bytes.store(total_bytes, Ordering::Relaxed);
            *current = Some(phase);
        }
        self.0.listener.began(phase, total_bytes);
    }

    /// So many more bytes are done.
    pub fn advance(&self, bytes: u64) {
        self.0.done_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Says something that people may want to know.
    pub fn note(&self, sentence: impl AsRef<str>) {
        self.0.listener.noted(sentence.as_ref());
    }

    /// Says something that went other than wished.
    pub fn warn(&self, sentence: impl AsRef<str>) {
        self.0.listener.warned(sentence.as_ref());
    }

    /// Ends the work with [`ErrorKind::Cancelled`] if somebody wants it to stop.
    pub fn checkpoint(&self) -> Result<()> {
        if self.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "interrupted"));
        }
        Ok(())
    }

    /// Asks the work to stop at its next checkpoint.
    pub fn cancel(&self) {
        self.0.cancel.store(true, Ordering::Relaxed);
    }

    /// Whether somebody wants the work to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancel.load(Ordering::Relaxed)
    }

    /// How far the current phase is, if one has begun.
    pub fn progress(&self) -> Option<Progress> {
        let phase = (*self.0.phase.lock().unwrap_or_else(std::sync::PoisonError::into_inner))?;
        Some(Progress {
            phase,
            done_bytes: self.0.done_bytes.load(Ordering::Relaxed),
            total_bytes: self.0.total_bytes.load(Ordering::Relaxed),
        })
    }
}

impl Phase {
    /// The word for it in progress bars and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Map => "map",
            Phase::Copy => "copy",
            Phase::Flush => "flush",
            Phase::Verify => "verify",
            Phase::Compare => "compare",
            Phase::Clone => "clone",
            Phase::Chunk => "chunk",
            Phase::Extract => "extract",
            Phase::Prune => "prune",
            Phase::Hash => "hash",
            Phase::Sync => "sync",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancelled_task_ends_at_its_next_checkpoint() {
        let task = Task::silent();
        assert!(task.checkpoint().is_ok());
        task.clone().cancel();
        assert_eq!(task.checkpoint().unwrap_err().kind(), ErrorKind::Cancelled);
    }

    #[test]
    fn a_new_phase_begins_at_zero() {
        let task = Task::silent();
        assert_eq!(task.progress(), None);
        task.begin(Phase::Copy, 10);
        task.advance(4);
        task.begin(Phase::Verify, 7);
        task.advance(2);
        let expected = Progress { phase: Phase::Verify, done_bytes: 2, total_bytes: 7 };
        assert_eq!(task.progress(), Some(expected));
    }
}
