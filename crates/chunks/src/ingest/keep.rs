//! What becomes of a chunk once its name is known: nothing, or a place in a store.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use digest::{Algorithm, Message};
use image::Result;

use super::Pieces;
use crate::ChunkId;
use crate::store::{Length, Packer, Unpacker, WriteStore};

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
    seen: Mutex<HashSet<ChunkId>>,
    new_chunks: AtomicU64,
    new_bytes: AtomicU64,
    packed_bytes: AtomicU64,
    reused_chunks: AtomicU64,
    reused_bytes: AtomicU64,
    repaired_chunks: AtomicU64,
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
        Kept {
            store,
            algorithm,
            level,
            existing,
            seen: Mutex::default(),
            new_chunks: AtomicU64::new(0),
            new_bytes: AtomicU64::new(0),
            packed_bytes: AtomicU64::new(0),
            reused_chunks: AtomicU64::new(0),
            reused_bytes: AtomicU64::new(0),
            repaired_chunks: AtomicU64::new(0),
        }
    }

    /// What was kept so far.
    pub fn totals(&self) -> Totals {
        Totals {
            new_chunks: self.new_chunks.load(Ordering::Relaxed),
            new_bytes: self.new_bytes.load(Ordering::Relaxed),
            packed_bytes: self.packed_bytes.load(Ordering::Relaxed),
            reused_chunks: self.reused_chunks.load(Ordering::Relaxed),
            reused_bytes: self.reused_bytes.load(Ordering::Relaxed),
            repaired_chunks: self.repaired_chunks.load(Ordering::Relaxed),
        }
    }

    /// Whether it is the first time that this chunk comes, as far as that is remembered.
    fn is_first(&self, id: &ChunkId) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= SEEN_LIMIT {
            seen.clear();
        }
        seen.insert(*id)
    }

    /// Whether the store's chunk is what its name says.
    fn is_good(&self, unpacker: &mut Unpacker, id: &ChunkId, len_bytes: u64) -> bool {
        let Ok(Some(packed)) = self.store.fetch(id) else { return false };
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
        if !self.is_first(id) {
            return Ok(());
        }
        let len_bytes = len_of(pieces);
        let mut replace = false;
        if self.store.reuse(id)? {
            if self.existing == Existing::Trusted
                || self.is_good(&mut keeper.unpacker, id, len_bytes)
            {
                self.reused_chunks.fetch_add(1, Ordering::Relaxed);
                self.reused_bytes.fetch_add(len_bytes, Ordering::Relaxed);
                return Ok(());
            }
            replace = true;
            self.repaired_chunks.fetch_add(1, Ordering::Relaxed);
        }
        let sealed = keeper.packer.seal(id, pieces)?;
        self.store.put(&sealed, replace)?;
        self.new_chunks.fetch_add(1, Ordering::Relaxed);
        self.new_bytes.fetch_add(len_bytes, Ordering::Relaxed);
        self.packed_bytes.fetch_add(sealed.bytes().len() as u64, Ordering::Relaxed);
        Ok(())
    }
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
