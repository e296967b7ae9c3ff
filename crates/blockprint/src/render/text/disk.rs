//! Sets of whole disks, for people.

use std::fmt::Write as _;

use engine::Bytes;
use engine::devices::shown;
use engine::ops::disk::backup::{DiskBackupPlan, DiskBackupReport};
use engine::ops::disk::restore::{DiskRestorePlan, DiskRestoreReport};
use engine::ops::disk::verify::DiskVerifyReport;
use engine::ops::disk::{Content, Manifest};
use engine::partitions::Filesystem;

use super::seconds;

/// What making a set would do.
pub(crate) fn disk_backup_plan(plan: &DiskBackupPlan) -> String {
    let mut text = format!(
        "would make {} of {} ({}, {} table)",
        plan.destination.display(),
        plan.source.display(),
        Bytes(plan.disk.size_bytes),
        plan.table
    );
    for (partition, filesystem) in &plan.partitions {
        let size_bytes = partition.range.end - partition.range.start;
        let content = match partition.is_container {
            true => "logical partitions".to_string(),
            false => content(filesystem),
        };
        let _ =
            write!(text, "\n  partition {}: {}, {content}", partition.number, Bytes(size_bytes));
    }
    text
}

/// What making a set did.
pub(crate) fn disk_backup(report: &DiskBackupReport) -> String {
    let equal = if report.verified { ", read back and equal" } else { "" };
    format!(
        "{}: {} of {}, in {}, {}{equal}",
        report.destination.display(),
        partitions(&report.manifest),
        report.source.display(),
        Bytes(report.set_bytes),
        seconds(report.elapsed),
    )
}

/// What restoring a set would do.
pub(crate) fn disk_restore_plan(plan: &DiskRestorePlan) -> String {
    let disk = &plan.manifest.disk;
    let mut text = format!(
        "would overwrite all of {} ({}) with {}, {} of a disk of {}",
        plan.target.display(),
        Bytes(plan.target_bytes),
        plan.set.display(),
        partitions(&plan.manifest),
        Bytes(disk.size_bytes)
    );
    for facts in plan.manifest.partitions.iter().filter(|facts| facts.content != Content::Container)
    {
        let size_bytes = facts.range.end - facts.range.start;
        let what = content(&facts.filesystem);
        let _ = write!(text, "\n  partition {}: {}, {what}", facts.number, Bytes(size_bytes));
        if let Some((_, bytes)) = plan.grown.filter(|(number, _)| *number == facts.number) {
            let _ = write!(text, ", grown to {}", Bytes(bytes));
        }
    }
    text
}

/// What restoring a set did.
pub(crate) fn disk_restore(report: &DiskRestoreReport) -> String {
    let mut text = format!(
        "{}: {} of {} restored, {} written, {}",
        report.target.display(),
        partitions(&report.manifest),
        report.set.display(),
        Bytes(report.written_bytes),
        seconds(report.elapsed),
    );
    if let Some((number, bytes)) = report.grown {
        let _ = write!(text, ", partition {number} grown to {}", Bytes(bytes));
    }
    if report.verified {
        text.push_str(", read back and equal");
    }
    text
}

/// What checking a set has found: that it is right.
pub(crate) fn disk_verify(report: &DiskVerifyReport) -> String {
    format!(
        "{}: right ({}, {} read, {})",
        report.set.display(),
        partitions(&report.manifest),
        Bytes(report.read_bytes),
        seconds(report.elapsed)
    )
}

fn partitions(manifest: &Manifest) -> String {
    let holds = manifest.partitions.iter().filter(|facts| facts.content != Content::Container);
    match holds.count() {
        1 => "1 partition".to_string(),
        count => format!("{count} partitions"),
    }
}

fn content(filesystem: &Filesystem) -> String {
    let kind = filesystem.kind.as_deref().map_or("no filesystem that is known".into(), shown);
    match &filesystem.label {
        Some(label) => format!("{kind} \"{}\"", shown(label)),
        None => kind,
    }
}
