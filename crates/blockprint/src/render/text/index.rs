//! `blockprint index`, for people.

use engine::Amount;
use engine::Bytes;
use engine::ops::index::{DiffReport, IndexReport};

use super::{counted, exact};

pub(crate) fn index(report: &IndexReport) -> String {
    let mut lines = vec![
        format!("index:      {}", report.index.display()),
        format!("size:       {}", exact(report.size_bytes)),
        format!("digest:     {}", report.algorithm.name()),
        format!("flags:      {:#018x}", report.flags),
        format!("cut at:     {} (min:avg:max, KiB unless said)", report.sizes),
        format!("chunks:     {}", amount(report.all)),
        format!("distinct:   {}", amount(report.distinct)),
        format!("zeroes:     {}", amount(report.zero)),
    ];
    if let Some(in_stores) = report.in_stores {
        lines.push(format!("in stores:  {} of the distinct ones", amount(in_stores)));
    }
    if report.in_seeds.chunks > 0 {
        lines.push(format!("in seeds:   {} of the distinct ones", amount(report.in_seeds)));
    }
    lines.push(format!("to fetch:   {}", amount(report.to_fetch)));
    lines.join("\n")
}

pub(crate) fn diff(report: &DiffReport) -> String {
    let mut text = format!(
        "{} needs {} of {} distinct ones: {} are at hand",
        report.wanted.display(),
        amount(report.missing),
        report.distinct.chunks,
        amount(report.shared),
    );
    if !report.same_sizes {
        text.push_str(
            "\nthe indexes were cut or named in different ways: they can hardly share chunks",
        );
    }
    text
}

fn amount(amount: Amount) -> String {
    format!("{} ({})", counted(amount.chunks, "chunk"), Bytes(amount.bytes))
}
