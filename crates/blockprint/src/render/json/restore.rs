//! `blockprint restore`, and `blockprint verify` of an image of a partition, for programs.

use engine::ops::restore::{RestorePlan, RestoreReport};
use engine::ops::verify::ImageVerifyReport;
use serde_json::{Value, json};

use super::{ms, path};

/// What a restore would do.
pub(crate) fn restore_plan(plan: &RestorePlan) -> Value {
    json!({
        "event": "plan",
        "command": "restore",
        "image": path(&plan.image),
        "target": path(&plan.target),
        "variant": plan.variant.name(),
        "compression": plan.compression.name(),
        "device_bytes": plan.device_bytes,
        "used_bytes": plan.used_bytes,
        "target_bytes": plan.target_bytes,
    })
}

pub(crate) fn restore(report: &RestoreReport) -> Value {
    json!({
        "event": "result",
        "command": "restore",
        "image": path(&report.image),
        "target": path(&report.target),
        "variant": report.variant.name(),
        "device_bytes": report.device_bytes,
        "written_bytes": report.written_bytes,
        "discarded_bytes": report.discarded_bytes,
        "verified": report.verified,
        "by_partclone": report.by_partclone,
        "elapsed_ms": ms(report.elapsed),
    })
}

pub(crate) fn image_verify(report: &ImageVerifyReport) -> Value {
    json!({
        "event": "result",
        "command": "verify",
        "image": path(&report.image),
        "variant": report.variant.name(),
        "compression": report.compression.name(),
        "file_bytes": report.file_bytes,
        "device_bytes": report.device_bytes,
        "used_bytes": report.used_bytes,
        "has_checksums": report.has_checksums,
        "elapsed_ms": ms(report.elapsed),
    })
}
