//! Is every chunk of a store what its name says?

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use chunks::store::{
    Chunk, DEFAULT_LEVEL, Length, Packed, Packer, PruneStore, ReadStore, Removed, Stored, Unpacker,
    Unverified,
};
use chunks::{Algorithm, ChunkId};
use digest::{DIGEST_BYTES, Lanes, Message};
use image::{Error, ErrorKind, Phase, Result, Task};

use crate::Threads;
use crate::pipeline::for_each_piece;
use crate::stores::{self, StoreLocation};

/// Which store, and what to do about damage.
#[derive(Clone, Debug)]
pub struct VerifyRequest {
    /// The store.
    pub store: StoreLocation,
    /// What becomes of a damaged chunk.
    pub repair: Repair,
    /// How many threads.
    pub threads: Threads,
}

/// What becomes of a damaged chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// It is reported.
    No,
    /// It is removed, so that the next make keeps it anew.
    Remove,
    /// It is replaced from this store; where that has none, it stays.
    From(StoreLocation),
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// The store.
    pub store: String,
    /// Chunks that were read.
    pub chunks: u64,
    /// Their bytes in the store.
    pub packed_bytes: u64,
    /// Damaged chunks: name, and what is wrong. At most [`LIST_LIMIT`].
    pub damaged: Vec<(ChunkId, String)>,
    /// All damaged chunks.
    pub damaged_count: u64,
    /// Damaged chunks that were removed.
    pub removed: u64,
    /// Damaged chunks that were replaced.
    pub repaired: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// Damaged chunks that are listed by name.
pub const LIST_LIMIT: usize = 10_000;
/// Chunks that a thread takes at once: enough for the lanes.
const BATCH: usize = 64;

impl VerifyReport {
    /// Whether every chunk is good now.
    pub fn is_sound(&self) -> bool {
        self.damaged_count == self.removed + self.repaired
    }
}

/// Reads every chunk. A store does not say which digest names its chunks: SHA-512/256 is tried, then SHA-256.
pub fn verify(request: &VerifyRequest, task: &Task) -> Result<VerifyReport> {
    let start = Instant::now();
    let store = stores::open_prune(&request.store)?;
    let helper = match &request.repair {
        Repair::From(location) => Some(stores::open_read(location)?),
        _ => None,
    };
    let mut all: Vec<(ChunkId, u64)> = Vec::new();
    task.begin(Phase::Map, 0);
    store.list(&mut |stored: Stored| {
        task.checkpoint()?;
        all.push((stored.id, stored.len_bytes));
        Ok(())
    })?;
    all.sort_unstable_by_key(|(id, _)| *id);
    all.dedup_by_key(|(id, _)| *id);
    let check = Check {
        store: &*store,
        report: Mutex::new(VerifyReport {
            store: store.name().to_string(),
            ..VerifyReport::default()
        }),
        packed_bytes: AtomicU64::new(0),
        other_guess: AtomicBool::new(false),
        task,
    };
    task.begin(Phase::Verify, all.iter().map(|(_, bytes)| bytes).sum());
    for_each_piece(
        request.threads,
        task,
        all.chunks(BATCH).map(Ok),
        |some, _| check.batch(some),
        Duration::from_secs(1),
        || Ok(()),
    )?;
    let mut report = check.report.into_inner().expect("no thread panicked");
    report.chunks = all.len() as u64;
    report.packed_bytes = check.packed_bytes.into_inner();
    report.damaged.sort_unstable_by_key(|(id, _)| *id);
    mend(&*store, helper.as_deref(), request, &mut report)?;
    report.elapsed = start.elapsed();
    Ok(report)
}

struct Check<'a> {
    store: &'a dyn PruneStore,
    report: Mutex<VerifyReport>,
    packed_bytes: AtomicU64,
    /// The chunk before was named by SHA-256.
    other_guess: AtomicBool,
    task: &'a Task,
}

/// A chunk in the lanes.
struct Waiting {
    id: ChunkId,
    plain: Unverified,
}

