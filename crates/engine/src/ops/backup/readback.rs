//! A new image, read back: compared with the partition that it was made of, and its digest.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use digest::{Algorithm, Hasher};
use formats::packed::{self, Compression, Opened};
use formats::partclone::PartcloneImage;
use formats::raw::RawImage;
use image::{
    AlignedBuf, Error, ErrorKind, ExtentKind, Image, ImageExt, Medium, Phase, Result, Task,
};
use sys::{Access, FileMedium};

use crate::Threads;
use crate::ops::restore::{Piece, of_image, piece_bytes, read_runs};
use crate::pipeline::for_each_piece_with;

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

/// So much of a file is hashed at once, in bytes.
const HASHED_BYTES: usize = 1 << 20;

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

/// The SHA-256 of the file `image`, as `sha256sum` prints it.
///
/// # Errors
///
/// Those of reading it; `Cancelled`.
pub fn sha256(image: &Path, task: &Task) -> Result<String> {
    let file = FileMedium::open(image, Access::Read)?;
    file.expect_sequential();
    let len_bytes = file.len()?;
    task.begin(Phase::Hash, len_bytes);
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut piece = vec![0; HASHED_BYTES];
    let mut at = 0;
    while at < len_bytes {
        task.checkpoint()?;
        let part = HASHED_BYTES.min((len_bytes - at) as usize);
        file.read_at(&mut piece[..part], at)?;
        hasher.update(&piece[..part]);
        at += part as u64;
        task.advance(part as u64);
    }
    Ok(hasher.finish().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn compare_data(what: &Readback<'_>, image: &dyn Image, task: &Task) -> Result<()> {
    // A filesystem may be smaller than its partition; raw bytes are all of them.
    let fits = match what.is_raw {
        true => image.size() == what.source.size(),
        false => image.size() <= what.source.size(),
    };
    if !fits {
        let why = format!(
            "it is an image of {} bytes, the partition has {}",
            image.size(),
            what.source.size()
        );
        return Err(differs(what, &why, None));
    }
    let mut total = 0;
    for run in image.extents(0..image.size()) {
        let run = run?;
        total += if run.kind == ExtentKind::Data { run.len_bytes } else { 0 };
    }
    task.begin(Phase::Verify, total);
    let tools = || (AlignedBuf::default(), AlignedBuf::default());
    let work = |piece: Piece, (ours, theirs): &mut (AlignedBuf, AlignedBuf)| {
        ours.grow_to(piece.len_bytes);
        theirs.grow_to(piece.len_bytes);
        let (ours, theirs) = (&mut ours[..piece.len_bytes], &mut theirs[..piece.len_bytes]);
        read_runs(image, &piece.runs, ours)?;
        read_runs(what.source, &piece.runs, theirs)?;
        if let Some(at) = ours.iter().zip(theirs.iter()).position(|(a, b)| a != b) {
            return Err(differs(what, "it is not what stands there", Some(place(&piece.runs, at))));
        }
        task.advance(piece.len_bytes as u64);
        Ok(())
    };
    let supply = of_image(image, piece_bytes(what.compression));
    let never = Duration::from_secs(3600);
    for_each_piece_with(what.threads, task, supply, tools, work, never, || Ok(()))
}

/// Where on the partition byte `at` of these runs stands.
fn place(runs: &[Range<u64>], mut at: usize) -> u64 {
    for run in runs {
        let len = (run.end - run.start) as usize;
        if at < len {
            return run.start + at as u64;
        }
        at -= len;
    }
    runs.last().map_or(0, |run| run.end)
}

fn differs(what: &Readback<'_>, why: &str, at: Option<u64>) -> Error {
    let name = what.file.display();
    let place = at.map(|at| format!(" at offset {at} of the partition")).unwrap_or_default();
    let sentence = format!(
        "the new image was read back, and is not right{place}: {why} (check the disk that it lies on, and memory)"
    );
    Error::new(ErrorKind::Damaged, sentence).at(name.to_string(), at.map(|at| at..at + 1))
}
