//! `blockprint make`, for programs.

use engine::ops::make::MakeReport;
use serde_json::{Value, json};

use super::{ms, path, sizes};

pub(crate) fn make(report: &MakeReport) -> Value {
    let kept = &report.kept;
    let store = report.store.as_ref().map(|store| {
        json!({
            "name": store,
            "new_chunks": kept.new_chunks,
            "new_bytes": kept.new_bytes,
            "packed_bytes": kept.packed_bytes,
            "reused_chunks": kept.reused_chunks,
            "reused_bytes": kept.reused_bytes,
            "repaired_chunks": kept.repaired_chunks,
        })
    });
    json!({
        "event": if report.is_dry_run { "plan" } else { "result" },
        "command": "make",
        "source": path(&report.source),
        "index": report.index.as_deref().map(path),
        "size_bytes": report.size_bytes,
        "chunks": report.chunks,
        "digest": report.algorithm.name(),
        "chunk_sizes": sizes(report.sizes),
        "store": store,
        "blob_digest": report.blob_digest.map(|digest| digest.hex()),
        "elapsed_ms": ms(report.elapsed),
    })
}
