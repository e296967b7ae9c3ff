//! A new image, read back and compared with the partition that it was made of.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use formats::packed::{self, Compression, Opened};
use formats::partclone::PartcloneImage;
use formats::raw::RawImage;
use image::{AlignedBuf, Error, ErrorKind, ExtentKind, Image, ImageExt, Phase, Result, Task};
use sys::{Access, FileMedium};

use crate::Threads;
use crate::pipeline::for_each_piece_with;

/// How much is compared at once, in bytes.
const PIECE_BYTES: u64 = 1 << 20;

/// What is read back.
pub(super) struct Readback<'a> {
    /// The file, still under the name that it has while it is not whole.
    pub(super) file: &'a Path,
    pub(super) compression: Compression,
    pub(super) is_raw: bool,
    /// The partition.
    pub(super) source: &'a dyn Image,
    pub(super) threads: Threads,
}

/// Reads every byte of the file from the disk, as an image of the partition, and compares what is data in it with the
/// partition.
///
/// # Errors
///
/// `Damaged` where the two differ, and for anything wrong with the file.
pub(super) fn compare(what: &Readback<'_>, task: &Task) -> Result<()> {
    let file = FileMedium::open(what.file, Access::Read)?.bypassing_cache();
    let Opened::Indexed(content) = packed::open(file, what.compression)? else {
        return Err(differs(what, "it has no table", None));
    };
    content.check_rest()?;
    if what.is_raw {
        return compare_data(what, &RawImage::open(content)?, task);
    }
    compare_data(what, &PartcloneImage::open(content)?, task)
}

fn compare_data(what: &Readback<'_>, image: &dyn Image, task: &Task) -> Result<()> {
    if image.size() != what.source.size() {
        let why = format!(
            "it is an image of {} bytes, the partition has {}",
            image.size(),
            what.source.size()
        );
        return Err(differs(what, &why, None));
    }
    let mut total = 0;
    for run in data(image) {
        let run = run?;
        total += run.end - run.start;
    }
    task.begin(Phase::Verify, total);
    let supply = data_pieces(image, PIECE_BYTES);
    let tools = || (AlignedBuf::default(), AlignedBuf::default());
    let work = |piece: Range<u64>, bufs: &mut (AlignedBuf, AlignedBuf)| {
        let len = (piece.end - piece.start) as usize;
        bufs.0.grow_to(len);
        bufs.1.grow_to(len);
        let (ours, theirs) = (&mut bufs.0[..len], &mut bufs.1[..len]);
        image.read_at(ours, piece.start)?;
        what.source.read_at(theirs, piece.start)?;
        if let Some(at) = ours.iter().zip(theirs.iter()).position(|(a, b)| a != b) {
            let at = piece.start + at as u64;
            return Err(differs(what, "it is not what stands there", Some(at)));
        }
        task.advance(len as u64);
        Ok(())
    };
    let never = Duration::from_secs(3600);
    for_each_piece_with(what.threads, task, supply, tools, work, never, || Ok(()))
}

/// The runs of an image that are data.
fn data(image: &dyn Image) -> impl Iterator<Item = Result<Range<u64>>> + Send + '_ {
    image.extents(0..image.size()).filter_map(|extent| match extent {
        Ok(extent) => (extent.kind == ExtentKind::Data).then(|| Ok(extent.range())),
        Err(error) => Some(Err(error)),
    })
}

/// The same, cut at multiples of `piece_bytes`.
pub(crate) fn data_pieces(
    image: &dyn Image,
    piece_bytes: u64,
) -> impl Iterator<Item = Result<Range<u64>>> + Send + '_ {
    let mut runs = data(image);
    let mut left = 0..0;
    std::iter::from_fn(move || {
        if left.is_empty() {
            match runs.next()? {
                Ok(run) => left = run,
                Err(error) => return Some(Err(error)),
            }
        }
        let end = left.end.min((left.start + 1).next_multiple_of(piece_bytes));
        let piece = left.start..end;
        left.start = end;
        Some(Ok(piece))
    })
}

fn differs(what: &Readback<'_>, why: &str, at: Option<u64>) -> Error {
    let name = what.file.display();
    let place = at.map(|at| format!(" at offset {at} of the partition")).unwrap_or_default();
    let sentence = format!(
        "the new image was read back, and is not right{place}: {why} (check the disk that it lies on, and memory)"
    );
    Error::new(ErrorKind::Damaged, sentence).at(name.to_string(), at.map(|at| at..at + 1))
}
