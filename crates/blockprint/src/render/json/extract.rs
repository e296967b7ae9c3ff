//! `blockprint extract` and `blockprint verify`, for programs.

use engine::ops::extract::{ExtractPlan, ExtractReport};
use engine::ops::verify::VerifyReport;
use serde_json::{Value, json};

use super::{amount, ms, path, target_kind};

/// What an extract would do.
pub(crate) fn extract_plan(plan: &ExtractPlan) -> Value {
    json!({
        "event": "plan",
        "command": "extract",
        "index": path(&plan.index),
        "target": path(&plan.target),
        "target_kind": target_kind(plan.target_kind),
        "size_bytes": plan.size_bytes,
        "chunks": plan.total.chunks,
        "distinct_chunks": plan.distinct_chunks,
        "zero": amount(plan.zero),
        "seeds": amount(plan.seeds),
        "self": amount(plan.own),
        "fetch": amount(plan.fetch),
        "partial": plan.partial.as_deref().map(path),
    })
}

pub(crate) fn extract(report: &ExtractReport) -> Value {
    let damaged: Vec<Value> = report
        .damaged
        .iter()
        .map(|bad| json!({ "chunk": bad.id.hex(), "store": bad.place, "message": bad.sentence }))
        .collect();
    json!({
        "event": "result",
        "command": "extract",
        "index": path(&report.index),
        "target": path(&report.target),
        "target_kind": target_kind(report.target_kind),
        "size_bytes": report.size_bytes,
        "chunks": report.total.chunks,
        "distinct_chunks": report.distinct_chunks,
        "zero": amount(report.zero),
        "in_place": amount(report.in_place),
        "seeds": amount(report.seeds),
        "seeds_cloned_bytes": report.seeds_cloned_bytes,
        "self": amount(report.own),
        "self_cloned_bytes": report.own_cloned_bytes,
        "cache": amount(report.cache),
        "stores": amount(report.stores),
        "stores_cloned_bytes": report.stores_cloned_bytes,
        "fetched_bytes": report.fetched_bytes,
        "damaged": damaged,
        "verified": report.verified,
        "elapsed_ms": ms(report.elapsed),
    })
}

pub(crate) fn verify(report: &VerifyReport) -> Value {
    let bad: Vec<Value> = report
        .bad_ranges
        .iter()
        .map(|range| json!({ "offset": range.start, "len_bytes": range.end - range.start }))
        .collect();
    let repair = report.repair.as_ref().map(|repair| {
        json!({
            "dry_run": report.is_dry_run,
            "written": amount(repair.written),
            "fetched": amount(repair.fetched),
            "fetched_bytes": repair.fetched_bytes,
        })
    });
    json!({
        "event": "result",
        "command": "verify",
        "index": path(&report.index),
        "target": path(&report.target.path),
        "target_size_bytes": report.target.size_bytes,
        "size_bytes": report.size_bytes,
        "chunks": report.chunks,
        "right": report.is_right(),
        "holes": amount(report.found.holes),
        "bad_chunks": report.found.bad.chunks,
        "bad_bytes": report.found.bad.bytes,
        "bad": bad,
        "bad_count": report.bad_count,
        "repair": repair,
        "elapsed_ms": ms(report.elapsed),
    })
}
