//! `extract`, `cat` and `verify-index`: from chunks to a blob, and whether it is one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use engine::location::{Format, Location};
use engine::ops::cat::{self, CatRequest};
use engine::ops::extract::{self, ExtractReport, ExtractRequest, SeedRequest};
use engine::ops::verify::{self, VerifyReport, VerifyRequest};
use engine::stores::Stores;
use engine::{Error, Lenience, Reflink, Result, Task, Threads};

use super::args::{Cat, Extract, VerifyIndex};
use super::{NamedIndex, Session, damaged, is_stream, raw};
use crate::compat::output::{object, show};
use crate::compat::refusal::{nonsense, refuse};
use crate::debug;

pub(super) fn extract(args: Extract, session: &Session<'_>) -> Result<ExitCode> {
    let name = args.output.display().to_string();
    if is_stream(&args.output) {
        return Err(refuse("cannot extract to standard output (`desync cat` writes there)"));
    }
    if let Ok(found) = fs::metadata(&args.output) {
        if found.is_dir() {
            return Err(nonsense(format!("cannot write {name}: it is a folder")));
        }
        if found.file_type().is_block_device() && !args.in_place {
            let sentence = format!("cannot replace the device {name} (--in-place writes to it)");
            return Err(nonsense(sentence));
        }
    }
    let index = NamedIndex::open(&args.index)?;
    let threads = args.workers.threads();
    let named: Result<Vec<SeedRequest>> =
        args.seed.iter().map(|text| SeedRequest::parse(text)).collect();
    let mut seeds = named?;
    let mut seed_count = seeds.len() as u64;
    let mut seed_folders = args.seed_dir;
    let found = seeds_in(&seed_folders, index.path())?;
    seed_count += found.len() as u64;
    if args.regenerate_invalid_seeds {
        seed_folders.clear();
        seeds.extend(found);
    }
    let request = ExtractRequest {
        index: index.path().to_owned(),
        target: Location { format: Some(Format::Raw), path: args.output.clone() },
        stores: session.stores(&args.sources)?,
        force: true,
        in_place: args.in_place,
        seeds,
        seed_folders,
        reflink: Reflink::Auto,
        verify: false,
        lenience: Lenience::Lenient,
        limit_bytes_per_s: None,
        threads,
        steps: debug::steps(),
    };
    let report = session.face.run(|task| {
        let request = match args.regenerate_invalid_seeds {
            true => regenerated(request, task),
            false => request,
        };
        extract::perform(extract::plan(request, task)?, task)
    })?;
    if args.print_stats {
        show(&stats(&report, &args.output, seed_count))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What `--print-stats` shows. Zeroes count as a seed, as that tool counts them, and so do equal parts of the blob.
fn stats(report: &ExtractReport, output: &Path, seeds: u64) -> String {
    let blocksize = fs::metadata(output).map_or(0, |found| found.blksize());
    let cloned = report.seeds_cloned_bytes + report.own_cloned_bytes;
    let from_seeds = report.seeds.bytes + report.own.bytes;
    object(&[
        ("chunks-from-seeds", report.zero.chunks + report.seeds.chunks + report.own.chunks),
        ("chunks-from-store", report.stores.chunks + report.cache.chunks),
        ("chunks-in-place", report.in_place.chunks),
        ("bytes-copied-from-seeds", from_seeds.saturating_sub(cloned)),
        ("bytes-cloned-from-seeds", cloned),
        ("blocksize", blocksize),
        ("bytes-total", report.size_bytes),
        ("chunks-total", report.total.chunks),
        ("seeds", seeds),
    ])
}

/// The indexes in these folders whose blobs lie beside them, except the one that is extracted.
fn seeds_in(folders: &[PathBuf], except: &Path) -> Result<Vec<SeedRequest>> {
    let own = fs::canonicalize(except).ok();
    let is_own = |seed: &SeedRequest| {
        let index = seed.index.as_deref().and_then(|index| fs::canonicalize(index).ok());
        own.is_some() && index == own
    };
    let mut found = Vec::new();
    for folder in folders {
        found.extend(SeedRequest::all_in(folder)?);
    }
    found.retain(|seed| !is_own(seed));
    Ok(found)
}

/// Takes away the index of each seed that is not what its index says: it is cut anew.
fn regenerated(mut request: ExtractRequest, task: &Task) -> ExtractRequest {
    for seed in &mut request.seeds {
        let file = raw(seed.file.clone().into());
        let is_right = seed.index.as_ref().is_none_or(|index| {
            looked_at(index, file, request.threads, task).is_ok_and(|report| report.is_right())
        });
        if !is_right {
            task.note(format!("the seed {} is not what its index says", seed.file.display()));
            seed.index = None;
        }
    }
    request
}

fn looked_at(
    index: &Path,
    target: Location,
    threads: Threads,
    task: &Task,
) -> Result<VerifyReport> {
    let request = VerifyRequest {
        index: index.to_owned(),
        target,
        stores: Stores::default(),
        repair: false,
        dry_run: false,
        lenience: Lenience::Lenient,
        limit_bytes_per_s: None,
        threads,
        steps: debug::steps(),
    };
    verify::perform(verify::plan(request, task)?, task)
}

pub(super) fn verify_index(args: VerifyIndex, session: &Session<'_>) -> Result<ExitCode> {
    let index = NamedIndex::open(&args.index)?;
    let file = raw(args.file);
    let name = file.path().display().to_string();
    let threads = args.workers.threads();
    let report = session.face.run(|task| looked_at(index.path(), file, threads, task))?;
    if report.is_right() {
        return Ok(ExitCode::SUCCESS);
    }
    let (has, needs) = (report.target.size_bytes, report.size_bytes);
    let first = report.bad_ranges.first().map_or(0, |range| range.start);
    Err(damaged(match report.has_right_size() {
        false => format!("{name} has {has} bytes, and the blob of the index {needs}"),
        true => format!(
            "{name} is not what the index says: {} of {} chunks are wrong, the first at offset {first}",
            report.found.bad.chunks, report.chunks
        ),
    }))
}

pub(super) fn cat(args: Cat, session: &Session<'_>) -> Result<ExitCode> {
    let index = NamedIndex::open(&args.index)?;
    let output = args.output.filter(|path| !is_stream(path));
    // A pipe or a character device is written to as it is; a file is replaced.
    let special = output.as_deref().and_then(|path| {
        let found = fs::metadata(path).ok()?;
        (!found.is_file() && !found.is_dir()).then_some((path, found))
    });
    let mut stream: Box<dyn Write> = match special {
        None => Box::new(io::stdout().lock()),
        Some((path, found)) if found.file_type().is_block_device() => {
            let name = path.display();
            let sentence = format!("cannot write to the device {name} (`desync extract -k` does)");
            return Err(refuse(sentence));
        }
        Some((path, _)) => Box::new(File::options().write(true).open(path).map_err(|cause| {
            let name = path.display().to_string();
            Error::io(format!("cannot write to {name}"), cause).at(name, None)
        })?),
    };
    let is_special = special.is_some();
    let request = CatRequest {
        image: Location { format: Some(Format::Index), path: index.path().to_owned() },
        stores: session.stores(&args.sources)?,
        offset: args.offset,
        len_bytes: Some(args.length).filter(|&length| length > 0),
        output: output.filter(|_| !is_special),
        force: true,
        skip_damaged: false,
        limit_bytes_per_s: None,
        threads: args.workers.threads(),
    };
    session.face.run(|task| cat::perform(cat::plan(request, task)?, &mut *stream, task))?;
    Ok(ExitCode::SUCCESS)
}
