//! Make an index of an image, and keep its chunks in a store.

mod cut;
mod output;

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chunks::chunker::{Cutting, Rule};
use chunks::index::{Excluded, Header, IndexWriter};
use chunks::ingest::{self, Existing, Kept, NameOnly, Run, Totals, Wondered};
use chunks::store::{DEFAULT_LEVEL, Form, Packer, ReadStore, WriteStore};
use chunks::{Algorithm, ChunkId, ChunkSizes, RARE_CUTS_ABOVE_BYTES};
use image::layers::{Throttle, Throttled};
use image::{Error, ErrorKind, Image, Phase, Result, Task};

use crate::location::Location;
use crate::ops::digest;
use crate::registry::{self, Facts, Source};
use crate::stores::{self, StoreLocation};
use crate::used::used_only;
use crate::{Steps, Threads};
pub use cut::{CutRequest, cut};
use output::Output;

/// Of which image an index is to be made, and how.
#[derive(Clone, Debug)]
pub struct MakeRequest {
    /// What is read.
    pub source: Location,
    /// Only the used blocks of the filesystem on the source are read, as far as partclone knows them: the rest is as if it
    /// were zeroes.
    pub used_only: bool,
    /// The index file; `None` if it goes to a stream ([`perform_into`]), or only the chunks are wanted.
    pub index: Option<PathBuf>,
    /// An existing index may be replaced.
    pub force: bool,
    /// Where the chunks are kept; without it, only the index is made.
    pub store: Option<StoreLocation>,
    /// What the index says was left out; for a blob it means nothing.
    pub excluded: Excluded,
    /// How large the chunks are.
    pub sizes: ChunkSizes,
    /// Whose rule cuts.
    pub rule: Rule,
    /// What names the chunks.
    pub algorithm: Algorithm,
    /// Level of zstd.
    pub level: i32,
    /// How far chunks that are in the store already are believed.
    pub existing: Existing,
    /// The form of new chunks.
    pub form: Form,
    /// Cut and name, and count what would be new; write nothing.
    pub dry_run: bool,
    /// Whether the digest of the whole blob is wanted too. It costs a pass of its own, beside the other.
    pub blob_digest: bool,
    /// Read at most so many bytes a second.
    pub limit_bytes_per_s: Option<u64>,
    /// How many threads.
    pub threads: Threads,
    /// Told of each step.
    pub steps: Steps,
}

impl MakeRequest {
    /// An index without a store, with casync's defaults.
    pub fn new(source: Location) -> Self {
        MakeRequest {
            source,
            used_only: false,
            index: None,
            force: false,
            store: None,
            excluded: Excluded::default(),
            sizes: ChunkSizes::default(),
            rule: Rule::default(),
            algorithm: Algorithm::default(),
            level: DEFAULT_LEVEL,
            existing: Existing::default(),
            form: Form::Compressed,
            dry_run: false,
            blob_digest: false,
            limit_bytes_per_s: None,
            threads: Threads::Automatic,
            steps: Steps::default(),
        }
    }
}

