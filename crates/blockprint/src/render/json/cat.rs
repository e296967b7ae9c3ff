//! What `cat` wrote, and what `info` knows of an index.

use engine::ops::cat::CatReport;
use engine::ops::info::InfoReport;
use serde_json::{Value, json};

use super::{ms, path, sizes};

pub(crate) fn cat(report: &CatReport) -> Value {
    json!({
        "event": "result",
        "command": "cat",
        "image": path(&report.source.path),
        "output": report.output.as_deref().map(path),
        "offset": report.range.start,
        "len_bytes": report.range.end - report.range.start,
        "written_bytes": report.written_bytes,
        "elapsed_ms": ms(report.elapsed),
    })
}

/// The part of the facts that only an index has.
pub(super) fn index(report: &InfoReport) -> Option<Value> {
    let facts = report.facts.index.as_ref()?;
    let chunks = report.chunks.unwrap_or_default();
    Some(json!({
        "chunks": facts.chunks,
        "distinct_chunks": chunks.distinct,
        "distinct_bytes": chunks.distinct_bytes,
        "chunk_sizes": sizes(facts.sizes),
        "digest": facts.algorithm.name(),
        "stores": facts.stores,
    }))
}
