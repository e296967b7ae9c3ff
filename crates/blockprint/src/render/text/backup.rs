//! `blockprint backup`, for people.

use engine::Bytes;
use engine::devices::shown;
use engine::ops::backup::{BackupPlan, BackupReport};
use engine::partitions::Filesystem;

use super::{rate, seconds};

/// What a backup would do.
pub(crate) fn backup_plan(plan: &BackupPlan) -> String {
    let (source, destination) = (plan.source.display(), plan.destination.display());
    let what = match plan.used_bytes {
        Some(used) => {
            format!("the used {} of {}", Bytes(used), Bytes(plan.device_bytes))
        }
        None => format!("all {}", Bytes(plan.device_bytes)),
    };
    format!("would make {destination} of {source} ({}): {what}", content(&plan.filesystem))
}

pub(crate) fn backup(report: &BackupReport) -> String {
    let read = report.used_bytes.unwrap_or(report.device_bytes);
    let what = match report.used_bytes {
        Some(used) => format!("{} used of {}", Bytes(used), Bytes(report.device_bytes)),
        None => format!("all {}", Bytes(report.device_bytes)),
    };
    let mut text = format!(
        "{}: {}, {what}, in {}, {} ({}/s)",
        report.destination.display(),
        content(&report.filesystem),
        Bytes(report.image_bytes),
        seconds(report.elapsed),
        Bytes(rate(read, report.elapsed)),
    );
    if report.verified {
        text.push_str(", read back and equal");
    }
    if report.by_partclone {
        text.push_str(", by partclone");
    }
    text
}

fn content(filesystem: &Filesystem) -> String {
    let kind = filesystem.kind.as_deref().map_or("no filesystem that is known".into(), shown);
    match &filesystem.label {
        Some(label) => format!("{kind} \"{}\"", shown(label)),
        None => kind,
    }
}
