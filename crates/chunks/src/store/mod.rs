//! Stores: chunks, kept by their names.
//!
//! A ladder of small traits; a function asks for the lowest rung that it needs. What comes out of a store is
//! [`Packed`]: not believed. It becomes a [`Chunk`] only by its digest. What goes into a store is [`Sealed`]:
//! made of bytes whose digest was taken.

mod chain;
mod local;
mod memory;
mod pack;
mod packed;
mod unpack;

pub(crate) use chain::Desk;
pub use chain::{BadChunk, Chain, Fetcher, PlaceCounts};
pub use local::{LocalOptions, LocalStore, Swept};
pub use memory::MemoryStore;
pub use pack::{DEFAULT_LEVEL, Packer};
pub use packed::{Chunk, Form, Packed, Sealed, Unverified};
pub use unpack::{Length, Unpacker};

use std::time::SystemTime;

use image::Result;

use crate::ChunkId;

/// A place that chunks can be read from, by many threads at once.
pub trait ReadStore: Send + Sync {
    /// What people call it: a folder, a URL.
    fn name(&self) -> &str;

    /// Whether it seems to keep this chunk. Its content is not looked at.
    fn has(&self, id: &ChunkId) -> Result<bool>;

    /// The chunk as it lies there; `None` if it is not there, which is different from an error: only then is
    /// the next store asked without a word.
    ///
    /// # Errors
    ///
    /// `Damaged` for what can be no chunk, such as one larger than any chunk may be; `Io`, `Denied`.
    fn fetch(&self, id: &ChunkId) -> Result<Option<Packed>>;

    /// How many fetches at once it profits from, besides those that keep the processors busy: more than one if
    /// most of a fetch is waiting.
    fn parallel_fetches(&self) -> usize {
        1
    }
}

/// A store that takes chunks.
pub trait WriteStore: ReadStore {
    /// The form in which it keeps new chunks.
    fn form(&self) -> Form;

    /// Says that a chunk is needed by somebody who works now: if it is there, [`PruneStore::remove`] will not
    /// take it away until the store is dropped. `false` if it has to be put.
    ///
    /// A chunk that is there is believed to be what its name says, unless it is empty, as after a power cut. One that
    /// was put and waits for the next flush counts as there.
    fn reuse(&self, id: &ChunkId) -> Result<bool>;

    /// Keeps a chunk, in its [`form`](WriteStore::form). It is no error if it is there already: then nothing changes, unless
    /// `replace` says that what is there is known to be bad.
    ///
    /// The chunk can be fetched from now on or from the next [`flush`](WriteStore::flush) on. After a power cut
    /// before that flush it is there as a whole, or not there. Dropping the store without a flush may lose it. Until
    /// the store is dropped, [`PruneStore::remove`] will not take it away.
    ///
    /// # Errors
    ///
    /// `Invalid` if `chunk` has another form than the store keeps; `Full`, `Denied`, `Io`. Once chunks were lost that
    /// had been put, each later flush fails too.
    fn put(&self, chunk: &Sealed<'_>, replace: bool) -> Result<()>;

    /// Everything that was put or reused before is there, durably, once this returns. After an error some of it may
    /// be missing; what is there is whole.
    fn flush(&self) -> Result<()>;
}

/// A store whose chunks can be listed and taken away.
pub trait PruneStore: WriteStore {
    /// Calls `visit` with each chunk, in no particular order, until it fails.
    fn list(&self, visit: &mut dyn FnMut(Stored) -> Result<()>) -> Result<()>;

    /// The moment before which everything is settled: whoever put or reused a chunk that was last used before it
    /// has ended, so that the index of that work, if there is one, can be read from now on. By the store's own clock.
    ///
    /// Asked before the indexes are read, it is what [`remove`](PruneStore::remove) may be given.
    fn settled(&self) -> Result<SystemTime> {
        Ok(SystemTime::now())
    }

    /// Takes away what died while it was written, unless it is younger than `unused_since`.
    fn sweep(&self, unused_since: SystemTime) -> Result<Swept> {
        let _ = unused_since;
        Ok(Swept::default())
    }

    /// Takes a chunk away, in each form in which it is there, unless it was written or reused after
    /// `unused_since`, or by somebody who works now.
    fn remove(&self, id: &ChunkId, unused_since: SystemTime) -> Result<Removed>;

    /// The same for many, which may be faster: `done` is told what became of each. What was taken away before an
    /// error is gone.
    fn remove_many(
        &self,
        ids: &[ChunkId],
        unused_since: SystemTime,
        done: &mut dyn FnMut(&ChunkId, Removed),
    ) -> Result<()> {
        for id in ids {
            let removed = self.remove(id, unused_since)?;
            done(id, removed);
        }
        Ok(())
    }
}

/// A chunk that a store keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its name.
    pub id: ChunkId,
    /// The form in which it lies there.
    pub form: Form,
    /// The space that it takes there, in bytes.
    pub len_bytes: u64,
    /// When it was last written or reused.
    pub modified: SystemTime,
}

/// What became of a chunk that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// It is gone.
    Yes,
    /// It is younger than was said, or in use now.
    Kept,
    /// It was not there.
    Absent,
}
