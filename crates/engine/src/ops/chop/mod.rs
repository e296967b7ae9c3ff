//! Keep in a store the chunks that an index names, read from the blob that it was made of.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chunks::index::Span;
use chunks::store::{Form, Length, Packed, Packer, Unpacker, Unverified, WriteStore};
use chunks::{Algorithm, ChunkId};
use digest::{DIGEST_BYTES, Lanes, Message};
use image::{Error, ErrorKind, Image, Phase, Result, Task};

use crate::indexes::open_index;
use crate::location::{Format, Location};
use crate::ops::index;
use crate::pipeline::for_each_piece;
use crate::registry;
use crate::stores::{self, StoreLocation};
use crate::{Lenience, Threads};

/// What is to be kept where.
#[derive(Clone, Debug)]
pub struct ChopRequest {
    /// The index.
    pub index: PathBuf,
    /// The file or device that it was made of.
    pub source: Location,
    /// Where the chunks are kept.
    pub store: StoreLocation,
    /// The form of new chunks.
    pub form: Form,
    /// Level of zstd.
    pub level: i32,
    /// Except what these indexes name.
    pub ignore: Vec<PathBuf>,
    /// Except these.
    pub ignore_chunks: HashSet<ChunkId>,
    /// Whether unknown flags of indexes are ignored.
    pub lenience: Lenience,
    /// How many threads.
    pub threads: Threads,
}

/// What was kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChopReport {
    /// Different chunks that were asked for.
    pub chunks: u64,
    /// Chunks that the store had.
    pub present: u64,
    /// Chunks that were put into it.
    pub new: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// Chunks that a thread takes at once: enough for the lanes.
const BATCH: usize = 32;

/// Keeps the chunks. Each is what its name says, or is not kept.
///
/// After an error or an interruption the store has some of them, each whole; the same again brings the rest.
///
/// # Errors
///
/// `Damaged`, with its place, for the first chunk that is something else in the source; `TooSmall` for a source that
/// ends before the blob does.
pub fn perform(request: &ChopRequest, task: &Task) -> Result<ChopReport> {
    let start = Instant::now();
    let index = open_index(&request.index, request.lenience)?;
    let raw = Location { format: Some(Format::Raw), path: request.source.path().to_owned() };
    let source = registry::open_source(&raw, task)?;
    let (has, needs) = (source.facts.size_bytes, index.size_bytes());
    let name = source.facts.path.display().to_string();
    if has < needs {
        let sentence = format!("{name} has {has} bytes, and the blob of the index {needs}");
        return Err(Error::new(ErrorKind::TooSmall, sentence).at(name, None));
    }
    let store = stores::open_write(&request.store, request.form)?;
    Packer::new(store.form(), request.level)?;
    let ignored = index::names_of(&request.ignore, request.lenience, task)?;
    let mut seen = HashSet::new();
    let mut wanted: Vec<Span> = Vec::new();
    for span in index.chunks(0..index.count()) {
        task.checkpoint()?;
        let span = span?;
        let is_ignored = ignored.contains_key(&span.id) || request.ignore_chunks.contains(&span.id);
        if !is_ignored && seen.insert(span.id) {
            wanted.push(span);
        }
    }
    drop(seen);
    let work = Work {
        image: &*source.image,
        name: &name,
        algorithm: index.algorithm(),
        store: &*store,
        level: request.level,
        present: AtomicU64::new(0),
        new: AtomicU64::new(0),
        task,
    };
    task.begin(Phase::Chunk, wanted.iter().map(|span| span.len_bytes).sum());
    for_each_piece(
        request.threads,
        task,
        wanted.chunks(BATCH).map(Ok),
        |some, _| work.batch(some),
        Duration::from_secs(1),
        || Ok(()),
    )?;
    source.facts.refuse_changed("read")?;
    task.begin(Phase::Flush, 0);
    store.flush()?;
    Ok(ChopReport {
        chunks: wanted.len() as u64,
        present: work.present.into_inner(),
        new: work.new.into_inner(),
        elapsed: start.elapsed(),
    })
}

struct Work<'a> {
    image: &'a dyn Image,
    name: &'a str,
    algorithm: Algorithm,
    store: &'a dyn WriteStore,
    level: i32,
    present: AtomicU64,
    new: AtomicU64,
    task: &'a Task,
}

/// A chunk in the lanes.
struct Waiting {
    span: Span,
    plain: Unverified,
}

impl Message for Waiting {
    fn piece(&self, number: usize) -> Option<&[u8]> {
        self.plain.piece(number)
    }
}

impl Work<'_> {
    fn batch(&self, some: &[Span]) -> Result<()> {
        let mut unpacker = Unpacker::default();
        let mut packer = Packer::new(self.store.form(), self.level)?;
        let mut lanes = Lanes::new(self.algorithm);
        let mut outcome = Ok(());
        let mut done = |waiting: Waiting, digest: [u8; DIGEST_BYTES]| {
            if outcome.is_ok() {
                outcome = self.keep(&mut packer, waiting, &digest);
            }
        };
        for span in some {
            self.task.checkpoint()?;
            self.task.advance(span.len_bytes);
            if self.store.reuse(&span.id)? {
                self.present.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let mut bytes = vec![0; span.len_bytes as usize];
            self.image.read_at(&mut bytes, span.offset)?;
            let packed = Packed { bytes, form: Form::Plain, origin: self.name.to_string() };
            let plain = unpacker.unpack(packed, Length::Exactly(span.len_bytes))?;
            lanes.push(Waiting { span: *span, plain }, &mut done);
        }
        lanes.finish(&mut done);
        outcome
    }

    fn keep(
        &self,
        packer: &mut Packer,
        waiting: Waiting,
        digest: &[u8; DIGEST_BYTES],
    ) -> Result<()> {
        let Waiting { span, plain } = waiting;
        let chunk = plain.believe(&span.id, digest).map_err(|_| {
            let sentence = format!(
                "{} is not what the index was made of: chunk {} at offset {} is {} there",
                self.name,
                span.id,
                span.offset,
                ChunkId(*digest)
            );
            Error::new(ErrorKind::Damaged, sentence).at(self.name, Some(span.range()))
        })?;
        self.store.put(&packer.seal(&span.id, &chunk)?, false)?;
        self.new.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
