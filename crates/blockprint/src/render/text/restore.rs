//! `blockprint restore`, and `blockprint verify` of an image of a partition, for people.

use engine::Bytes;
use engine::ops::restore::{RestorePlan, RestoreReport};
use engine::ops::verify::ImageVerifyReport;

use super::{rate, seconds};

/// What a restore would do.
pub(crate) fn restore_plan(plan: &RestorePlan) -> String {
    let of = plan.device_bytes.map(|bytes| format!(" of {}", Bytes(bytes))).unwrap_or_default();
    let what = match plan.used_bytes {
        Some(used) => format!("{} used{of}", Bytes(used)),
        None => format!("raw bytes{of}"),
    };
    format!(
        "would OVERWRITE {} ({}) with {} ({}, {what})",
        plan.target.display(),
        Bytes(plan.target_bytes),
        plan.image.display(),
        plan.variant.name(),
    )
}

pub(crate) fn restore(report: &RestoreReport) -> String {
    let mut text = format!(
        "{}: {} written, {} ({}/s)",
        report.target.display(),
        Bytes(report.written_bytes),
        seconds(report.elapsed),
        Bytes(rate(report.written_bytes, report.elapsed)),
    );
    if report.discarded_bytes > 0 {
        text += &format!(", {} discarded", Bytes(report.discarded_bytes));
    }
    if report.verified {
        text.push_str(", read back and equal");
    }
    if report.by_partclone {
        text.push_str(", by partclone");
    }
    text
}

pub(crate) fn image_verify(report: &ImageVerifyReport) -> String {
    let what = match report.used_bytes {
        Some(used) => format!("{} used of {}", Bytes(used), Bytes(report.device_bytes)),
        None => format!("raw bytes of {}", Bytes(report.device_bytes)),
    };
    let checked = if report.has_checksums { ", all checksums right" } else { "" };
    format!(
        "{}: whole, {} {}, {what}{checked}, {} ({}/s)",
        report.image.display(),
        report.variant.name(),
        report.compression.name(),
        seconds(report.elapsed),
        Bytes(rate(report.used_bytes.unwrap_or(report.device_bytes), report.elapsed)),
    )
}
