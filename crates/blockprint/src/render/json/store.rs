//! `blockprint store`, for programs.

use engine::chunking::Stored;
use engine::ops::store::{CopyReport, PrunePlan, PruneReport, StoreReport, VerifyReport};
use serde_json::{Value, json};

use super::ms;

pub(crate) fn store(report: &StoreReport) -> Value {
    json!({
        "event": "result",
        "command": "store info",
        "store": report.store,
        "chunks": report.chunks,
        "compressed": { "chunks": report.compressed, "bytes": report.compressed_bytes },
        "plain": { "chunks": report.plain, "bytes": report.plain_bytes },
    })
}

/// One chunk of a store.
pub(crate) fn stored(stored: &Stored) -> Value {
    json!({
        "event": "chunk",
        "id": stored.id.hex(),
        "form": stored.form.name(),
        "len_bytes": stored.len_bytes,
    })
}

pub(crate) fn store_verify(report: &VerifyReport) -> Value {
    let damaged: Vec<Value> = report
        .damaged
        .iter()
        .map(|bad| json!({ "id": bad.id.hex(), "message": bad.sentence }))
        .collect();
    json!({
        "event": "result",
        "command": "store verify",
        "store": report.store,
        "chunks": report.chunks,
        "packed_bytes": report.packed_bytes,
        "damaged": damaged,
        "damaged_count": report.damaged_count,
        "removed": report.removed,
        "repaired": report.repaired,
        "sound": report.is_sound(),
        "elapsed_ms": ms(report.elapsed),
    })
}

pub(crate) fn prune_plan(plan: &PrunePlan) -> Value {
    json!({
        "event": "plan",
        "command": "store prune",
        "indexes": plan.indexes.len(),
        "used": plan.used,
        "unused": plan.unused,
        "unused_bytes": plan.unused_bytes,
        "young": plan.young,
        "missing": plan.missing,
    })
}

pub(crate) fn prune(report: &PruneReport) -> Value {
    json!({
        "event": "result",
        "command": "store prune",
        "store": report.store,
        "indexes": report.indexes,
        "used": report.used,
        "removed": report.removed,
        "removed_bytes": report.removed_bytes,
        "kept": report.kept,
        "missing": report.missing,
        "leftovers": report.leftovers,
    })
}

pub(crate) fn store_copy(report: &CopyReport) -> Value {
    json!({
        "event": "result",
        "command": "store copy",
        "target": report.target,
        "chunks": report.chunks,
        "copied": report.copied,
        "copied_bytes": report.copied_bytes,
        "present": report.present,
        "elapsed_ms": ms(report.elapsed),
    })
}
