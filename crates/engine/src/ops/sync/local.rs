//! Both on this machine: compares byte by byte and writes what differs.

mod changes;
mod sink;

use std::fs;
use std::ops::Range;
use std::time::{Duration, Instant};

use image::layers::{Throttle, Throttled};
use image::ranges::RangeSet;
use image::{Error, ErrorKind, ExtentKind, Image, ImageExt, ImageMut, Phase, Result, Task};
use sync::Target as _;

use super::target::{Claiming, SyncTarget};
use super::{KeepDigests, SyncReport, SyncRequest, Way, book, since, warn_about_source};
use crate::location::{Format, Location};
use crate::ops::copy::OnReadError;
use crate::ops::copy::transfer::{Ledger, Shape, Transfer};
use crate::registry::{self, MediumKind, Source};
use crate::target::TargetKind;
use crate::used::used_only;
use changes::{Changes, Counts, Cut};
use sink::Sink;

/// Both ends, open.
pub(super) struct Plan {
    source: Source,
    target: SyncTarget,
    /// What may differ; all, if there is none.
    scope: Option<RangeSet>,
}

/// How much of an index or a container is read at once.
const PACKED_PIECE_BYTES: u64 = 1 << 20;

pub(super) fn plan(
    request: &SyncRequest,
    source: &Location,
    target: &Location,
    task: &Task,
) -> Result<Plan> {
    let source = match request.end.content_decides {
        true => &registry::by_content(source)?,
        false => source,
    };
    let mut source = registry::open_source_over(source, &request.stores, task)?;
    if request.used_only {
        source = used_only(source, task)?;
    }
    let claiming = Claiming {
        location: target,
        end: &request.end,
        source: Some(&source.facts),
        source_name: None,
        dry_run: request.dry_run,
    };
    let target = SyncTarget::claim(&claiming, task)?;
    refuse_foreign_onto_device(&source, &target)?;
    warn_about_source(&source.facts, task)?;
    if request.end.keep_digests != KeepDigests::No {
        task.note(
            "both are on this machine and are compared byte by byte: there are no digests to keep",
        );
    }
    let scope = match &request.end.since {
        Some(clone) => {
            refuse_other_target(clone, &target)?;
            if !source.facts.is_plain_file() {
                let name = source.facts.path.display().to_string();
                let sentence = format!("--since is for raw files, and {name} is none");
                return Err(Error::new(ErrorKind::Invalid, sentence).at(name, None));
            }
            Some(since::changed(&source.facts.path, clone, task)?)
        }
        None => None,
    };
    Ok(Plan { source, target, scope })
}

pub(super) fn perform(plan: Plan, request: &SyncRequest, task: &Task) -> Result<SyncReport> {
    let start = Instant::now();
    let Plan { source, mut target, scope } = plan;
    let (size_bytes, old_bytes) = (source.facts.size_bytes, target.size_bytes());
    let work = Work { source: &source, request, scope: scope.as_ref(), old_bytes };
    let done = work.run(&mut target, task);
    source.tell_of_stores(task);
    let done = done.map_err(|error| match target.left_behind() {
        Some(left) => error.and(left),
        None => error,
    })?;
    Ok(SyncReport {
        source: request.source.to_string(),
        target: request.target.to_string(),
        way: Way::Local,
        size_bytes,
        old_bytes,
        compared_bytes: done.compared_bytes,
        assumed_bytes: size_bytes - done.compared_bytes,
        known_bytes: 0,
        data_bytes: done.data_bytes,
        zeroed_bytes: done.zeroed_bytes,
        wire: None,
        root: None,
        repaired: target.repaired(),
        dry_run: request.dry_run,
        elapsed: start.elapsed(),
    })
}

/// As `copy` does it: the bytes of a container are not those of a disk.
fn refuse_foreign_onto_device(source: &Source, target: &SyncTarget) -> Result<()> {
    match source.facts.looks_like {
        Some(format) if target.kind() == TargetKind::Device => {
            let name = source.facts.path.display().to_string();
            let sentence = format!(
                "{name} looks like a {format} file, whose bytes are not those of a disk (unpack or convert it first, or write \
                 raw:{name} to sync it as it is)"
            );
            Err(Error::new(ErrorKind::Unsupported, sentence).at(name, None))
        }
        _ => Ok(()),
    }
}

/// What was synced from `clone` has its size.
fn refuse_other_target(clone: &std::path::Path, target: &SyncTarget) -> Result<()> {
    let name = clone.display().to_string();
    let metadata = fs::metadata(clone).map_err(|cause| {
        Error::io(format!("cannot look at {name}"), cause).at(name.clone(), None)
    })?;
    let (clone_bytes, target_bytes) = (metadata.len(), target.size_bytes());
    let fits = match target.kind() {
        TargetKind::Device => target_bytes >= clone_bytes,
        _ => target_bytes == clone_bytes,
    };
    if fits {
        return Ok(());
    }
    let path = target.path().display().to_string();
    let sentence = format!(
        "{path} is not what it was when {name} was synced: it has {target_bytes} bytes, and the clone {clone_bytes} (sync \
         without --since)"
    );
    Err(Error::new(ErrorKind::Changed, sentence).at(path, None))
}