/// An index that can be made: the source and the store are open, nothing is written.
pub struct MakePlan {
    /// What is read.
    pub source: Facts,
    request: MakeRequest,
    image: Arc<dyn Image>,
    cutting: Cutting,
    store: Option<Arc<dyn WriteStore>>,
    /// Of a dry run: the store as it is, if it is there.
    asked: Option<Box<dyn ReadStore>>,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct MakeReport {
    /// What was read.
    pub source: PathBuf,
    /// The index file, if one was wanted.
    pub index: Option<PathBuf>,
    /// Where the chunks are kept, if they are.
    pub store: Option<String>,
    /// Size of the blob in bytes.
    pub size_bytes: u64,
    /// Chunks in the index.
    pub chunks: u64,
    /// The digest that names them.
    pub algorithm: Algorithm,
    /// The sizes that they were cut with.
    pub sizes: ChunkSizes,
    /// What was kept; without a store, nothing.
    pub kept: Totals,
    /// Nothing was written.
    pub is_dry_run: bool,
    /// The digest of the whole blob, if it was wanted.
    pub blob_digest: Option<ChunkId>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Opens the source and the store, and refuses what has to be refused. Writes nothing.
///
/// # Errors
///
/// `NotFound`, `Denied`; `Exists` for an index that may not be replaced; `Invalid` for sizes that cannot be cut;
/// `Unsupported` for a kind of store that chunks cannot be written to.
pub fn plan(request: MakeRequest, task: &Task) -> Result<MakePlan> {
    let cutting = Cutting::new(request.sizes, request.rule)?;
    Packer::new(request.form, request.level)?;
    if request.sizes.avg() > RARE_CUTS_ABOVE_BYTES && request.sizes.min() != request.sizes.max() {
        task.warn(format!(
            "with an average of {} bytes the rolling hash hardly ever cuts: most chunks will have the largest size",
            request.sizes.avg()
        ));
    }
    let mut source = registry::open_source(&request.source, task)?;
    if request.used_only {
        source = used_only(source, task)?;
    }
    let Source { image, facts, .. } = source;
    if let Some(index) = &request.index {
        Output::check(index, request.force)?;
        refuse_same(index, &facts)?;
    }
    let holders = sys::holders::Holders::of_path(&facts.path)?;
    if !holders.mounts.is_empty() {
        task.warn(format!(
            "{} is in use ({holders}): unless nothing writes to it, the index is of no single moment",
            facts.path.display()
        ));
    }
    let store = match (&request.store, request.dry_run) {
        (Some(location), false) => Some(stores::open_write(location, request.form)?),
        _ => None,
    };
    let asked = match (&request.store, request.dry_run) {
        (Some(location), true) => match stores::open_read(location) {
            Ok(store) => Some(store),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        },
        _ => None,
    };
    let image: Arc<dyn Image> = match request.limit_bytes_per_s {
        Some(limit) => Arc::new(Throttled::new(image, Throttle::new(limit))),
        None => Arc::from(image),
    };
    Ok(MakePlan { source: facts, request, image, cutting, store, asked })
}

/// Makes the index, and keeps the chunks.
///
/// The chunks are durable before the index gets its name. After a power cut, `kill -9`, an error or a wish to stop,
/// the index is the old one, or absent, or complete; the store may have chunks that no index names, which
/// `store prune` removes, and never a chunk by halves.
pub fn perform(plan: MakePlan, task: &Task) -> Result<MakeReport> {
    make(plan, None, task)
}

/// The same; the index goes to `stream` while it is made, and only there. Its tail comes when the chunks are durable:
/// what was written until an error is no index.
pub fn perform_into(
    plan: MakePlan,
    stream: &mut (dyn Write + Send),
    task: &Task,
) -> Result<MakeReport> {
    make(plan, Some(stream), task)
}

fn make(
    plan: MakePlan,
    stream: Option<&mut (dyn Write + Send)>,
    task: &Task,
) -> Result<MakeReport> {
    let start = Instant::now();
    let request = &plan.request;
    let named = if request.dry_run { None } else { request.index.as_deref() };
    let output = Output::begin(named, request.force, source_mode(&plan.source))?;
    let made = plan
        .fill(output.writer(stream), task)
        .map_err(|error| left_behind(error, named, plan.store.as_deref()))?;
    output.publish()?;
    request.steps.reach("published");
    // The store protects its chunks from a prune until it is dropped: behind the index.
    let MakePlan { source, request, store: _store, .. } = plan;
    Ok(MakeReport {
        source: source.path,
        index: request.index,
        store: request.store.map(|store| store.to_string()),
        size_bytes: made.size_bytes,
        chunks: made.chunks,
        algorithm: request.algorithm,
        sizes: request.sizes,
        kept: made.kept,
        is_dry_run: request.dry_run,
        blob_digest: made.blob_digest,
        elapsed: start.elapsed(),
    })
}

/// What was found while an index was filled.
struct Made {
    chunks: u64,
    size_bytes: u64,
    kept: Totals,
    blob_digest: Option<ChunkId>,
}

impl MakePlan {
    /// Cuts, names and keeps the chunks, and writes a whole index to `output`; its tail when the chunks are durable.
    fn fill<'a>(&'a self, output: Box<dyn Write + Send + 'a>, task: &Task) -> Result<Made> {
        let MakePlan { source, request, image, .. } = self;
        let failed = |cause| output::failed(request.index.as_deref(), cause);
        let header = Header::new(request.algorithm, request.sizes).excluding(request.excluded);
        task.begin(Phase::Chunk, source.size_bytes);
        let mut writer = IndexWriter::new(output, &header).map_err(failed)?;
        request.steps.reach("created");
        let has_failed = &AtomicBool::new(false);
        let (kept, blob_digest) = std::thread::scope(|scope| {
            let go_on = |_| match has_failed.load(Ordering::Relaxed) {
                true => Err(Error::new(ErrorKind::Cancelled, "the index was given up")),
                false => Ok(()),
            };
            let whole = move || digest::of_blob(&**image, request.algorithm, task, &go_on);
            let blob_digest = request.blob_digest.then(|| scope.spawn(whole));
            let kept = self.cut(task, |run: Run| {
                writer.push_run(&run.id, run.len_bytes, run.count).map_err(failed)
            });
            // Nobody waits for the digest of a blob that could not be cut.
            has_failed.store(kept.is_err(), Ordering::Relaxed);
            let blob_digest = blob_digest.map(|thread| thread.join().expect("it does not panic"));
            Ok::<_, Error>((kept?, blob_digest.transpose()?))
        })?;
        request.steps.reach("chunked");
        source.refuse_changed("cut")?;
        let (chunks, size_bytes) = (writer.count(), writer.size_bytes());
        task.begin(Phase::Flush, 0);
        if let Some(store) = &self.store {
            store.flush()?;
        }
        drop(writer.finish().map_err(failed)?);
        request.steps.reach("flushed");
        Ok(Made { chunks, size_bytes, kept, blob_digest })
    }

    /// Hands the chunks, in order, to `write`, and each to the store, if there is one.
    fn cut(&self, task: &Task, write: impl FnMut(Run) -> Result<()> + Send) -> Result<Totals> {
        let MakePlan { request, image, cutting, .. } = self;
        let (image, algorithm) = (&**image, request.algorithm);
        let threads = request.threads.count();
        match &self.store {
            _ if request.dry_run => {
                let keep = Wondered::new(self.asked.as_deref());
                ingest::ingest(image, cutting, algorithm, threads, task, &keep, write)?;
                Ok(keep.totals())
            }
            Some(store) => {
                let keep = Kept::new(&**store, algorithm, request.level, request.existing);
                ingest::ingest(image, cutting, algorithm, threads, task, &keep, write)?;
                Ok(keep.totals())
            }
            None => {
                ingest::ingest(image, cutting, algorithm, threads, task, &NameOnly, write)?;
                Ok(Totals::default())
            }
        }
    }
}

/// Says in which state a make that failed leaves things. What was packed already need not be packed again: it is made
/// durable, if that can be done.
fn left_behind(error: Error, index: Option<&Path>, store: Option<&dyn WriteStore>) -> Error {
    let kept = store.filter(|store| store.flush().is_ok());
    let Some(index) = index else { return error };
    let state = if index.exists() { "is as it was" } else { "was not made" };
    let error = error.and(format_args!("{} {state}", index.display()));
    match kept {
        Some(store) => {
            error.and(format_args!("the next make finds what was kept in {}", store.name()))
        }
        None => error,
    }
}

/// The mode that a new index takes after: that of a file; of a device, that of an ordinary file.
fn source_mode(source: &Facts) -> u32 {
    match fs::metadata(&source.path) {
        Ok(metadata) if metadata.is_file() => metadata.mode(),
        _ => 0o666,
    }
}

/// An index over its own source would destroy it.
fn refuse_same(index: &Path, source: &Facts) -> Result<()> {
    let same = match (fs::metadata(index), fs::metadata(&source.path)) {
        (Ok(index), Ok(source)) => (index.dev(), index.ino()) == (source.dev(), source.ino()),
        _ => false,
    };
    if same {
        let name = index.display().to_string();
        let sentence = format!("{name} is the source itself (choose another name for the index)");
        return Err(Error::new(ErrorKind::Invalid, sentence).at(name, None));
    }
    Ok(())
}
