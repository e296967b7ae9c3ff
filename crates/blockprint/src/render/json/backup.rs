//! `blockprint backup`, for programs.

use engine::ops::backup::{BackupPlan, BackupReport};
use serde_json::{Value, json};

use super::{ms, path};

/// What a backup would do.
pub(crate) fn backup_plan(plan: &BackupPlan) -> Value {
    json!({
        "event": "plan",
        "command": "backup",
        "source": path(&plan.source),
        "destination": path(&plan.destination),
        "filesystem": plan.filesystem.kind,
        "label": plan.filesystem.label,
        "uuid": plan.filesystem.uuid,
        "variant": plan.variant.name(),
        "device_bytes": plan.device_bytes,
        "used_bytes": plan.used_bytes,
    })
}

pub(crate) fn backup(report: &BackupReport) -> Value {
    json!({
        "event": "result",
        "command": "backup",
        "source": path(&report.source),
        "destination": path(&report.destination),
        "filesystem": report.filesystem.kind,
        "label": report.filesystem.label,
        "uuid": report.filesystem.uuid,
        "variant": report.variant.name(),
        "device_bytes": report.device_bytes,
        "used_bytes": report.used_bytes,
        "image_bytes": report.image_bytes,
        "verified": report.verified,
        "by_partclone": report.by_partclone,
        "elapsed_ms": ms(report.elapsed),
    })
}
