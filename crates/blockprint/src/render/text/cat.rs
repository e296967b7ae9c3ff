//! What `cat` wrote, and what `info` knows of an index or a backup.

use engine::Bytes;
use engine::ops::cat::CatReport;
use engine::ops::info::InfoReport;
use engine::registry::Reach;

use super::{exact, rate, seconds};

pub(crate) fn cat(report: &CatReport) -> String {
    let Some(output) = &report.output else { return String::new() };
    format!(
        "{}: {} from offset {} of {}, {} ({}/s)",
        output.display(),
        Bytes(report.written_bytes),
        report.range.start,
        report.source.path.display(),
        seconds(report.elapsed),
        Bytes(rate(report.written_bytes, report.elapsed)),
    )
}

/// The rows that only an index has.
pub(super) fn index_rows(report: &InfoReport) -> Vec<(&'static str, String)> {
    let Some(facts) = &report.facts.index else { return Vec::new() };
    let chunks = report.chunks.unwrap_or_default();
    let stores = match facts.stores.is_empty() {
        true => "none found (--store names one)".to_string(),
        false => facts.stores.join(", "),
    };
    vec![
        ("chunks", format!("{}, {} of them distinct", facts.chunks, chunks.distinct)),
        ("distinct", exact(chunks.distinct_bytes)),
        ("chunk sizes", format!("{} (smallest:average:largest)", facts.sizes)),
        ("digest", facts.algorithm.name().to_string()),
        ("stores", stores),
    ]
}

/// The rows that only a partition image or a compressed image has.
pub(super) fn backup_rows(report: &InfoReport) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    if let Some(facts) = &report.facts.partition {
        rows.push((
            "filesystem",
            format!("{}, {} used", facts.filesystem, exact(facts.used_bytes)),
        ));
        let tool = match facts.tool_version.as_str() {
            "" => "an unknown version of the tool".to_string(),
            version => format!("version {version} of the tool"),
        };
        rows.push(("version", format!("format {:04}, of {tool}", facts.version)));
    }
    if let Some(facts) = &report.facts.packed {
        let how = match facts.reach {
            Reach::Direct => "any part can be read",
            Reach::Kept => "any part can be read, by what was kept of it",
            Reach::Missing => "read once as a whole before a part can be read",
        };
        rows.push(("packed", format!("{}: {how}", facts.compression.name())));
    }
    rows
}
