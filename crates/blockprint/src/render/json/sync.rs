//! `blockprint sync`, for programs.

use engine::ops::sync::{SyncReport, Way};
use serde_json::{Value, json};

use super::{ms, ranges};

pub(crate) fn sync(report: &SyncReport) -> Value {
    let root =
        report.root.map(|root| root.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    json!({
        "event": "result",
        "command": "sync",
        "source": report.source,
        "target": report.target,
        "way": way(report.way),
        "dry_run": report.dry_run,
        "size_bytes": report.size_bytes,
        "old_bytes": report.old_bytes,
        "compared_bytes": report.compared_bytes,
        "assumed_bytes": report.assumed_bytes,
        "known_bytes": report.known_bytes,
        "data_bytes": report.data_bytes,
        "zeroed_bytes": report.zeroed_bytes,
        "sent_bytes": report.wire.map(|wire| wire.sent_bytes),
        "received_bytes": report.wire.map(|wire| wire.received_bytes),
        "root": root,
        "repaired": ranges(&report.repaired),
        "repaired_bytes": report.repaired.total_bytes(),
        "elapsed_ms": ms(report.elapsed),
    })
}

fn way(way: Way) -> &'static str {
    match way {
        Way::Local => "local",
        Way::Native => "native",
        Way::Diskrsync => "diskrsync",
    }
}
