//! A store in memory: for tests, and the smallest example of one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use image::{Error, ErrorKind, Result};

use super::{Form, Packed, PruneStore, ReadStore, Removed, Sealed, Stored, WriteStore};
use crate::ChunkId;

/// A store in memory, or one of several users of it: each is a writer of its own.
#[derive(Debug)]
pub struct MemoryStore {
    name: String,
    form: Form,
    shared: Arc<Mutex<Shared>>,
    number: u64,
}

#[derive(Debug, Default)]
struct Shared {
    chunks: HashMap<ChunkId, Kept>,
    /// Those who put or reused something and were not dropped yet.
    writers: HashMap<u64, SystemTime>,
    users: u64,
}

#[derive(Debug)]
struct Kept {
    form: Form,
    bytes: Vec<u8>,
    modified: SystemTime,
}

impl MemoryStore {
    /// An empty one that keeps chunks in `form`; `name` is for errors.
    pub fn new(name: impl Into<String>, form: Form) -> Self {
        MemoryStore { name: name.into(), form, shared: Arc::default(), number: 0 }
    }

    /// Another user of the same chunks, who puts new ones in `form`.
    pub fn another(&self, form: Form) -> Self {
        let mut shared = self.shared();
        shared.users += 1;
        let number = shared.users;
        drop(shared);
        let (name, shared) = (self.name.clone(), Arc::clone(&self.shared));
        MemoryStore { name, form, shared, number }
    }

    /// Puts any bytes under the name of a chunk, as a broken disk would.
    pub fn spoil(&self, id: &ChunkId, bytes: Vec<u8>) {
        let kept = Kept { form: self.form, bytes, modified: SystemTime::now() };
        self.shared().chunks.insert(*id, kept);
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadStore for MemoryStore {
    fn name(&self) -> &str {
        &self.name
    }

    fn has(&self, id: &ChunkId) -> Result<bool> {
        Ok(self.shared().chunks.get(id).is_some_and(|kept| !kept.bytes.is_empty()))
    }

    fn fetch(&self, id: &ChunkId) -> Result<Option<Packed>> {
        let shared = self.shared();
        Ok(shared.chunks.get(id).map(|kept| Packed {
            bytes: kept.bytes.clone(),
            form: kept.form,
            origin: format!("{}/{id}", self.name),
        }))
    }
}

impl WriteStore for MemoryStore {
    fn form(&self) -> Form {
        self.form
    }

    fn reuse(&self, id: &ChunkId) -> Result<bool> {
        let mut shared = self.shared();
        let now = SystemTime::now();
        shared.writers.entry(self.number).or_insert(now);
        match shared.chunks.get_mut(id) {
            Some(kept) if !kept.bytes.is_empty() => {
                kept.modified = now;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn put(&self, chunk: &Sealed<'_>, replace: bool) -> Result<()> {
        if chunk.form() != self.form {
            let sentence = format!("{} keeps no {} chunks", self.name, chunk.form().name());
            return Err(Error::new(ErrorKind::Invalid, sentence).at(&self.name, None));
        }
        if self.reuse(chunk.id())? && !replace {
            return Ok(());
        }
        let modified = SystemTime::now();
        let kept = Kept { form: chunk.form(), bytes: chunk.bytes().to_vec(), modified };
        self.shared().chunks.insert(*chunk.id(), kept);
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

impl PruneStore for MemoryStore {
    fn list(&self, visit: &mut dyn FnMut(Stored) -> Result<()>) -> Result<()> {
        let stored = |(id, kept): (&ChunkId, &Kept)| Stored {
            id: *id,
            form: kept.form,
            len_bytes: kept.bytes.len() as u64,
            modified: kept.modified,
        };
        // Collected first: who visits may well ask for more.
        let all: Vec<Stored> = self.shared().chunks.iter().map(stored).collect();
        all.into_iter().try_for_each(visit)
    }

    fn remove(&self, id: &ChunkId, unused_since: SystemTime) -> Result<Removed> {
        let mut shared = self.shared();
        let oldest = shared.writers.values().min();
        let limit = oldest.map_or(unused_since, |oldest| unused_since.min(*oldest));
        match shared.chunks.get(id) {
            None => Ok(Removed::Absent),
            Some(kept) if kept.modified >= limit => Ok(Removed::Kept),
            Some(_) => {
                shared.chunks.remove(id);
                Ok(Removed::Yes)
            }
        }
    }
}

impl Drop for MemoryStore {
    fn drop(&mut self) {
        let number = self.number;
        self.shared().writers.remove(&number);
    }
}
