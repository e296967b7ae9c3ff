//! Events and results as JSON objects. The names here are a promise to programs; the engine's types are not.

mod backup;
mod backups;
mod cat;
mod devices;
mod disk;
mod extract;
mod index;
mod make;
mod restore;
mod store;
mod sync;

use std::path::Path;
use std::time::Duration;

use engine::chunking::ChunkSizes;
use engine::ops::clone::{ClonePlan, CloneReport, Method};
use engine::ops::compare::CompareReport;
use engine::ops::copy::{CopyPlan, CopyReport, TargetKind};
use engine::ops::info::{Count, InfoReport};
use engine::registry::Facts;
use engine::{Amount, Error, Extent, Holders, HoldingKind, Namespace, RangeSet};
use serde_json::{Value, json};

use super::meter::Reading;

pub(crate) use backup::{backup, backup_plan};
pub(crate) use backups::backups;
pub(crate) use cat::cat;
pub(crate) use devices::devices;
pub(crate) use disk::{
    disk_backup, disk_backup_plan, disk_restore, disk_restore_plan, disk_verify,
};
pub(crate) use extract::{extract, extract_plan, verify};
pub(crate) use index::{chunk, diff, index};
pub(crate) use make::make;
pub(crate) use restore::{image_verify, restore, restore_plan};
pub(crate) use store::{prune, prune_plan, store, store_copy, store_verify, stored};
pub(crate) use sync::sync;

/// Something said on the way.
pub(super) fn message(event: &str, sentence: &str) -> Value {
    json!({ "event": event, "message": sentence })
}

pub(super) fn progress(reading: &Reading) -> Value {
    json!({
        "event": "progress",
        "phase": reading.phase.name(),
        "done_bytes": reading.done_bytes,
        "total_bytes": reading.total_bytes,
        "bytes_per_s": reading.bytes_per_s,
        "left_s": reading.left.map(|left| left.as_secs()),
    })
}

pub(super) fn error(error: &Error) -> Value {
    let location = error.location().map(|location| {
        json!({
            "name": location.name,
            "offset": location.range.as_ref().map(|range| range.start),
            "len_bytes": location.range.as_ref().map(|range| range.end - range.start),
        })
    });
    json!({
        "event": "error",
        "kind": error.kind().name(),
        "message": error.full_sentence(),
        "location": location,
    })
}

/// What a copy would do.
pub(crate) fn copy_plan(plan: &CopyPlan) -> Value {
    json!({
        "event": "plan",
        "command": "copy",
        "source": path(&plan.source.path),
        "target": path(&plan.target),
        "target_kind": target_kind(plan.target_kind),
        "target_format": plan.target_format.name(),
        "size_bytes": plan.source.size_bytes,
        "data_bytes": plan.data_bytes,
        "zero_bytes": plan.zero_bytes,
        "unspecified_bytes": plan.unspecified_bytes,
        "resumed_bytes": plan.resumed_bytes,
    })
}

pub(crate) fn copy(report: &CopyReport) -> Value {
    json!({
        "event": "result",
        "command": "copy",
        "source": path(&report.source),
        "target": path(&report.target),
        "size_bytes": report.size_bytes,
        "written_bytes": report.written_bytes,
        "shared_bytes": report.shared_bytes,
        "sparse_bytes": report.sparse_bytes,
        "resumed_bytes": report.resumed_bytes,
        "unreadable": ranges(&report.unreadable),
        "unreadable_bytes": report.unreadable.total_bytes(),
        "lost_end": report.lost_end,
        "bad_map": report.bad_map.as_deref().map(path),
        "verified": report.verified,
        "elapsed_ms": ms(report.elapsed),
    })
}

pub(crate) fn compare(report: &CompareReport) -> Value {
    let differences = &report.differences;
    json!({
        "event": "result",
        "command": "compare",
        "equal": report.is_equal(),
        "a": { "path": path(&report.a.path), "size_bytes": report.a.size_bytes },
        "b": { "path": path(&report.b.path), "size_bytes": report.b.size_bytes },
        "first_difference": differences.first,
        "stopped_at_first": report.stopped_at_first,
        "differing": ranges(&differences.ranges),
        "differing_count": differences.ranges.count(),
        "differing_bytes": differences.ranges.total_bytes(),
        "granule_bytes": differences.granule_bytes,
        "compared_bytes": differences.compared_bytes,
        "zero_bytes": differences.zero_bytes,
        "unspecified_bytes": differences.unspecified_bytes,
        "elapsed_ms": ms(report.elapsed),
    })
}

/// What a clone would do.
pub(crate) fn clone_plan(plan: &ClonePlan) -> Value {
    let clones: Vec<Value> = plan
        .clones
        .iter()
        .map(|clone| {
            json!({
                "source": path(&clone.source),
                "target": path(&clone.target),
                "replaces": clone.replaces,
                "size_bytes": clone.size_bytes,
            })
        })
        .collect();
    json!({
        "event": "plan",
        "command": "clone",
        "clones": clones,
        "filesystems": filesystems(&plan.filesystems()),
    })
}

