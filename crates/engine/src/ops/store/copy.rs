//! Bring chunks from stores into another one, verified on the way.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chunks::ChunkId;
use chunks::store::{
    Chunk, Form, Length, Packer, PruneStore, ReadStore, Stored, Unpacker, WriteStore,
};
use image::{Error, ErrorKind, Phase, Result, Task};

use super::indexes_in;
use super::verify::believe_either;
use crate::ops::index;
use crate::pipeline::for_each_piece;
use crate::stores::{self, StoreLocation};
use crate::{Lenience, Threads};

/// What is brought where.
#[derive(Clone, Debug)]
pub struct CopyRequest {
    /// Where chunks are looked for, in this order.
    pub sources: Vec<StoreLocation>,
    /// Where they go.
    pub target: StoreLocation,
    /// Only what these indexes name, or the indexes in these folders; with none, all chunks of the first source.
    pub indexes: Vec<PathBuf>,
    /// Except what these indexes name.
    pub ignore: Vec<PathBuf>,
    /// Except these.
    pub ignore_chunks: HashSet<ChunkId>,
    /// Whether unknown flags of indexes are ignored.
    pub lenience: Lenience,
    /// The form of the chunks in the target.
    pub form: Form,
    /// Level of zstd for chunks that have to be packed anew.
    pub level: i32,
    /// How many threads.
    pub threads: Threads,
}

/// What was brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyReport {
    /// Where it went.
    pub target: String,
    /// Chunks that were asked for.
    pub chunks: u64,
    /// Chunks that the target had.
    pub present: u64,
    /// Chunks that were brought.
    pub copied: u64,
    /// Their bytes in the target.
    pub copied_bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// Chunks that a thread takes at once.
const BATCH: usize = 32;

/// Brings the chunks. Each is verified before it is kept.
///
/// After an error or an interruption the target has some of them, each whole; the same again brings the rest.
///
/// # Errors
///
/// `NotFound` for a chunk that no source has; `Damaged` for one that no source has unharmed.
pub fn copy(request: &CopyRequest, task: &Task) -> Result<CopyReport> {
    let start = Instant::now();
    Packer::new(request.form, request.level)?;
    let mut sources: Vec<Box<dyn ReadStore>> = Vec::new();
    for location in &request.sources {
        sources.push(stores::open_read(location)?);
    }
    let wanted = wanted(request, task)?;
    // Made last: what is refused leaves no new folder.
    let target = stores::open_write(&request.target, request.form)?;
    let work = Work {
        sources: &sources,
        target: &*target,
        level: request.level,
        present: AtomicU64::new(0),
        copied: AtomicU64::new(0),
        copied_bytes: AtomicU64::new(0),
        task,
    };
    task.begin(Phase::Copy, wanted.iter().map(|(_, bytes)| bytes.unwrap_or(0)).sum());
    for_each_piece(
        request.threads,
        task,
        wanted.chunks(BATCH).map(Ok),
        |some, _| work.batch(some),
        Duration::from_secs(1),
        || Ok(()),
    )?;
    task.begin(Phase::Flush, 0);
    target.flush()?;
    Ok(CopyReport {
        target: target.name().to_string(),
        chunks: wanted.len() as u64,
        present: work.present.into_inner(),
        copied: work.copied.into_inner(),
        copied_bytes: work.copied_bytes.into_inner(),
        elapsed: start.elapsed(),
    })
}

/// The chunks that are asked for, each once, with their lengths in bytes where those are known.
fn wanted(request: &CopyRequest, task: &Task) -> Result<Vec<(ChunkId, Option<u64>)>> {
    let ignored = index::names_of(&indexes_in(&request.ignore)?, request.lenience, task)?;
    let mut wanted: Vec<(ChunkId, Option<u64>)> = Vec::new();
    if request.indexes.is_empty() {
        let first = request
            .sources
            .first()
            .ok_or_else(|| Error::new(ErrorKind::Invalid, "no store was named to copy from"))?;
        let store: Box<dyn PruneStore> = stores::open_prune(first)?;
        store.list(&mut |stored: Stored| {
            task.checkpoint()?;
            wanted.push((stored.id, None));
            Ok(())
        })?;
    } else {
        let names = index::names_of(&indexes_in(&request.indexes)?, request.lenience, task)?;
        wanted.extend(names.into_iter().map(|(id, len_bytes)| (id, Some(len_bytes))));
    }
    wanted.retain(|(id, _)| !ignored.contains_key(id) && !request.ignore_chunks.contains(id));
    wanted.sort_unstable();
    wanted.dedup_by_key(|(id, _)| *id);
    Ok(wanted)
}

struct Work<'a> {
    sources: &'a [Box<dyn ReadStore>],
    target: &'a dyn WriteStore,
    level: i32,
    present: AtomicU64,
    copied: AtomicU64,
    copied_bytes: AtomicU64,
    task: &'a Task,
}

impl Work<'_> {
    fn batch(&self, some: &[(ChunkId, Option<u64>)]) -> Result<()> {
        let mut unpacker = Unpacker::default();
        let mut packer = Packer::new(self.target.form(), self.level)?;
        for (id, len_bytes) in some {
            self.task.checkpoint()?;
            self.task.advance(len_bytes.unwrap_or(0));
            if self.target.reuse(id)? {
                self.present.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let chunk = self.bring(&mut unpacker, id, *len_bytes)?;
            let sealed = packer.seal(id, &chunk)?;
            self.target.put(&sealed, false)?;
            self.copied.fetch_add(1, Ordering::Relaxed);
            self.copied_bytes.fetch_add(sealed.bytes().len() as u64, Ordering::Relaxed);
            drop(sealed);
            unpacker.recycle(chunk.into_bytes());
        }
        Ok(())
    }

    /// The chunk from the first source that has it unharmed.
    fn bring(
        &self,
        unpacker: &mut Unpacker,
        id: &ChunkId,
        len_bytes: Option<u64>,
    ) -> Result<Chunk> {
        let length = len_bytes.map_or(Length::UNKNOWN, Length::Exactly);
        let mut worst = None;
        for source in self.sources {
            let found = match source.fetch(id) {
                Ok(None) => continue,
                Ok(Some(packed)) => believe_either(unpacker, packed, id, length),
                Err(error) => Err(error),
            };
            match found {
                Ok(chunk) => return Ok(chunk),
                Err(error) => {
                    self.task.warn(error.full_sentence());
                    worst = Some(error);
                }
            }
        }
        Err(worst.unwrap_or_else(|| {
            let names: Vec<&str> = self.sources.iter().map(|source| source.name()).collect();
            let sentence = format!("chunk {id} is missing: it is not in {}", names.join(", "));
            Error::new(ErrorKind::NotFound, sentence)
        }))
    }
}
