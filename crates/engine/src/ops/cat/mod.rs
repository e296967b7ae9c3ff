//! Write a range of an image, byte for byte and in order, to a stream or into a new file.

mod ordered;

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use image::layers::{Throttle, Throttled};
use image::ranges::RangeSet;
use image::{Error, ErrorKind, Image, Phase, Replace, Result, Task};
use sys::{Content, UnnamedFile};

use crate::Threads;
use crate::location::Location;
use crate::registry::{self, Facts, Source};
use crate::stores::Stores;

/// What is to be written where.
#[derive(Clone, Debug)]
pub struct CatRequest {
    /// The image, or the index of one.
    pub image: Location,
    /// Where the chunks of an index come from.
    pub stores: Stores,
    /// Where the range begins, in bytes.
    pub offset: u64,
    /// How long it is, in bytes; without it, to the end.
    pub len_bytes: Option<u64>,
    /// The file to make; without it, the stream that [`perform`] is given.
    pub output: Option<PathBuf>,
    /// An existing file may be replaced.
    pub force: bool,
    /// What is damaged of a container is written as zeroes, and told in the report.
    pub skip_damaged: bool,
    /// Read at most so many bytes a second.
    pub limit_bytes_per_s: Option<u64>,
    /// How many threads.
    pub threads: Threads,
}

/// Something that can be written out.
pub struct CatPlan {
    request: CatRequest,
    source: Source,
    range: Range<u64>,
}

/// What was written out.
#[derive(Clone, Debug)]
pub struct CatReport {
    /// What was read.
    pub source: Facts,
    /// The file that was made.
    pub output: Option<PathBuf>,
    /// The bytes of the image, as offsets.
    pub range: Range<u64>,
    /// How many of them were written: fewer than all only if nobody read the stream any more.
    pub written_bytes: u64,
    /// What was damaged of a container: zeroes were written for it, or nothing, where it was its end.
    pub damaged: RangeSet,
    /// How long it took.
    pub elapsed: Duration,
}

/// Opens the image, and refuses what has to be refused. Writes nothing.
///
/// # Errors
///
/// `Invalid` for a range that is not within the image, and for an output that is the image; `Exists` for a file that
/// may not be replaced.
pub fn plan(request: CatRequest, task: &Task) -> Result<CatPlan> {
    let source = match request.skip_damaged {
        true => registry::open_damaged(&request.image, &request.stores, task)?,
        false => registry::open_source_over(&request.image, &request.stores, task)?,
    };
    if let Some(format) = source.facts.looks_like {
        let name = source.facts.path.display();
        task.warn(format!("{name} looks like a {format} file; its bytes are written as they are"));
    }
    let size = source.facts.size_bytes;
    let end = match request.len_bytes {
        Some(len_bytes) => request.offset.checked_add(len_bytes),
        None => Some(size.max(request.offset)),
    };
    let range = match end {
        Some(end) if end <= size => request.offset..end,
        _ => return Err(not_within(&request, &source.facts)),
    };
    if let Some(path) = &request.output {
        check_output(path, request.force, &source.facts)?;
    }
    Ok(CatPlan { request, source, range })
}

/// Writes it out, in order, to `stream` or into the file that the request names.
///
/// A file appears under its name only when all of it is there, and is durable then; it has holes where pieces are all
/// zero. A stream gets what stands in front of an error and nothing behind it; that nobody reads it any more is no
/// error.
///
/// Memory: for each thread, four pieces of 1 MiB.
///
/// # Errors
///
/// `Damaged`, `NotFound` for a chunk that cannot be had; `Io` and others of reading and writing.
pub fn perform(plan: CatPlan, stream: &mut dyn Write, task: &Task) -> Result<CatReport> {
    let start = Instant::now();
    let CatPlan { request, source, range } = plan;
    let slow;
    let image: &dyn Image = match request.limit_bytes_per_s {
        Some(rate) => {
            slow = Throttled::new(&*source.image, Throttle::new(rate));
            &slow
        }
        None => &*source.image,
    };
    task.begin(Phase::Copy, range.end - range.start);
    let what = ordered::Reading { image, range: range.clone(), threads: request.threads };
    let written = match &request.output {
        Some(path) => into_file(&what, path, request.force, task).map(|()| range.end - range.start),
        None => into_stream(&what, stream, task),
    };
    source.tell_of_stores(task);
    let written_bytes = written?;
    let damaged = source.container.as_ref().map(|container| container.repaired());
    Ok(CatReport {
        source: source.facts,
        output: request.output,
        range,
        written_bytes,
        damaged: damaged.into_iter().flatten().collect(),
        elapsed: start.elapsed(),
    })
}

fn not_within(request: &CatRequest, facts: &Facts) -> Error {
    let name = facts.path.display().to_string();
    let asked = match request.len_bytes {
        Some(len_bytes) => format!("{len_bytes} bytes at {}", request.offset),
        None => format!("offset {}", request.offset),
    };
    let sentence = format!(
        "cannot write out {name}: it has {} bytes, and {asked} was asked for",
        facts.size_bytes
    );
    Error::new(ErrorKind::Invalid, sentence).at(name, None)
}

fn check_output(path: &Path, force: bool, source: &Facts) -> Result<()> {
    let Ok(metadata) = fs::metadata(path) else { return Ok(()) };
    let name = path.display().to_string();
    if !metadata.is_file() {
        let sentence = format!("cannot make the file {name}: something else stands there");
        return Err(Error::new(ErrorKind::Invalid, sentence).at(name, None));
    }
    if registry::is_same_file(&source.path, &metadata) {
        let sentence = format!("cannot write {name} onto itself");
        return Err(Error::new(ErrorKind::Invalid, sentence).at(name, None));
    }
    if force { Ok(()) } else { Err(registry::exists_already(path)) }
}

/// Writes until all is written or nobody reads any more; returns how many bytes that were.
fn into_stream(what: &ordered::Reading<'_>, stream: &mut dyn Write, task: &Task) -> Result<u64> {
    let mut written = 0;
    let ended = ordered::read(what, task, |_, piece| match stream.write_all(piece) {
        Ok(()) => {
            written += piece.len() as u64;
            Ok(true)
        }
        Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(cause) => Err(Error::io("cannot write to the output", cause)),
    });
    match ended.and_then(|()| {
        stream.flush().map_err(|cause| Error::io("cannot write to the output", cause))
    }) {
        Ok(()) => Ok(written),
        Err(error) if is_broken_pipe(&error) => Ok(written),
        Err(error) => Err(error),
    }
}

fn is_broken_pipe(error: &Error) -> bool {
    std::error::Error::source(error)
        .and_then(|cause| cause.downcast_ref::<io::Error>())
        .is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

fn into_file(what: &ordered::Reading<'_>, path: &Path, force: bool, task: &Task) -> Result<()> {
    let failed = |cause| {
        let name = path.display().to_string();
        Error::io(format!("cannot write {name}"), cause).at(name, None)
    };
    let output = UnnamedFile::create_for(path)?;
    let mode = match fs::metadata(path) {
        Ok(old) => old.permissions(),
        Err(_) => Permissions::from_mode(0o666 & !sys::umask()),
    };
    output.file().set_permissions(mode).map_err(failed)?;
    output.file().set_len(what.range.end - what.range.start).map_err(failed)?;
    ordered::read(what, task, |at, piece| {
        if !digest::is_zero(piece) {
            output.file().write_all_at(piece, at - what.range.start).map_err(failed)?;
        }
        Ok(true)
    })?;
    task.begin(Phase::Flush, 0);
    output.publish(if force { Replace::Allowed } else { Replace::Never }, Content::Written)
}
