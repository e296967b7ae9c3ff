//! What a copy wants of its target, and how it is cut for it.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use formats::spgz::rounded_block_bytes;
use image::{Error, ErrorKind, Result};

use super::sidecar::JournalPlace;
use super::transfer::Shape;
use super::{CopyRequest, NewMode};
use crate::location::Format;
use crate::registry::{self, Facts, MediumKind};
use crate::target::{Claim, Layout, Opened, TargetKind, Wanted, refuse_same};

/// Short zero runs on a device are cheaper written with the data around them than zeroed by a call of their own.
const DEVICE_ZERO_RUN_MIN_BYTES: usize = 64 << 10;

/// How much is read at once of an index or a container, in bytes.
const PACKED_PIECE_BYTES: usize = 1 << 20;

/// Claims the target of `request`, or refuses it.
pub(super) fn claim(request: &CopyRequest, source: &Facts) -> Result<Claim> {
    let path = path(request, source);
    let layout = layout(request, &path)?;
    Claim::new(Wanted {
        path,
        size_bytes: source.size_bytes,
        new_mode: mode(request.mode, source),
        layout,
        force: request.force,
        in_place: request.in_place,
        apart: &|path, found| refuse_same(&source.path, path, found),
        is_finished: &|path, found| is_finished(request, source, layout, path, found),
    })
}

/// The file or device; in a folder, the source's name, with an end that tells a container from an image.
fn path(request: &CopyRequest, source: &Facts) -> PathBuf {
    let mut path = request.target.path().to_owned();
    if !path.is_dir() {
        return path;
    }
    if source.format.is_backup() {
        path.push(registry::unpacked_name(&source.path));
        if request.target.format == Some(Format::Spgz) {
            path.as_mut_os_string().push(".spgz");
        }
        return path;
    }
    let is_named = registry::is_named_container(&source.path);
    let name = match request.target.format {
        Some(Format::Raw) if is_named && source.format == Format::Spgz => source.path.file_stem(),
        _ => source.path.file_name(),
    };
    if let Some(name) = name {
        path.push(name);
        if request.target.format == Some(Format::Spgz) && !is_named {
            path.as_mut_os_string().push(".spgz");
        }
    }
    path
}

/// What the target is to be: what its prefix says, else what its name says. What is written where it stands remains what
/// it is, and only a name that lies is refused.
fn layout(request: &CopyRequest, path: &Path) -> Result<Layout> {
    let is_spgz = match request.target.format {
        Some(Format::Spgz) => true,
        Some(Format::Raw) => false,
        Some(Format::Index) => {
            let name = path.display().to_string();
            let sentence =
                format!("cannot copy to the index {name} (`blockprint make` makes indexes)");
            return Err(Error::new(ErrorKind::Invalid, sentence).at(name, None));
        }
        Some(Format::Partclone | Format::Packed) => {
            let name = path.display().to_string();
            let sentence =
                format!("cannot copy to the backup {name} (`blockprint backup` makes backups)");
            return Err(Error::new(ErrorKind::Invalid, sentence).at(name, None));
        }
        None => {
            let is_device = fs::metadata(path)
                .is_ok_and(|metadata| MediumKind::of(&metadata) == Some(MediumKind::Device));
            registry::is_named_container(path) && !is_device
        }
    };
    match request.block_bytes {
        Some(asked) if is_spgz => rounded_block_bytes(asked.get()).map(drop)?,
        Some(_) => {
            let name = path.display().to_string();
            let sentence = format!(
                "a block size is for containers, and {name} will be none (spgz:{name} makes it one)"
            );
            return Err(Error::new(ErrorKind::Invalid, sentence).at(name, None));
        }
        None => {}
    }
    Ok(if is_spgz { Layout::Spgz { block_bytes: request.block_bytes } } else { Layout::Raw })
}

/// That of a source file, as `cp` does; a copy of a device is for its owner only, since it may hold everybody's
/// secrets.
fn mode(rule: NewMode, source: &Facts) -> u32 {
    match (rule, source.medium, fs::metadata(&source.path)) {
        (NewMode::ForAll, ..) => 0o666 & !sys::umask(),
        (NewMode::OfSource, MediumKind::File, Ok(metadata)) => metadata.mode() & !sys::umask(),
        (NewMode::OfSource, ..) => 0o600,
    }
}

/// Whether the file `path` is what an interrupted copy had finished and named before it could say so.
fn is_finished(
    request: &CopyRequest,
    source: &Facts,
    layout: Layout,
    path: &Path,
    metadata: &Metadata,
) -> bool {
    if !request.resume {
        return false;
    }
    let journal = JournalPlace::new(request, path, TargetKind::NewFile).load();
    journal.ok().flatten().is_some_and(|journal| {
        journal.source == source.identity
            && journal.target == layout.which(metadata)
            && (layout != Layout::Raw || journal.size_bytes == metadata.len())
            && journal.done.contains(&(0..journal.size_bytes))
    })
}

/// How a copy from `source` to `target` is cut.
pub(super) fn shape(target: &Opened, source: &Facts, sparse: bool) -> Shape {
    let granule_bytes = target.image().block_size_bytes();
    let mut shape = match target.kind() {
        TargetKind::Device => {
            Shape { zero_run_min_bytes: DEVICE_ZERO_RUN_MIN_BYTES, ..Shape::direct(4096, false) }
        }
        TargetKind::FileInPlace => Shape::cached(granule_bytes, false),
        _ if source.medium == MediumKind::Device => Shape::direct(granule_bytes, target.is_blank()),
        _ => Shape::cached(granule_bytes, target.is_blank()),
    };
    if source.format != Format::Raw {
        // Enough chunks at once to take their digests in parallel lanes; enough blocks that those at both ends, which
        // are unpacked for two pieces, count for little.
        shape.piece_bytes = shape.piece_bytes.max(PACKED_PIECE_BYTES);
    }
    if let Some(block_bytes) = target.block_bytes() {
        shape = shape.of_blocks(block_bytes);
    }
    Shape { dense: !sparse, ..shape }
}
