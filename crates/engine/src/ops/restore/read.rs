//! Every piece of an image, read by many threads and checked.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use formats::packed;
use image::{AlignedBuf, Image, Medium, Phase, Result, Task};

use super::content::{Content, OpenImage};
use super::supply::{self, FromFront, Piece};
use crate::Threads;
use crate::pipeline::for_each_piece_with;

/// Runs of a partition, whose bytes stand one behind the other.
pub(crate) struct Read<'a> {
    /// Offsets in bytes.
    pub(crate) runs: &'a [Range<u64>],
    /// As long as all of them.
    pub(crate) bytes: &'a [u8],
}

/// Reads all data of the image once, and checks every byte of its file that was not checked when it was opened; `work` gets it
/// in pieces, in any order, with tools that each thread keeps. Returns how many bytes that were.
///
/// A checksum that stands behind several pieces is looked at when they have been given to `work`.
///
/// # Errors
///
/// `Damaged`, with the position; those of `work`; `Cancelled`.
pub(crate) fn each_piece<T: Default>(
    image: &OpenImage,
    phase: Phase,
    threads: Threads,
    task: &Task,
    work: impl Fn(&Read<'_>, &mut T) -> Result<()> + Sync,
) -> Result<u64> {
    let count = AtomicU64::new(0);
    let given = |piece: &Piece, bytes: &[u8], tools: &mut T| {
        work(&Read { runs: &piece.runs, bytes: &bytes[..piece.len_bytes] }, tools)?;
        count.fetch_add(piece.len_bytes as u64, Ordering::Relaxed);
        Ok(())
    };
    match image.at_any_place()? {
        Some(content) => {
            task.begin(phase, image.data_bytes()?);
            let supply = supply::of_image(&*content, supply::piece_bytes(image.compression));
            let work = |piece: Piece, (bytes, tools): &mut (AlignedBuf, T)| {
                bytes.grow_to(piece.len_bytes);
                read_runs(&*content, &piece.runs, bytes)?;
                given(&piece, bytes, tools)?;
                task.advance(piece.len_bytes as u64);
                Ok(())
            };
            for_each_piece_with(threads, task, supply, Default::default, work, NEVER, || Ok(()))?;
        }
        None => from_front(image, phase, threads, task, given)?,
    }
    Ok(count.into_inner())
}

const NEVER: Duration = Duration::from_secs(3600);

/// One thread at a time unpacks and checks; all do the rest.
fn from_front<T: Default>(
    image: &OpenImage,
    phase: Phase,
    threads: Threads,
    task: &Task,
    given: impl Fn(&Piece, &[u8], &mut T) -> Result<()> + Sync,
) -> Result<()> {
    let file = image.file();
    task.begin(phase, file.len()?);
    let spare = Mutex::new(Vec::new());
    let unpack = packed::unpack(file, image.compression)?;
    let mut stream = FromFront::new(unpack, file.name(), image.header().is_some(), &spare)?;
    let mut told = 0;
    let supply = std::iter::from_fn(|| {
        let piece = stream.next();
        let position = stream.packed_position();
        task.advance(position.saturating_sub(told));
        told = position;
        piece
    });
    let work = |mut piece: Piece, tools: &mut T| {
        let Some(bytes) = piece.bytes.take() else { return Ok(()) };
        given(&piece, &bytes, tools)?;
        spare.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
        Ok(())
    };
    for_each_piece_with(threads, task, supply, T::default, work, NEVER, || Ok(()))
}

/// Fills `bytes` with the runs, one behind the other.
pub(crate) fn read_runs(image: &dyn Image, runs: &[Range<u64>], bytes: &mut [u8]) -> Result<()> {
    let mut at = 0;
    for run in runs {
        let len = (run.end - run.start) as usize;
        image.read_at(&mut bytes[at..at + len], run.start)?;
        at += len;
    }
    Ok(())
}

impl OpenImage {
    /// How much [`each_piece`] gives of an image that can be read at any place, in bytes.
    fn data_bytes(&self) -> Result<u64> {
        match &self.content {
            Content::Raw(medium) => medium.len(),
            _ => Ok(self.used_bytes().unwrap_or(0)),
        }
    }
}
