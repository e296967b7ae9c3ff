//! What a copy wants of its target, and how it is cut for it.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use image::Result;

use super::CopyRequest;
use super::sidecar::JournalPlace;
use super::transfer::Shape;
use crate::registry::{Facts, MediumKind};
use crate::target::{Claim, Layout, Opened, TargetKind, Wanted, refuse_same, which_file};

/// Short zero runs on a device are cheaper written with the data around them than zeroed by a call of their own.
const DEVICE_ZERO_RUN_MIN_BYTES: usize = 64 << 10;

/// Claims the target of `request`, or refuses it.
pub(super) fn claim(request: &CopyRequest, source: &Facts) -> Result<Claim> {
    Claim::new(Wanted {
        path: path(request, source),
        size_bytes: source.size_bytes,
        new_mode: mode(source),
        layout: Layout::Raw,
        force: request.force,
        in_place: request.in_place,
        apart: &|path, found| refuse_same(&source.path, path, found),
        is_finished: &|path, found| is_finished(request, source, path, found),
    })
}

/// The file or device; in a folder, the source's name.
fn path(request: &CopyRequest, source: &Facts) -> PathBuf {
    let mut path = request.target.path().to_owned();
    if path.is_dir()
        && let Some(name) = source.path.file_name()
    {
        path.push(name);
    }
    path
}

/// That of a source file, as `cp` does; a copy of a device is for its owner only, since it may hold everybody's
/// secrets.
fn mode(source: &Facts) -> u32 {
    match (source.medium, fs::metadata(&source.path)) {
        (MediumKind::File, Ok(metadata)) => metadata.mode() & !sys::umask(),
        _ => 0o600,
    }
}

/// Whether the file `path` is what an interrupted copy had finished and named before it could say so.
fn is_finished(request: &CopyRequest, source: &Facts, path: &Path, metadata: &Metadata) -> bool {
    if !request.resume {
        return false;
    }
    let journal = JournalPlace::new(request, path, TargetKind::NewFile).load();
    journal.ok().flatten().is_some_and(|journal| {
        journal.source == source.identity
            && journal.target == which_file(metadata)
            && journal.size_bytes == metadata.len()
            && journal.done.contains(&(0..journal.size_bytes))
    })
}

/// How a copy from `source` to `target` is cut.
pub(super) fn shape(target: &Opened, source: &Facts) -> Shape {
    let granule_bytes = target.image().block_size_bytes();
    match target.kind() {
        TargetKind::Device => {
            Shape { zero_run_min_bytes: DEVICE_ZERO_RUN_MIN_BYTES, ..Shape::direct(4096, false) }
        }
        TargetKind::FileInPlace => Shape::cached(granule_bytes, false),
        _ if source.medium == MediumKind::Device => Shape::direct(granule_bytes, target.is_blank()),
        _ => Shape::cached(granule_bytes, target.is_blank()),
    }
}
