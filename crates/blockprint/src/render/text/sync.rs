//! `blockprint sync`, for people.

use std::fmt::Write as _;

use engine::Bytes;
use engine::ops::sync::{SyncReport, Way};

use super::{counted, rate, seconds};

pub(crate) fn sync(report: &SyncReport) -> String {
    let (write, zero) = match report.dry_run {
        true => ("would be written", "would be zeroed"),
        false => ("written", "zeroed"),
    };
    let mut text = format!("{}: {}", report.target, Bytes(report.size_bytes));
    if report.old_bytes != report.size_bytes && report.old_bytes > 0 {
        let _ = write!(text, " (before: {})", Bytes(report.old_bytes));
    }
    let _ = write!(
        text,
        ", {} compared, {} {write}, {} {zero}",
        Bytes(report.compared_bytes),
        Bytes(report.data_bytes),
        Bytes(report.zeroed_bytes),
    );
    if report.assumed_bytes > 0 {
        let _ = write!(text, ", {} taken as unchanged", Bytes(report.assumed_bytes));
    }
    if report.known_bytes > 0 {
        let _ = write!(text, ", {} known by kept digests", Bytes(report.known_bytes));
    }
    if let Some(wire) = report.wire {
        let _ = write!(
            text,
            ", {} sent and {} received",
            Bytes(wire.sent_bytes),
            Bytes(wire.received_bytes)
        );
    }
    let _ = write!(
        text,
        ", {} ({}/s)",
        seconds(report.elapsed),
        Bytes(rate(report.compared_bytes, report.elapsed)),
    );
    if report.way == Way::Diskrsync {
        text.push_str(", by diskrsync's protocol");
    }
    if let Some(root) = report.root {
        let what = if report.assumed_bytes > 0 { "of what was compared, " } else { "" };
        let _ = write!(text, "\n{what}both ends hold {}", hex(&root));
    }
    if !report.repaired.is_empty() {
        let made = if report.dry_run { "would be made anew" } else { "made anew" };
        let _ = write!(
            text,
            "\ndamaged blocks of the target {made}: {} in {}",
            Bytes(report.repaired.total_bytes()),
            counted(report.repaired.count() as u64, "range"),
        );
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
