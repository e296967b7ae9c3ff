//! Is every chunk of a store what its name says?

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use chunks::store::{
    Chunk, DEFAULT_LEVEL, Form, Length, Packed, Packer, PruneStore, ReadStore, Removed, Stored,
    Unpacker, Unverified,
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

/// What becomes of a damaged chunk. One that is there in the other form too, unharmed, is replaced by that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// It is reported, and stays.
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
    /// Chunks that were read; one that is there in both forms counts twice, here and below.
    pub chunks: u64,
    /// Their bytes in the store.
    pub packed_bytes: u64,
    /// Damaged chunks; at most [`LIST_LIMIT`].
    pub damaged: Vec<DamagedChunk>,
    /// All damaged chunks.
    pub damaged_count: u64,
    /// Damaged chunks that were removed.
    pub removed: u64,
    /// Damaged chunks that were replaced.
    pub repaired: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// A chunk that is not what its name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedChunk {
    /// Its name.
    pub id: ChunkId,
    /// What its bytes would be called; `None` if they cannot be unpacked.
    pub found: Option<ChunkId>,
    /// What is wrong.
    pub sentence: String,
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
    let stores = Both {
        compressed: stores::open_prune_as(&request.store, Form::Compressed)?,
        plain: stores::open_prune_as(&request.store, Form::Plain)?,
    };
    let store = &*stores.compressed;
    let helper = match &request.repair {
        Repair::From(location) => Some(stores::open_read(location)?),
        _ => None,
    };
    let mut all: Vec<Listed> = Vec::new();
    task.begin(Phase::Map, 0);
    store.list(&mut |Stored { id, form, len_bytes, .. }| {
        task.checkpoint()?;
        all.push(Listed { id, form, len_bytes });
        Ok(())
    })?;
    all.sort_unstable_by_key(|listed| listed.id);
    let check = Check {
        stores: &stores,
        report: Mutex::new(VerifyReport {
            store: store.name().to_string(),
            ..VerifyReport::default()
        }),
        packed_bytes: AtomicU64::new(0),
        other_guess: AtomicBool::new(false),
        task,
    };
    task.begin(Phase::Verify, all.iter().map(|listed| listed.len_bytes).sum());
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
    report.damaged.sort_unstable_by_key(|bad| bad.id);
    mend(&stores, helper.as_deref(), request, &mut report)?;
    report.elapsed = start.elapsed();
    Ok(report)
}

/// A store, as one that prefers either form: casync looks for the plain one first, most others for the compressed.
struct Both {
    compressed: Box<dyn PruneStore>,
    plain: Box<dyn PruneStore>,
}

impl Both {
    fn of(&self, form: Form) -> &dyn PruneStore {
        match form {
            Form::Compressed => &*self.compressed,
            Form::Plain => &*self.plain,
        }
    }
}

/// A chunk to be read.
struct Listed {
    id: ChunkId,
    form: Form,
    len_bytes: u64,
}

struct Check<'a> {
    stores: &'a Both,
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
    fn batch(&self, some: &[Listed]) -> Result<()> {
        let mut unpacker = Unpacker::default();
        let guess = self.guess();
        let mut lanes = Lanes::new(guess);
        let mut done = |waiting: Waiting, digest: [u8; DIGEST_BYTES]| {
            if digest == waiting.id.0 {
                return;
            }
            match waiting.plain.verify(&waiting.id, other(guess)) {
                Ok(_) => self.other_guess.store(guess == Algorithm::Sha512_256, Ordering::Relaxed),
                Err(error) => self.bad(waiting.id, Some(ChunkId(digest)), &error),
            }
        };
        for Listed { id, form, len_bytes } in some {
            self.task.checkpoint()?;
            let plain = match self.stores.of(*form).fetch(id) {
                // Somebody removed it meanwhile.
                Ok(None) => None,
                Ok(Some(packed)) if packed.form != *form && *len_bytes == 0 => {
                    Some(Err(is_empty(*form, &packed)))
                }
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
                Some(Err(error)) => self.bad(*id, None, &error),
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

    fn bad(&self, id: ChunkId, found: Option<ChunkId>, error: &Error) {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.damaged_count += 1;
        if report.damaged.len() < LIST_LIMIT {
            report.damaged.push(DamagedChunk { id, found, sentence: error.full_sentence() });
        }
    }
}

/// Of a chunk that is empty in this form, stores give the other.
fn is_empty(form: Form, other: &Packed) -> Error {
    let origin = &other.origin;
    let form = form.name();
    let sentence = format!("{origin}: the {form} one beside it is empty, as after a power cut");
    Error::new(ErrorKind::Damaged, sentence).at(origin, None)
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
    stores: &Both,
    helper: Option<&dyn ReadStore>,
    request: &VerifyRequest,
    report: &mut VerifyReport,
) -> Result<()> {
    if request.repair == Repair::No || report.damaged.is_empty() {
        return Ok(());
    }
    let store = &*stores.compressed;
    let mut unpacker = Unpacker::default();
    let mut packer = Packer::new(store.form(), DEFAULT_LEVEL)?;
    for twins in report.damaged.chunk_by(|a, b| a.id == b.id) {
        let (id, count) = (&twins[0].id, twins.len() as u64);
        let own: [&dyn ReadStore; 2] = [store, &*stores.plain];
        let good = own.into_iter().chain(helper).find_map(|store| {
            let packed = store.fetch(id).ok()??;
            believe_either(&mut unpacker, packed, id, Length::UNKNOWN).ok()
        });
        if let Some(chunk) = good {
            store.put(&packer.seal(id, &chunk)?, true)?;
            report.repaired += count;
        } else if request.repair == Repair::Remove {
            // Younger than anything: whoever relies on it relies on what is damaged.
            let far = SystemTime::now() + Duration::from_secs(1 << 32);
            let is_gone = store.remove(id, far)? == Removed::Yes;
            report.removed += if is_gone { count } else { 0 };
        }
    }
    if report.repaired > 0 {
        store.flush()?;
    }
    Ok(())
}