impl Message for Waiting {
    fn piece(&self, number: usize) -> Option<&[u8]> {
        self.plain.piece(number)
    }
}

impl Check<'_> {
    fn batch(&self, some: &[(ChunkId, u64)]) -> Result<()> {
        let mut unpacker = Unpacker::default();
        let guess = self.guess();
        let mut lanes = Lanes::new(guess);
        let mut done = |waiting: Waiting, digest: [u8; DIGEST_BYTES]| {
            if digest == waiting.id.0 {
                return;
            }
            match waiting.plain.verify(&waiting.id, other(guess)) {
                Ok(_) => self.other_guess.store(guess == Algorithm::Sha512_256, Ordering::Relaxed),
                Err(error) => self.bad(waiting.id, &error),
            }
        };
        for (id, len_bytes) in some {
            self.task.checkpoint()?;
            let plain = match self.store.fetch(id) {
                // Somebody removed it meanwhile.
                Ok(None) => None,
                Ok(Some(packed)) => {
                    self.packed_bytes.fetch_add(packed.bytes.len() as u64, Ordering::Relaxed);
                    Some(unpacker.unpack(packed, Length::UNKNOWN))
                }
                Err(error) if error.kind() == ErrorKind::Damaged => Some(Err(error)),
                Err(error) => return Err(error),
            };
            match plain {
                None => {}
                Some(Ok(plain)) => lanes.push(Waiting { id: *id, plain }, &mut done),
                Some(Err(error)) => self.bad(*id, &error),
            }
            self.task.advance(*len_bytes);
        }
        lanes.finish(&mut done);
        Ok(())
    }

    /// The digest that named the chunks before.
    fn guess(&self) -> Algorithm {
        if self.other_guess.load(Ordering::Relaxed) {
            Algorithm::Sha256
        } else {
            Algorithm::Sha512_256
        }
    }

    fn bad(&self, id: ChunkId, error: &Error) {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.damaged_count += 1;
        if report.damaged.len() < LIST_LIMIT {
            report.damaged.push((id, error.full_sentence()));
        }
    }
}

fn other(algorithm: Algorithm) -> Algorithm {
    match algorithm {
        Algorithm::Sha512_256 => Algorithm::Sha256,
        Algorithm::Sha256 => Algorithm::Sha512_256,
    }
}

/// The chunk that `packed` holds, whichever digest names it.
pub(super) fn believe_either(
    unpacker: &mut Unpacker,
    packed: Packed,
    id: &ChunkId,
    length: Length,
) -> Result<Chunk> {
    let plain = unpacker.unpack(packed, length)?;
    if Algorithm::Sha256.digest(plain.piece(0).unwrap_or_default()) == id.0 {
        return plain.believe(id, &id.0);
    }
    plain.verify(id, Algorithm::Sha512_256)
}

/// Does with the damaged chunks what was asked for.
fn mend(
    store: &dyn PruneStore,
    helper: Option<&dyn ReadStore>,
    request: &VerifyRequest,
    report: &mut VerifyReport,
) -> Result<()> {
    let mut unpacker = Unpacker::default();
    let mut packer = Packer::new(store.form(), DEFAULT_LEVEL)?;
    for (id, _) in &report.damaged {
        match (&request.repair, helper) {
            (Repair::Remove, _) => {
                // Younger than anything: whoever relies on it relies on what is damaged.
                let far = SystemTime::now() + Duration::from_secs(1 << 32);
                report.removed += u64::from(store.remove(id, far)? == Removed::Yes);
            }
            (Repair::From(_), Some(helper)) => {
                let Some(packed) = helper.fetch(id)? else { continue };
                let Ok(chunk) = believe_either(&mut unpacker, packed, id, Length::UNKNOWN) else {
                    continue;
                };
                store.put(&packer.seal(id, &chunk)?, true)?;
                report.repaired += 1;
            }
            _ => {}
        }
    }
    if report.repaired > 0 {
        store.flush()?;
    }
    Ok(())
}
