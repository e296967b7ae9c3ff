//! Verify a file or device against an index, without any store; and write anew what is wrong in it.

mod partition;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chunks::index::Index;
use chunks::store::Chain;
use image::layers::Throttle;
use image::{Error, ErrorKind, Image, Phase, Result, Task};

use super::extract::{Site, Zeroes, fetched};
use crate::indexes::{Lenience, open_index};
use crate::location::{Format, Location};
use crate::registry::{self, Facts, MediumKind, Source};
use crate::scan::{Findings, Scan, scan};
use crate::stores::{self, Stores};
use crate::target::{Claim, Layout, Leftover, Opened, Wanted, refuse_same};
use crate::{Amount, Steps, Threads};
pub use partition::{ImageVerifyReport, ImageVerifyRequest, verify_image};

/// What is to be verified.
#[derive(Clone, Debug)]
pub struct VerifyRequest {
    /// The index.
    pub index: PathBuf,
    /// The file or device that should hold its blob.
    pub target: Location,
    /// Where chunks are fetched from to repair it.
    pub stores: Stores,
    /// Write anew what is wrong.
    pub repair: bool,
    /// Only find out what a repair would write anew.
    pub dry_run: bool,
    /// What to do about feature flags in the index that nobody knows.
    pub lenience: Lenience,
    /// Read at most so many bytes a second.
    pub limit_bytes_per_s: Option<u64>,
    /// How many threads.
    pub threads: Threads,
    /// Told of each step.
    pub steps: Steps,
}

/// A verification that can be done.
pub struct VerifyPlan {
    request: VerifyRequest,
    index: Index,
    source: Source,
    /// What a repair writes, claimed.
    claim: Option<(Claim, Chain)>,
}

/// What a verification found.
#[derive(Clone, Debug)]
pub struct VerifyReport {
    /// The index.
    pub index: PathBuf,
    /// What was verified.
    pub target: Facts,
    /// Size of the blob in bytes.
    pub size_bytes: u64,
    /// Chunks of the index.
    pub chunks: u64,
    /// What was found at first.
    pub found: Findings,
    /// The first of the bad ranges, in bytes.
    pub bad_ranges: Vec<std::ops::Range<u64>>,
    /// How many bad ranges there are.
    pub bad_count: u64,
    /// What a repair did.
    pub repair: Option<Repair>,
    /// Whether a repair was only thought through.
    pub is_dry_run: bool,
    /// How long it took.
    pub elapsed: Duration,
}

/// What a repair did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repair {
    /// What was written anew.
    pub written: Amount,
    /// What was fetched for it from stores and the cache.
    pub fetched: Amount,
    /// The same as it lies in the stores, in bytes.
    pub fetched_bytes: u64,
}

/// How many bad ranges a report lists.
const LISTED_MAX: usize = 1 << 16;

impl VerifyReport {
    /// Whether the target has the right size. A device may be larger than the blob.
    pub fn has_right_size(&self) -> bool {
        match self.target.medium {
            MediumKind::File => self.target.size_bytes == self.size_bytes,
            MediumKind::Device => self.target.size_bytes >= self.size_bytes,
        }
    }

    /// Whether the target was found to hold the blob, and nothing had to be repaired.
    pub fn is_right(&self) -> bool {
        self.has_right_size() && self.found.bad.chunks == 0
    }

    /// Whether what was wrong was written anew, and read back right.
    pub fn is_repaired(&self) -> bool {
        self.repair.is_some() && !self.is_dry_run
    }
}

/// Opens the index and the target; for a repair claims the target, and opens the stores. Writes nothing.
///
/// # Errors
///
/// `NotFound`, `Denied`; `Damaged`, `Unsupported` for the index. For a repair also `InUse` for a target that is
/// mounted, attached or claimed, `TooSmall` for a device, `NotFound` without a store.
pub fn plan(request: VerifyRequest, task: &Task) -> Result<VerifyPlan> {
    let index = open_index(&request.index, request.lenience)?;
    // As it is, or in its container: what else it looks like is what the index says, or it is wrong.
    let target = registry::as_disk(&request.target)?;
    let source = registry::open_source(&target, task)?;
    if request.repair && source.facts.format.is_backup() {
        let name = source.facts.path.display().to_string();
        let sentence = format!("{name} is a backup, which cannot be repaired where it stands");
        return Err(Error::new(ErrorKind::Unsupported, sentence).at(name, None));
    }
    let layout = match source.facts.format {
        Format::Spgz => Layout::Spgz { block_bytes: None },
        _ => Layout::Raw,
    };
    let claim = match request.repair {
        true => Some((claim(&request, &index, layout)?, open_chain(&request, &index)?)),
        false => None,
    };
    let (has, needs) = (source.facts.size_bytes, index.size_bytes());
    if source.facts.medium == MediumKind::Device && has > needs {
        task.note(format!(
            "{} is {} bytes larger than the image; the rest of it is not looked at",
            source.facts.path.display(),
            has - needs
        ));
    }
    Ok(VerifyPlan { request, index, source, claim })
}

