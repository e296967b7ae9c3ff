//! Put a stream whose end nobody knows into a new container.

use std::fs::File;
use std::io::{self, Read};
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use formats::spgz::rounded_block_bytes;
use image::{AlignedBuf, Error, Phase, Result, Task};
use sys::pipe::Input;

use crate::pipeline::for_each_piece;
use crate::target::{Claim, Layout, Leftover, Opened, Wanted};
use crate::{Steps, Threads};

/// What is to be made.
#[derive(Clone, Debug)]
pub struct PackRequest {
    /// The container; nothing may stand there.
    pub target: PathBuf,
    /// The length of its blocks in bytes; it is rounded as the format asks.
    pub block_bytes: Option<NonZero<u64>>,
    /// How many threads.
    pub threads: Threads,
    /// Told of each step.
    pub steps: Steps,
}

/// A container that can be made: its place is claimed, nothing is written.
pub struct PackPlan {
    request: PackRequest,
    claim: Claim,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct PackReport {
    /// The container.
    pub target: PathBuf,
    /// Size of the image in bytes: all that the stream had.
    pub size_bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// How much a thread packs at once, in bytes, unless a block is larger.
const PIECE_BYTES: u64 = 1 << 20;
/// How many pieces for each thread are read while as many are packed.
const PIECES_PER_THREAD: u64 = 4;

/// By how much the container grows at most before there is anything for it, in bytes.
const AHEAD_MAX_BYTES: u64 = 64 << 30;

/// Claims the place of the container. Writes nothing.
///
/// # Errors
///
/// `Exists` if something stands there; `Invalid` for blocks that are too large, and a name that can be no file's;
/// `NotFound`, `Denied` for its folder.
pub fn plan(request: PackRequest) -> Result<PackPlan> {
    if let Some(asked) = request.block_bytes {
        rounded_block_bytes(asked.get())?;
    }
    let claim = Claim::new(Wanted {
        path: request.target.clone(),
        size_bytes: 0,
        new_mode: 0o666 & !sys::umask(),
        layout: Layout::Spgz { block_bytes: request.block_bytes },
        force: false,
        in_place: false,
        apart: &|_, _| Ok(()),
        is_finished: &|_, _| false,
    })?;
    Ok(PackPlan { request, claim })
}

/// Reads `input` to its end, and packs it.
///
/// The container has its name only when it is complete and durable. After an error nothing is left; `kill -9` and a power
/// cut leave a file beside it, which the next run removes.
///
/// Memory: for each thread, eight pieces of 1 MiB, or eight blocks if they are larger.
pub fn perform(plan: PackPlan, input: File, task: &Task) -> Result<PackReport> {
    let start = Instant::now();
    let PackPlan { request, claim } = plan;
    let watched = task.clone();
    let watch = move || watched.checkpoint().map_err(io::Error::other);
    let mut input = Input::new(input.into(), Arc::new(watch));
    let path = claim.path().to_owned();
    let kind = claim.kind();
    let forget = || crate::ops::copy::forget_journal(&path, kind);
    let mut target = claim.open(0, Leftover::Removed, &forget)?;
    request.steps.reach("created");
    task.begin(Phase::Copy, 0);
    let packed = pack(&mut target, &mut input, request.threads, task).and_then(|size_bytes| {
        request.steps.reach("copied");
        task.begin(Phase::Flush, 0);
        target.image().flush()?;
        Ok(size_bytes)
    });
    let size_bytes = match packed {
        Ok(size_bytes) => size_bytes,
        Err(error) => {
            let left = target.left_behind("read");
            return Err(match target.abandon() {
                Some(Ok(())) => error.and("nothing was left behind"),
                _ => error.and(left),
            });
        }
    };
    target.publish("container", &request.steps)?;
    request.steps.reach("done");
    Ok(PackReport { target: request.target, size_bytes, elapsed: start.elapsed() })
}

/// Packs what was read while the next is being read. Returns how many bytes the input had.
fn pack(
    target: &mut Opened,
    input: &mut (dyn Read + Send),
    threads: Threads,
    task: &Task,
) -> Result<u64> {
    // Whole blocks: only the last piece of all ends within one.
    let block_bytes = target.block_bytes().unwrap_or(1);
    let piece_bytes = (PIECE_BYTES / block_bytes).max(1) * block_bytes;
    let batch_bytes = piece_bytes * PIECES_PER_THREAD * threads.count() as u64;
    let mut now = Vec::new();
    let mut next = Vec::new();
    let (mut size_bytes, mut has_bytes) = (0, 0);
    fill(input, &mut now, batch_bytes)?;
    while !now.is_empty() {
        let at = size_bytes;
        size_bytes += now.len() as u64;
        if has_bytes < size_bytes {
            // Each change of the size is made durable: few of them are, since what was too much is cut off at the end.
            let ahead = at.clamp(batch_bytes, AHEAD_MAX_BYTES) / batch_bytes * batch_bytes;
            has_bytes = at + ahead.max(now.len() as u64);
            target.resize(has_bytes)?;
        }
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| fill(input, &mut next, batch_bytes));
            let written = write(target, at, &now, piece_bytes as usize, threads, task);
            if written.is_err() {
                // The reader may wait for somebody who has nothing more to say.
                task.cancel();
            }
            let read = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            written.and(read)
        })?;
        std::mem::swap(&mut now, &mut next);
    }
    target.resize(size_bytes)?;
    Ok(size_bytes)
}

/// Reads into `batch` until it holds `most_bytes` or the input ends.
fn fill(input: &mut dyn Read, batch: &mut Vec<u8>, most_bytes: u64) -> Result<()> {
    batch.clear();
    input.take(most_bytes).read_to_end(batch).map_err(|cause| match cause.downcast::<Error>() {
        Ok(cancelled) => cancelled,
        Err(cause) => Error::io("cannot read what is to be packed", cause),
    })?;
    Ok(())
}

fn write(
    target: &Opened,
    at: u64,
    batch: &[u8],
    piece_bytes: usize,
    threads: Threads,
    task: &Task,
) -> Result<()> {
    let pieces = batch.chunks(piece_bytes).zip((at..).step_by(piece_bytes)).map(Ok);
    let work = |(piece, at): (&[u8], u64), _: &mut AlignedBuf| {
        target.image().write_at(piece, at)?;
        task.advance(piece.len() as u64);
        Ok(())
    };
    for_each_piece(threads, task, pieces, work, Duration::from_secs(1), || Ok(()))
}
