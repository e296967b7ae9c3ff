//! `blockprint make`, for people.

use std::fmt::Write as _;

use engine::Bytes;
use engine::ops::make::MakeReport;

use super::{counted, rate, seconds};

pub(crate) fn make(report: &MakeReport) -> String {
    let what = match &report.index {
        Some(index) if !report.is_dry_run => index.display().to_string(),
        _ => "would make".to_string(),
    };
    let mut text = format!(
        "{what}: {} in {}, {} ({}/s)",
        Bytes(report.size_bytes),
        counted(report.chunks, "chunk"),
        seconds(report.elapsed),
        Bytes(rate(report.size_bytes, report.elapsed)),
    );
    let kept = &report.kept;
    if let Some(store) = &report.store {
        let _ = write!(text, "; {store}: {} new", counted(kept.new_chunks, "chunk"));
        if kept.new_chunks > 0 {
            let _ = write!(text, " ({}", Bytes(kept.new_bytes));
            if !report.is_dry_run {
                let _ = write!(text, ", packed {}", Bytes(kept.packed_bytes));
            }
            text.push(')');
        }
        let _ =
            write!(text, ", {} there before ({})", kept.reused_chunks, Bytes(kept.reused_bytes));
        if kept.repaired_chunks > 0 {
            let _ = write!(text, ", {} of the new ones replace damaged ones", kept.repaired_chunks);
        }
    }
    if let Some(digest) = &report.blob_digest {
        let _ = write!(text, "; digest {digest}");
    }
    text
}
