//! What becomes of a chunk once its name is known: nothing, or a place in a store.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use digest::{Algorithm, Message};
use image::Result;

use super::Pieces;
use crate::ChunkId;
use crate::store::{Length, Packer, ReadStore, Unpacker, WriteStore};

/// Takes the chunks of an image, from many threads, in no particular order.
pub trait Keep: Sync {
    /// What each thread has for itself.
    type Keeper;

    /// Whether it wants chunks of zeroes, whose names are known without their bytes.
    const NEEDS_BYTES: bool;

    /// For one more thread.
    fn keeper(&self) -> Result<Self::Keeper>;

    /// Takes the chunk made of `pieces`, whose name is `id`.
    fn chunk(&self, keeper: &mut Self::Keeper, id: &ChunkId, pieces: &Pieces) -> Result<()>;
}

/// Keeps nothing: only the names are wanted.
pub struct NameOnly;

impl Keep for NameOnly {
    type Keeper = ();
    const NEEDS_BYTES: bool = false;

    fn keeper(&self) -> Result<()> {
        Ok(())
    }

    fn chunk(&self, (): &mut (), _: &ChunkId, _: &Pieces) -> Result<()> {
        Ok(())
    }
}

/// How far a chunk that a store has already is believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// Its name is believed, unless it is empty.
    #[default]
    Trusted,
    /// It is read; a damaged one is replaced.
    Verified,
}

/// Keeps chunks in a store, each once.
pub struct Kept<'a> {
    store: &'a dyn WriteStore,
    algorithm: Algorithm,
    level: i32,
    existing: Existing,
    seen: Seen,
    totals: Mutex<Totals>,
}

/// Names that are remembered, so that a chunk that comes often is looked for once. When there are more, they are
/// forgotten: the store knows them too.
const SEEN_LIMIT: usize = 256 << 10;

/// What a thread needs to put chunks into a store.
pub struct Keeper {
    packer: Packer,
    unpacker: Unpacker,
}

/// What was kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Chunks that the store did not have.
    pub new_chunks: u64,
    /// Their plain bytes.
    pub new_bytes: u64,
    /// The bytes that they take in the store.
    pub packed_bytes: u64,
    /// Chunks that the store had.
    pub reused_chunks: u64,
    /// Their plain bytes.
    pub reused_bytes: u64,
    /// Chunks that the store had, but damaged, and that were replaced.
    pub repaired_chunks: u64,
}

impl<'a> Kept<'a> {
    /// Chunks go into `store`, compressed with `level` of zstd if it keeps them compressed.
    pub fn new(
        store: &'a dyn WriteStore,
        algorithm: Algorithm,
        level: i32,
        existing: Existing,
    ) -> Self {
        let seen = Seen::at_most(SEEN_LIMIT);
        Kept { store, algorithm, level, existing, seen, totals: Mutex::default() }
    }

    /// What was kept so far.
    pub fn totals(&self) -> Totals {
        *lock(&self.totals)
    }

    /// Whether the store's chunk is what its name says.
    fn is_good(&self, unpacker: &mut Unpacker, id: &ChunkId, len_bytes: u64) -> bool {
        let packed = match self.store.fetch(id) {
            Ok(Some(packed)) => packed,
            // Put by this work, and waiting for a flush.
            Ok(None) => return true,
            Err(_) => return false,
        };
        unpacker
            .unpack(packed, Length::Exactly(len_bytes))
            .and_then(|plain| plain.verify(id, self.algorithm))
            .map(|chunk| unpacker.recycle(chunk.into_bytes()))
            .is_ok()
    }
}

impl Keep for Kept<'_> {
    type Keeper = Keeper;
    const NEEDS_BYTES: bool = true;

    fn keeper(&self) -> Result<Keeper> {
        let packer = Packer::new(self.store.form(), self.level)?;
        Ok(Keeper { packer, unpacker: Unpacker::default() })
    }

    fn chunk(&self, keeper: &mut Keeper, id: &ChunkId, pieces: &Pieces) -> Result<()> {
        if !self.seen.is_first(id) {
            return Ok(());
        }
        let len_bytes = len_of(pieces);
        let mut replace = false;
        if self.store.reuse(id)? {
            if self.existing == Existing::Trusted
                || self.is_good(&mut keeper.unpacker, id, len_bytes)
            {
                lock(&self.totals).reused(len_bytes);
                return Ok(());
            }
            replace = true;
            lock(&self.totals).repaired_chunks += 1;
        }
        let sealed = keeper.packer.seal(id, pieces)?;
        self.store.put(&sealed, replace)?;
        lock(&self.totals).put(len_bytes, sealed.bytes().len() as u64);
        Ok(())
    }
}

/// Keeps nothing, but counts what would be new in a store.
pub struct Wondered<'a> {
    store: Option<&'a dyn ReadStore>,
    seen: Seen,
    totals: Mutex<Totals>,
}

impl<'a> Wondered<'a> {
    /// Asks `store` what it has; without one, everything would be new.
    pub fn new(store: Option<&'a dyn ReadStore>) -> Self {
        // No store remembers for it what came before.
        Wondered { store, seen: Seen::at_most(usize::MAX), totals: Mutex::default() }
    }

    /// What was counted so far; how small chunks could be packed is not known.
    pub fn totals(&self) -> Totals {
        *lock(&self.totals)
    }
}

impl Keep for Wondered<'_> {
    type Keeper = ();
    const NEEDS_BYTES: bool = true;

    fn keeper(&self) -> Result<()> {
        Ok(())
    }

    fn chunk(&self, (): &mut (), id: &ChunkId, pieces: &Pieces) -> Result<()> {
        if self.seen.is_first(id) {
            let is_there = self.store.is_some_and(|store| store.has(id).unwrap_or(false));
            let mut totals = lock(&self.totals);
            if is_there {
                totals.reused(len_of(pieces));
            } else {
                totals.put(len_of(pieces), 0);
            }
        }
        Ok(())
    }
}

/// Names that came already.
struct Seen {
    names: Mutex<HashSet<ChunkId>>,
    limit: usize,
}

impl Seen {
    fn at_most(limit: usize) -> Self {
        Seen { names: Mutex::default(), limit }
    }

    /// Whether it is the first time that this chunk comes, as far as that is remembered.
    fn is_first(&self, id: &ChunkId) -> bool {
        let mut names = lock(&self.names);
        if names.len() >= self.limit {
            names.clear();
        }
        names.insert(*id)
    }
}

impl Totals {
    fn put(&mut self, len_bytes: u64, packed_bytes: u64) {
        self.new_chunks += 1;
        self.new_bytes += len_bytes;
        self.packed_bytes += packed_bytes;
    }

    fn reused(&mut self, len_bytes: u64) {
        self.reused_chunks += 1;
        self.reused_bytes += len_bytes;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn len_of(pieces: &impl Message) -> u64 {
    let mut number = 0;
    let mut len_bytes = 0;
    while let Some(piece) = pieces.piece(number) {
        len_bytes += piece.len() as u64;
        number += 1;
    }
    len_bytes
}
