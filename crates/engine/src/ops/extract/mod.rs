//! Extract the blob of an index: from what is there already, from seeds, and what is missing from chunk stores.

mod assembly;
mod counts;
mod cut_seed;
mod plain;
mod prepare;
mod runs;
mod seeds;
mod supply;
mod tables;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chunks::index::Index;
use chunks::store::{BadChunk, Chain};
use image::layers::Throttle;
use image::{Error, ErrorKind, ImageMut, Phase, Result, Task};

use crate::indexes::Lenience;
use crate::location::Location;
use crate::registry;
use crate::scan::{Scan, scan};
use crate::stores::Stores;
use crate::target::{Claim, Leftover, Opened, TargetKind};
use crate::{Amount, Reflink, Steps, Threads};
pub(crate) use assembly::Assembly;
use assembly::Crew;
use counts::Counts;
use plain::PlainChunks;
pub use prepare::plan;
use seeds::Seed;
pub use seeds::SeedRequest;
pub(crate) use tables::{Repeats, Zeroes};

/// What is to be extracted where, and how.
#[derive(Clone, Debug)]
pub struct ExtractRequest {
    /// The index of the blob.
    pub index: PathBuf,
    /// What is written: a block device, or a file; in a folder, the name of the index without `.caibx`.
    pub target: Location,
    /// Where chunks are fetched from.
    pub stores: Stores,
    /// An existing file may be replaced.
    pub force: bool,
    /// An existing file is made what the index says where it stands; what is right in it already stays.
    pub in_place: bool,
    /// Files that may hold what is wanted.
    pub seeds: Vec<SeedRequest>,
    /// Folders of such files.
    pub seed_folders: Vec<PathBuf>,
    /// Whether a file shares the blocks of seeds, and of equal parts of itself.
    pub reflink: Reflink,
    /// Read back what was written, and take all digests again.
    pub verify: bool,
    /// What to do about feature flags in indexes that nobody knows.
    pub lenience: Lenience,
    /// Take at most so many bytes a second from seeds and stores, as they are unpacked.
    pub limit_bytes_per_s: Option<u64>,
    /// How many threads.
    pub threads: Threads,
    /// Told of each step.
    pub steps: Steps,
}

/// An extract that can be done: everything is open, the target is claimed, nothing is written.
pub struct ExtractPlan {
    /// The index.
    pub index: PathBuf,
    /// What will be written.
    pub target: PathBuf,
    /// What the target is.
    pub target_kind: TargetKind,
    /// Size of the blob in bytes.
    pub size_bytes: u64,
    /// All chunks.
    pub total: Amount,
    /// Different chunks.
    pub distinct_chunks: u64,
    /// Chunks that are known to be zero.
    pub zero: Amount,
    /// Chunks that the seeds have, if they are what their indexes say.
    pub seeds: Amount,
    /// Chunks that are the same as others further to the front.
    pub own: Amount,
    /// Chunks that would have to be fetched onto a target that holds nothing of them yet.
    pub fetch: Amount,
    /// What an interrupted extract has left, to be taken up again.
    pub partial: Option<PathBuf>,
    request: ExtractRequest,
    opened_index: Index,
    opened_seeds: Vec<Seed>,
    chain: Chain,
    zeroes: Zeroes,
    repeats: Repeats,
    claim: Claim,
}

/// What an extract did.
#[derive(Clone, Debug)]
pub struct ExtractReport {
    /// The index.
    pub index: PathBuf,
    /// What was written.
    pub target: PathBuf,
    /// What it is.
    pub target_kind: TargetKind,
    /// Size of the blob in bytes.
    pub size_bytes: u64,
    /// All chunks.
    pub total: Amount,
    /// Different chunks.
    pub distinct_chunks: u64,
    /// Chunks that are zero, and were left out or zeroed.
    pub zero: Amount,
    /// Chunks that stood on the target already.
    pub in_place: Amount,
    /// Chunks from seeds.
    pub seeds: Amount,
    /// Of them, bytes whose blocks are shared instead of written.
    pub seeds_cloned_bytes: u64,
    /// Chunks taken from further to the front of the blob.
    pub own: Amount,
    /// Of them, bytes whose blocks are shared instead of written.
    pub own_cloned_bytes: u64,
    /// Chunks from the cache.
    pub cache: Amount,
    /// Chunks from stores.
    pub stores: Amount,
    /// Of both, bytes whose blocks are shared with uncompressed chunks instead of written.
    pub stores_cloned_bytes: u64,
    /// What was fetched from stores, in bytes as it lies there.
    pub fetched_bytes: u64,
    /// Chunks that were bad in a store or in the cache, and good in another; at most 100.
    pub damaged: Vec<BadChunk>,
    /// Whether the target was read back and found right.
    pub verified: bool,
    /// How long it took.
    pub elapsed: Duration,
}