/// One sync between two images of this machine.
struct Work<'a> {
    source: &'a Source,
    request: &'a SyncRequest,
    scope: Option<&'a RangeSet>,
    old_bytes: u64,
}

/// What was done.
struct Done {
    compared_bytes: u64,
    data_bytes: u64,
    zeroed_bytes: u64,
}

impl Work<'_> {
    fn run(&self, target: &mut SyncTarget, task: &Task) -> Result<Done> {
        let is_dry = self.request.dry_run;
        let size_bytes = self.source.facts.size_bytes;
        if !is_dry {
            book::take_away(target, &self.request.end)?;
        }
        target.begin(size_bytes)?;
        if size_bytes > self.old_bytes && !is_dry {
            target.resize(size_bytes)?;
        }
        let throttled;
        let source: &dyn Image = match self.request.limit_bytes_per_s {
            Some(rate) => {
                throttled = Throttled::new(&*self.source.image, Throttle::new(rate));
                &throttled
            }
            None => &*self.source.image,
        };
        let common_bytes = size_bytes.min(self.old_bytes);
        let ranges = within(self.scope, 0..common_bytes);
        let rest = within(self.scope, common_bytes..size_bytes);
        let shape = self.shape_of_rest(target);
        let rest_bytes = busy_bytes(source, &rest, shape, task)?;
        task.begin(Phase::Sync, total(&ranges) + rest_bytes);
        let counts = self.change(source, target.image(), &ranges, target, task)?;
        let ledger = Ledger::default();
        let sink = Sink::new(size_bytes);
        let transfer = Transfer {
            source,
            target: if is_dry { &sink } else { target.image() },
            ranges: rest.clone(),
            shape,
            on_read_error: OnReadError::Stop,
            threads: self.request.end.threads,
        };
        transfer.run(task, &ledger, Duration::from_secs(3600), |_| Ok(()))?;
        self.source.facts.refuse_changed("synced")?;
        if size_bytes < self.old_bytes && !is_dry {
            target.resize(size_bytes)?;
        }
        target.finish()?;
        Ok(Done {
            compared_bytes: total(&ranges) + total(&rest),
            data_bytes: counts.data_bytes() + ledger.written_bytes(),
            zeroed_bytes: counts.zeroed_bytes(),
        })
    }

    /// Makes those ranges of the target like the source's.
    fn change(
        &self,
        source: &dyn Image,
        image: &dyn ImageMut,
        ranges: &[Range<u64>],
        target: &SyncTarget,
        task: &Task,
    ) -> Result<Counts> {
        let throttled;
        let there: &dyn Image = match self.request.limit_bytes_per_s {
            Some(rate) => {
                throttled = Throttled::new(image, Throttle::new(rate));
                &throttled
            }
            None => &image,
        };
        let changes = Changes {
            source,
            there,
            target: Some(image).filter(|_| !self.request.dry_run),
            cut: self.cut(target),
            threads: self.request.end.threads,
        };
        changes.make(ranges, task)
    }

    /// How what is compared is cut.
    fn cut(&self, target: &SyncTarget) -> Cut {
        let is_device = target.kind() == TargetKind::Device;
        let has_device = is_device || self.source.facts.medium == MediumKind::Device;
        let is_packed = self.source.facts.format != Format::Raw;
        let piece_bytes = match has_device || is_packed {
            true => PACKED_PIECE_BYTES,
            false => changes::PIECE_BYTES,
        };
        match target.block_bytes() {
            Some(block_bytes) => Cut::of_blocks(piece_bytes, block_bytes),
            None if is_device => Cut::of_device(piece_bytes),
            None => Cut::of_file(piece_bytes),
        }
    }

    /// How what lies past the old end is cut: all of it is zero there.
    fn shape_of_rest(&self, target: &SyncTarget) -> Shape {
        let granule_bytes = target.image().block_size_bytes();
        let mut shape = match self.source.facts.medium {
            MediumKind::Device => Shape::direct(granule_bytes, true),
            MediumKind::File => Shape::cached(granule_bytes, true),
        };
        if self.source.facts.format != Format::Raw {
            shape.piece_bytes = shape.piece_bytes.max(PACKED_PIECE_BYTES as usize);
        }
        match target.block_bytes() {
            Some(block_bytes) => shape.of_blocks(block_bytes),
            None => shape,
        }
    }
}

/// The parts of `range` that may differ.
fn within(scope: Option<&RangeSet>, range: Range<u64>) -> Vec<Range<u64>> {
    let Some(scope) = scope else {
        return std::iter::once(range).filter(|range| !range.is_empty()).collect();
    };
    scope
        .iter()
        .map(|part| part.start.max(range.start)..part.end.min(range.end))
        .filter(|part| !part.is_empty())
        .collect()
}

fn total(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

/// How many bytes of `ranges` progress will count.
fn busy_bytes(source: &dyn Image, ranges: &[Range<u64>], shape: Shape, task: &Task) -> Result<u64> {
    if shape.counts_idle() {
        return Ok(total(ranges));
    }
    let mut bytes = 0;
    for extent in ranges.iter().flat_map(|range| source.extents(range.clone())) {
        task.checkpoint()?;
        let extent = extent?;
        bytes += if extent.kind == ExtentKind::Data { extent.len_bytes } else { 0 };
    }
    Ok(bytes)
}