fn claim(request: &VerifyRequest, index: &Index, layout: Layout) -> Result<Claim> {
    Claim::new(Wanted {
        path: request.target.path().to_owned(),
        size_bytes: index.size_bytes(),
        new_mode: 0,
        layout,
        force: true,
        in_place: true,
        apart: &|path, found| refuse_same(&request.index, path, found),
        is_finished: &|_, _| false,
    })
}

fn open_chain(request: &VerifyRequest, index: &Index) -> Result<Chain> {
    stores::open_chain(&request.stores, &request.index, index.algorithm(), true)?
        .ok_or_else(|| stores::no_store(&request.index))
}

/// Verifies, and repairs if that is asked for.
///
/// What a power cut or an error may leave of a repair: some of the bad chunks written, whole or torn; none that was
/// right before is touched. The same repair goes on.
///
/// # Errors
///
/// Of reading; of a chunk that cannot be fetched, with the stores that were asked; `Damaged` if what was repaired
/// reads back as something else.
pub fn perform(plan: VerifyPlan, task: &Task) -> Result<VerifyReport> {
    let start = Instant::now();
    let VerifyPlan { request, index, source, claim } = plan;
    let throttle = request.limit_bytes_per_s.map(Throttle::new);
    let threads = request.threads;
    let look = |image: &dyn Image, numbers| {
        scan(&Scan { index: &index, image, threads, numbers, throttle: throttle.clone() }, task)
    };
    let found = look(&*source.image, std::iter::once(0..index.count()).collect())?;
    let mut report = VerifyReport {
        index: request.index.clone(),
        size_bytes: index.size_bytes(),
        chunks: index.count(),
        bad_ranges: found.bad_ranges(&index, LISTED_MAX)?,
        bad_count: found.ranges.count() as u64,
        target: source.facts,
        found,
        repair: None,
        is_dry_run: request.dry_run,
        elapsed: Duration::ZERO,
    };
    if let Some((claim, chain)) = claim {
        drop(source.image);
        let written = match report.is_right() {
            _ if request.dry_run => Amount::default(),
            true => Amount::default(),
            false => repair(&request, &index, &report, claim, &chain, task)?,
        };
        let (cache, stores, fetched_bytes) = fetched(&chain);
        let fetched =
            Amount { chunks: cache.chunks + stores.chunks, bytes: cache.bytes + stores.bytes };
        report.repair = Some(Repair { written, fetched, fetched_bytes });
    }
    report.elapsed = start.elapsed();
    Ok(report)
}

/// Writes the bad chunks anew, until reading them back finds them right.
fn repair(
    request: &VerifyRequest,
    index: &Index,
    report: &VerifyReport,
    claim: Claim,
    chain: &Chain,
    task: &Task,
) -> Result<Amount> {
    let (path, kind) = (claim.path().to_owned(), claim.kind());
    // What a copy to this target may have noted as done may be among what is written now.
    let forget = || crate::ops::copy::forget_journal(&path, kind);
    let target = claim.open(index.size_bytes(), Leftover::TakenUp, &forget)?;
    request.steps.reach("created");
    let zeroes = Zeroes::of(index)?;
    let site = Site::of(&target);
    let mut bad = report.found.clone();
    let mut written = Amount::default();
    while bad.bad.chunks > 0 {
        let numbers: Vec<_> = bad.ranges.iter().collect();
        task.begin(Phase::Copy, bad.bad.bytes);
        let assembly = site.assembly(index, chain, &zeroes, request.threads);
        let outcome = assembly.run(&numbers, task).and_then(|()| {
            request.steps.reach("copied");
            task.begin(Phase::Flush, 0);
            target.image().flush()
        });
        if let Err(error) = outcome {
            let sentence = "what is bad still is written anew by the same command";
            return Err(error.and(sentence));
        }
        written.chunks += bad.bad.chunks;
        written.bytes += bad.bad.bytes;
        let again = read_back(index, &target, numbers, request.threads, task)?;
        if again.bad.chunks > 0 {
            return Err(still_bad(&again, index, &path));
        }
        // The list of what is bad has an end: there may be more than it holds.
        bad = match bad.is_complete {
            true => Findings::default(),
            false => {
                let all = std::iter::once(0..index.count()).collect();
                read_back(index, &target, all, request.threads, task)?
            }
        };
    }
    target.image().flush()?;
    target.publish("image", &request.steps)?;
    request.steps.reach("done");
    Ok(written)
}

fn read_back(
    index: &Index,
    target: &Opened,
    numbers: Vec<std::ops::Range<u64>>,
    threads: Threads,
    task: &Task,
) -> Result<Findings> {
    let readback = registry::open_readback(&target.location(), task)?;
    scan(&Scan { index, image: &*readback.image, threads, numbers, throttle: None }, task)
}

fn still_bad(found: &Findings, index: &Index, path: &Path) -> Error {
    let name = path.display().to_string();
    let range = found.bad_ranges(index, 1).ok().and_then(|ranges| ranges.into_iter().next());
    let sentence = format!(
        "{name} does not hold what was written to it: {} chunks are wrong still (the medium is bad)",
        found.bad.chunks
    );
    Error::new(ErrorKind::Damaged, sentence).at(name, range)
}
