//! Sets of whole disks, for programs.

use engine::ops::disk::backup::{DiskBackupPlan, DiskBackupReport};
use engine::ops::disk::restore::{DiskRestorePlan, DiskRestoreReport};
use engine::ops::disk::verify::DiskVerifyReport;
use engine::ops::disk::{Content, Manifest};
use engine::partitions::Filesystem;
use serde_json::{Value, json};

use super::{ms, path};

/// What making a set would do.
pub(crate) fn disk_backup_plan(plan: &DiskBackupPlan) -> Value {
    let partitions = plan.partitions.iter().map(|(partition, filesystem)| {
        let size_bytes = partition.range.end - partition.range.start;
        let content = if partition.is_container { "container" } else { "image" };
        one(partition.number, size_bytes, filesystem, content)
    });
    json!({
        "event": "plan",
        "command": "backup",
        "source": path(&plan.source),
        "destination": path(&plan.destination),
        "disk_bytes": plan.disk.size_bytes,
        "table": plan.table,
        "partitions": partitions.collect::<Vec<_>>(),
    })
}

/// What making a set did.
pub(crate) fn disk_backup(report: &DiskBackupReport) -> Value {
    json!({
        "event": "result",
        "command": "backup",
        "source": path(&report.source),
        "destination": path(&report.destination),
        "disk_bytes": report.manifest.disk.size_bytes,
        "table": report.manifest.table.kind,
        "partitions": partitions(&report.manifest),
        "set_bytes": report.set_bytes,
        "verified": report.verified,
        "elapsed_ms": ms(report.elapsed),
    })
}

/// What restoring a set would do.
pub(crate) fn disk_restore_plan(plan: &DiskRestorePlan) -> Value {
    json!({
        "event": "plan",
        "command": "restore",
        "source": path(&plan.set),
        "target": path(&plan.target),
        "target_bytes": plan.target_bytes,
        "disk_bytes": plan.manifest.disk.size_bytes,
        "table": plan.manifest.table.kind,
        "partitions": partitions(&plan.manifest),
        "grown": plan.grown.map(grown),
    })
}

/// What restoring a set did.
pub(crate) fn disk_restore(report: &DiskRestoreReport) -> Value {
    json!({
        "event": "result",
        "command": "restore",
        "source": path(&report.set),
        "target": path(&report.target),
        "disk_bytes": report.manifest.disk.size_bytes,
        "table": report.manifest.table.kind,
        "partitions": partitions(&report.manifest),
        "grown": report.grown.map(grown),
        "written_bytes": report.written_bytes,
        "verified": report.verified,
        "known_to_kernel": report.is_known_to_kernel,
        "elapsed_ms": ms(report.elapsed),
    })
}

/// What checking a set has found: that it is right.
pub(crate) fn disk_verify(report: &DiskVerifyReport) -> Value {
    json!({
        "event": "result",
        "command": "verify",
        "source": path(&report.set),
        "disk_bytes": report.manifest.disk.size_bytes,
        "table": report.manifest.table.kind,
        "partitions": partitions(&report.manifest),
        "read_bytes": report.read_bytes,
        "elapsed_ms": ms(report.elapsed),
    })
}

fn grown((number, size_bytes): (u32, u64)) -> Value {
    json!({ "number": number, "size_bytes": size_bytes })
}

fn partitions(manifest: &Manifest) -> Vec<Value> {
    let content = |content: &Content| match content {
        Content::Container => "container",
        Content::Image { .. } => "image",
        Content::SwapHeader { .. } => "swap-header",
    };
    let each = manifest.partitions.iter().map(|facts| {
        let size_bytes = facts.range.end - facts.range.start;
        one(facts.number, size_bytes, &facts.filesystem, content(&facts.content))
    });
    each.collect()
}

fn one(number: u32, size_bytes: u64, filesystem: &Filesystem, content: &str) -> Value {
    json!({
        "number": number,
        "size_bytes": size_bytes,
        "filesystem": filesystem.kind,
        "label": filesystem.label,
        "uuid": filesystem.uuid,
        "content": content,
    })
}
