//! `blockprint store`, for people.

use std::fmt::Write as _;

use engine::Bytes;
use engine::ops::store::{CopyReport, PrunePlan, PruneReport, StoreReport, VerifyReport};

use super::{counted, rate, seconds};

pub(crate) fn store(report: &StoreReport) -> String {
    format!(
        "{}: {}; {} compressed ({}), {} plain ({})",
        report.store,
        counted(report.chunks, "chunk"),
        report.compressed,
        Bytes(report.compressed_bytes),
        report.plain,
        Bytes(report.plain_bytes),
    )
}

pub(crate) fn store_verify(report: &VerifyReport) -> String {
    let mut lines: Vec<String> = report.damaged.iter().map(|bad| bad.sentence.clone()).collect();
    let mut text = format!(
        "{}: {} read, {} ({}/s)",
        report.store,
        counted(report.chunks, "chunk"),
        seconds(report.elapsed),
        Bytes(rate(report.packed_bytes, report.elapsed)),
    );
    if report.damaged_count == 0 {
        text.push_str(", all of them good");
    } else {
        let _ = write!(text, ", {} DAMAGED", report.damaged_count);
        if report.removed > 0 {
            let _ = write!(text, ", {} removed", report.removed);
        }
        if report.repaired > 0 {
            let _ = write!(text, ", {} replaced", report.repaired);
        }
    }
    lines.push(text);
    lines.join("\n")
}

pub(crate) fn prune_plan(plan: &PrunePlan) -> String {
    let mut text = format!(
        "would remove {} ({}) that none of {} names; {} stay",
        counted(plan.unused, "chunk"),
        Bytes(plan.unused_bytes),
        counted(plan.indexes.len() as u64, "index file"),
        plan.used,
    );
    if plan.young > 0 {
        let _ = write!(text, ", and {} because they are young", plan.young);
    }
    missing(&mut text, plan.missing);
    text
}

pub(crate) fn prune(report: &PruneReport) -> String {
    let mut text = format!(
        "{}: {} removed ({}), {} stay",
        report.store,
        counted(report.removed, "chunk"),
        Bytes(report.removed_bytes),
        report.used,
    );
    if report.kept > 0 {
        let _ = write!(text, ", and {} because they are young or in use", report.kept);
    }
    if report.leftovers > 0 {
        let _ =
            write!(text, "; {} of interrupted writers removed", counted(report.leftovers, "file"));
    }
    missing(&mut text, report.missing);
    text
}

fn missing(text: &mut String, missing: u64) {
    if missing > 0 {
        let _ = write!(text, "; {} that indexes name are MISSING", counted(missing, "chunk"));
    }
}

pub(crate) fn store_copy(report: &CopyReport) -> String {
    format!(
        "{}: {} copied ({}), {} there before, {}",
        report.target,
        counted(report.copied, "chunk"),
        Bytes(report.copied_bytes),
        report.present,
        seconds(report.elapsed),
    )
}
