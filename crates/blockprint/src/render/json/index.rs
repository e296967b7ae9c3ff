//! `blockprint index`, for programs.

use engine::chunking::Span;
use engine::ops::index::{DiffReport, IndexReport};
use serde_json::{Value, json};

use super::{amount, path, sizes};

pub(crate) fn index(report: &IndexReport) -> Value {
    json!({
        "event": "result",
        "command": "index info",
        "index": path(&report.index),
        "size_bytes": report.size_bytes,
        "digest": report.algorithm.name(),
        "flags": format!("{:#018x}", report.flags),
        "chunk_sizes": sizes(report.sizes),
        "all": amount(report.all),
        "distinct": amount(report.distinct),
        "zero": amount(report.zero),
        "in_stores": report.in_stores.map(amount),
        "in_seeds": amount(report.in_seeds),
        "to_fetch": amount(report.to_fetch),
    })
}

pub(crate) fn diff(report: &DiffReport) -> Value {
    json!({
        "event": "result",
        "command": "index diff",
        "wanted": path(&report.wanted),
        "size_bytes": report.size_bytes,
        "distinct": amount(report.distinct),
        "shared": amount(report.shared),
        "missing": amount(report.missing),
        "same_sizes": report.same_sizes,
    })
}

/// One chunk of an index.
pub(crate) fn chunk(span: &Span) -> Value {
    json!({
        "event": "chunk",
        "number": span.number,
        "offset": span.offset,
        "len_bytes": span.len_bytes,
        "id": span.id.hex(),
    })
}