pub(crate) fn clone(report: &CloneReport) -> Value {
    let clones: Vec<Value> = report
        .clones
        .iter()
        .map(|clone| {
            let frozen_bytes = match clone.method {
                Method::ReflinkCatchup { frozen_bytes } => Some(frozen_bytes),
                _ => None,
            };
            json!({
                "source": path(&clone.source),
                "target": path(&clone.target),
                "size_bytes": clone.size_bytes,
                "method": clone.method.name(),
                "frozen_bytes": frozen_bytes,
            })
        })
        .collect();
    json!({
        "event": "result",
        "command": "clone",
        "clones": clones,
        "frozen_ms": report.frozen.map(ms),
        "filesystems": filesystems(&report.filesystems),
        "elapsed_ms": ms(report.elapsed),
    })
}

pub(crate) fn info(report: &InfoReport) -> Value {
    let Facts { path: image, format, medium, .. } = &report.facts;
    json!({
        "event": "result",
        "command": "info",
        "image": path(image),
        "format": format.name(),
        "medium": medium.name(),
        "size_bytes": report.facts.size_bytes,
        "allocated_bytes": report.facts.allocated_bytes,
        "block_size_bytes": report.facts.block_size_bytes,
        "sector_size_bytes": report.facts.sector_size_bytes,
        "looks_like": report.facts.looks_like,
        "index": cat::index(report),
        "packed": report.facts.packed.as_ref().map(|packed| json!({
            "compression": packed.compression.name(),
            "access": packed.reach.name(),
        })),
        "partition": report.facts.partition.as_ref().map(|partition| json!({
            "filesystem": partition.filesystem,
            "used_bytes": partition.used_bytes,
            "version": partition.version,
            "tool_version": partition.tool_version,
        })),
        "extents": {
            "data": count(report.summary.data),
            "zero": count(report.summary.zero),
            "unspecified": count(report.summary.unspecified),
        },
        "map": report.map.as_ref().map(|map| map.iter().map(extent).collect::<Vec<_>>()),
        "held_by": holders(&report.holders),
    })
}

fn holders(holders: &Holders) -> Value {
    let mounts: Vec<Value> = holders
        .mounts
        .iter()
        .map(|mount| {
            json!({
                "mount_point": path(&mount.mount_point),
                "filesystem": mount.filesystem,
                "device": path(&mount.source),
                "namespace_of_pid": match mount.namespace {
                    Namespace::Own => None,
                    Namespace::Of(pid) => Some(pid),
                },
            })
        })
        .collect();
    let devices: Vec<Value> = holders
        .devices
        .iter()
        .map(|device| {
            let (kind, offset) = match device.kind {
                HoldingKind::Loop { offset } => ("loop", Some(offset)),
                HoldingKind::Partition => ("partition", None),
                HoldingKind::Stacked => ("stacked", None),
            };
            json!({ "device": path(&device.path), "kind": kind, "offset": offset })
        })
        .collect();
    let swaps: Vec<String> = holders.swaps.iter().map(|swap| path(swap)).collect();
    json!({ "mounts": mounts, "devices": devices, "swaps": swaps })
}

fn filesystems(list: &[engine::ops::clone::FrozenFilesystem]) -> Vec<Value> {
    let one = |filesystem: &engine::ops::clone::FrozenFilesystem| {
        json!({
            "mount_point": path(&filesystem.mount_point),
            "device": path(&filesystem.device),
            "filesystem": filesystem.filesystem,
        })
    };
    list.iter().map(one).collect()
}

/// The word for what a copy writes to.
fn target_kind(kind: TargetKind) -> &'static str {
    match kind {
        TargetKind::NewFile => "new-file",
        TargetKind::ReplacedFile => "replaced-file",
        TargetKind::FileInPlace => "file-in-place",
        TargetKind::Device => "device",
    }
}

fn extent(extent: &Extent) -> Value {
    json!({ "offset": extent.offset, "len_bytes": extent.len_bytes, "kind": extent.kind.name() })
}

fn count(count: Count) -> Value {
    json!({ "extents": count.extents, "bytes": count.bytes })
}

fn ranges(set: &RangeSet) -> Vec<Value> {
    set.iter()
        .map(|range| json!({ "offset": range.start, "len_bytes": range.end - range.start }))
        .collect()
}

/// JSON knows only Unicode: what is not becomes U+FFFD.
fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Milliseconds, to the microsecond.
fn ms(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

fn sizes(sizes: ChunkSizes) -> Value {
    json!({ "min_bytes": sizes.min(), "avg_bytes": sizes.avg(), "max_bytes": sizes.max() })
}

fn amount(amount: Amount) -> Value {
    json!({ "chunks": amount.chunks, "bytes": amount.bytes })
}
