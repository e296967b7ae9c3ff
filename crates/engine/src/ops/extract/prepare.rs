//! Everything about an extract that comes before the first write: opening, counting, refusing.

use std::path::{Path, PathBuf};

use chunks::store::Chain;
use image::units::Bytes;
use image::{Error, ErrorKind, Phase, Result, Task};

use super::seeds::{self, Opening};
use super::supply::{From, Given, Pass, Piece, Supply};
use super::tables::{Repeats, Zeroes};
use super::{ExtractPlan, ExtractRequest};
use crate::Amount;
use crate::indexes::open_index;
use crate::stores;
use crate::target::{Claim, Layout, TargetKind, Wanted, refuse_same};

/// Opens index, seeds and stores, claims the target, counts what comes from where, and refuses what has to be refused.
/// Writes nothing.
///
/// # Errors
///
/// `NotFound`, `Denied`; `Damaged`, `Unsupported` for an index; `Exists` for a file that may not be replaced; `InUse`
/// for a target that is mounted, attached or claimed; `TooSmall` for a device; `Full` where the filesystem has less
/// space than the chunks need.
pub fn plan(request: ExtractRequest, task: &Task) -> Result<ExtractPlan> {
    let index = open_index(&request.index, request.lenience)?;
    let path = target_path(&request);
    let not_an_input = |path: &Path, found: &std::fs::Metadata| {
        refuse_same(&request.index, path, found)?;
        let mut indexes = request.seeds.iter().filter_map(|seed| seed.index.as_deref());
        indexes.try_for_each(|index| refuse_same(index, path, found))
    };
    let claim = Claim::new(Wanted {
        path,
        size_bytes: index.size_bytes(),
        new_mode: 0o666 & !sys::umask(),
        layout: Layout::Raw,
        force: request.force || request.in_place,
        in_place: request.in_place,
        apart: &not_an_input,
        is_finished: &|_, _| false,
    })?;
    if let Some(extra_bytes) = claim.extra_bytes(index.size_bytes()) {
        task.note(format!(
            "{} is {extra_bytes} bytes larger than the image; the rest of it stays as it is",
            claim.path().display()
        ));
    }
    let is_written = matches!(claim.kind(), TargetKind::FileInPlace | TargetKind::Device);
    let opening = Opening {
        wanted: &index,
        wanted_path: &request.index,
        target: Some(claim.path()).filter(|_| is_written),
        lenience: request.lenience,
        threads: request.threads,
        task,
    };
    let seeds = seeds::open_all(&request.seeds, &request.seed_folders, &opening)?;
    let algorithm = index.algorithm();
    let chain = stores::open_chain(&request.stores, &request.index, algorithm, true)?;

    task.begin(Phase::Map, 0);
    let zeroes = Zeroes::of(&index)?;
    let repeats = Repeats::of(&index, &zeroes, task)?;
    let given = Given {
        index: &index,
        seeds: &seeds,
        repeats: &repeats,
        zeroes: &zeroes,
        batch_bytes: 1 << 20,
        zero_bytes: u64::MAX,
    };
    let all: Vec<_> = std::iter::once(0..index.count()).collect();
    let [mut zero, mut own, mut from_seeds, mut fetch] = [Amount::default(); 4];
    for pass in [Pass::Firsts, Pass::Copies] {
        for piece in Supply::new(given, all.clone(), pass) {
            task.checkpoint()?;
            let (amount, chunks, bytes) = match piece? {
                Piece::Zero { range, chunks } => (&mut zero, chunks, range.end - range.start),
                Piece::Data { spans, from } => {
                    let amount = match from {
                        From::Seed { .. } => &mut from_seeds,
                        From::Earlier { .. } => &mut own,
                        From::Store => &mut fetch,
                    };
                    (amount, spans.len() as u64, spans.iter().map(|span| span.len_bytes).sum())
                }
            };
            amount.chunks += chunks;
            amount.bytes += bytes;
        }
    }
    let partial = claim.partial_path().filter(|path| path.exists());
    let chain = match chain {
        Some(chain) => chain,
        None if fetch.chunks > 0 && partial.is_none() && !is_written => {
            return Err(stores::no_store(&request.index));
        }
        None => Chain::new(Vec::new(), None, algorithm),
    };
    refuse_full(&claim, partial.as_deref(), fetch.bytes)?;
    Ok(ExtractPlan {
        index: request.index.clone(),
        target: claim.path().to_owned(),
        target_kind: claim.kind(),
        size_bytes: index.size_bytes(),
        total: Amount { chunks: index.count(), bytes: index.size_bytes() },
        distinct_chunks: repeats.distinct,
        zero,
        seeds: from_seeds,
        own,
        fetch,
        partial,
        request,
        opened_index: index,
        opened_seeds: seeds,
        chain,
        zeroes,
        repeats,
        claim,
    })
}

/// The file or device; in a folder, the name of the index without its ending.
fn target_path(request: &ExtractRequest) -> PathBuf {
    let mut path = request.target.path().to_owned();
    if path.is_dir()
        && let Some(name) = request.index.file_stem()
    {
        path.push(name);
    }
    path
}

/// A new file that cannot fit is refused now, not after hours. What seeds and the blob itself have may need no space;
/// what is fetched does.
fn refuse_full(claim: &Claim, partial: Option<&Path>, needed_bytes: u64) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let Some(directory) = claim.directory() else { return Ok(()) };
    let Ok(free_bytes) = sys::available_bytes(directory) else { return Ok(()) };
    let there =
        partial.and_then(|path| path.metadata().ok()).map_or(0, |found| found.blocks() * 512);
    if needed_bytes <= free_bytes.saturating_add(there) {
        return Ok(());
    }
    let name = claim.path().display().to_string();
    let sentence = format!(
        "{name} does not fit: up to {needed_bytes} bytes ({}) of data have to be written, and the filesystem has \
         {free_bytes} bytes ({}) left (--in-place, with an empty file there, tries all the same)",
        Bytes(needed_bytes),
        Bytes(free_bytes),
    );
    Err(Error::new(ErrorKind::Full, sentence).at(name, None))
}