/// Extracts.
///
/// What a power cut, `kill -9`, an error or a wish to stop may leave: of a new or replaced file, the old state under
/// its name, and beside it a partial file; of a file in place or a device, a mixture of old and new. The same
/// extract, done again, reads what is there, keeps each chunk that is right by its digest, and fetches the rest: there
/// is no journal that could be wrong.
///
/// # Errors
///
/// `NotFound` for a chunk that no store has, `Damaged` for one that is nowhere good: both name the chunk and the
/// stores. `Full`; `Damaged` if reading back finds other bytes.
pub fn perform(plan: ExtractPlan, task: &Task) -> Result<ExtractReport> {
    let start = Instant::now();
    let ExtractPlan { request, opened_index, opened_seeds, chain, zeroes, repeats, claim, .. } =
        plan;
    let (path, kind) = (claim.path().to_owned(), claim.kind());
    // What a copy to this target may have noted as done is not there any more.
    let forget = || crate::ops::copy::forget_journal(&path, kind);
    let target = claim.open(plan.size_bytes, Leftover::TakenUp, &forget)?;
    request.steps.reach("created");
    let idle_bytes = if target.is_blank() { plan.zero.bytes } else { 0 };
    task.begin(Phase::Copy, plan.size_bytes - idle_bytes);
    let throttle = request.limit_bytes_per_s.map(Throttle::new);
    let site = Site::of(&target);
    let assembly = Assembly {
        repeats: &repeats,
        plain: PlainChunks::of(&request.stores, &request.index),
        reflink: request.reflink,
        throttle,
        ..site.bare(&opened_index, &opened_seeds, &chain, &zeroes, request.threads)
    };
    let all = 0..opened_index.count();
    let counts = match write(&assembly, &target, &all, &request, task) {
        Ok(()) => assembly.counts,
        Err(error) => {
            let left = target.left_behind("extracted");
            return Err(error.and(format!("{left}; the same command goes on from it")));
        }
    };
    target.publish("image", &request.steps)?;
    chain.flush_cache();
    request.steps.reach("done");
    let (cache, stores, fetched_bytes) = fetched(&chain);
    Ok(ExtractReport {
        index: request.index,
        target: plan.target,
        target_kind: plan.target_kind,
        size_bytes: plan.size_bytes,
        total: plan.total,
        distinct_chunks: plan.distinct_chunks,
        zero: counts.zero.amount(),
        in_place: counts.in_place.amount(),
        seeds: counts.seeds.amount(),
        seeds_cloned_bytes: counts.cloned_bytes.load(Ordering::Relaxed),
        own: counts.own.amount(),
        own_cloned_bytes: counts.own_cloned_bytes.load(Ordering::Relaxed),
        cache,
        stores,
        stores_cloned_bytes: counts.store_cloned_bytes.load(Ordering::Relaxed),
        fetched_bytes,
        damaged: chain.damaged(),
        verified: request.verify,
        elapsed: start.elapsed(),
    })
}

/// Writes everything, makes it durable, and reads it back if that is asked for.
fn write(
    assembly: &Assembly<'_>,
    target: &Opened,
    numbers: &Range<u64>,
    request: &ExtractRequest,
    task: &Task,
) -> Result<()> {
    assembly.run(std::slice::from_ref(numbers), task)?;
    request.steps.reach("copied");
    task.begin(Phase::Flush, 0);
    target.image().flush()?;
    if !request.verify {
        return Ok(());
    }
    let readback = registry::open_readback(&target.location(), task)?;
    let what = Scan {
        index: assembly.index,
        image: &*readback.image,
        threads: request.threads,
        numbers: vec![numbers.clone()],
        throttle: None,
    };
    let found = scan(&what, task)?;
    let Some(range) = found.bad_ranges(assembly.index, 1)?.into_iter().next() else {
        return Ok(());
    };
    let name = target.location().path.display().to_string();
    let sentence = format!(
        "{name} does not hold what was extracted to it: {} chunks are wrong, the first at offset {} (the medium is bad)",
        found.bad.chunks, range.start
    );
    Err(Error::new(ErrorKind::Damaged, sentence).at(&name, Some(range)))
}

/// What stores and cache gave: chunks from the cache, chunks from stores, packed bytes from stores.
pub(crate) fn fetched(chain: &Chain) -> (Amount, Amount, u64) {
    let (mut cache, mut stores, mut packed_bytes) = (Amount::default(), Amount::default(), 0);
    for place in chain.counts() {
        let amount = if place.is_cache { &mut cache } else { &mut stores };
        amount.chunks += place.chunks;
        amount.bytes += place.bytes;
        if !place.is_cache {
            packed_bytes += place.packed_bytes;
        }
    }
    (cache, stores, packed_bytes)
}

/// What an assembly has to know of its target.
pub(crate) struct Site<'a> {
    image: &'a dyn ImageMut,
    file: Option<&'a std::fs::File>,
    blank: bool,
    is_device: bool,
}

impl<'a> Site<'a> {
    /// The site on an open target.
    pub(crate) fn of(target: &'a Opened) -> Self {
        Site {
            image: target.image(),
            file: target.file(),
            blank: target.is_blank(),
            is_device: target.kind() == TargetKind::Device,
        }
    }

    /// An assembly there of what stores have.
    pub(crate) fn assembly<'b>(
        &self,
        index: &'b Index,
        chain: &'b Chain,
        zeroes: &'b Zeroes,
        threads: Threads,
    ) -> Assembly<'b>
    where
        'a: 'b,
    {
        self.bare(index, &[], chain, zeroes, threads)
    }

    /// An assembly there that shares nothing.
    fn bare<'b>(
        &self,
        index: &'b Index,
        seeds: &'b [Seed],
        chain: &'b Chain,
        zeroes: &'b Zeroes,
        threads: Threads,
    ) -> Assembly<'b>
    where
        'a: 'b,
    {
        Assembly {
            index,
            target: self.image,
            file: self.file,
            blank: self.blank,
            is_device: self.is_device,
            seeds,
            chain,
            plain: PlainChunks::default(),
            repeats: Repeats::NONE,
            zeroes,
            reflink: Reflink::Never,
            crew: Crew::of(threads, chain),
            throttle: None,
            counts: Counts::default(),
            cannot_share: (0..=seeds.len()).map(|_| AtomicBool::new(false)).collect(),
        }
    }
}
