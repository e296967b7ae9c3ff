//! `blockprint extract` and `blockprint verify`, for people.

use std::fmt::Write as _;

use engine::Amount;
use engine::Bytes;
use engine::ops::copy::TargetKind;
use engine::ops::extract::{ExtractPlan, ExtractReport};
use engine::ops::verify::VerifyReport;

use super::{counted, rate, seconds};

/// What an extract would do.
pub(crate) fn extract_plan(plan: &ExtractPlan) -> String {
    let target = plan.target.display();
    let what = match plan.target_kind {
        TargetKind::NewFile => format!("make the file {target}"),
        TargetKind::ReplacedFile => format!("REPLACE the file {target}"),
        TargetKind::FileInPlace => format!("CHANGE the file {target} where it stands"),
        TargetKind::Device => format!("OVERWRITE the device {target}"),
    };
    let mut text = format!(
        "would {what}: {} in {}",
        Bytes(plan.size_bytes),
        counted(plan.total.chunks, "chunk")
    );
    for (amount, from) in
        [(plan.zero, "zero"), (plan.seeds, "from seeds"), (plan.own, "from itself")]
    {
        add(&mut text, amount, from);
    }
    let _ = write!(
        text,
        ", {}{} to fetch ({})",
        match plan.target_kind {
            TargetKind::NewFile | TargetKind::ReplacedFile if plan.partial.is_none() => "",
            _ => "at most ",
        },
        Bytes(plan.fetch.bytes),
        counted(plan.fetch.chunks, "chunk"),
    );
    if let Some(partial) = &plan.partial {
        let _ = write!(text, "; what is right in {} would be kept", partial.display());
    }
    text
}

pub(crate) fn extract(report: &ExtractReport) -> String {
    let mut text = format!("{}: {}", report.target.display(), Bytes(report.size_bytes));
    for (amount, from) in [
        (report.zero, "zero"),
        (report.in_place, "in place"),
        (report.seeds, "from seeds"),
        (report.own, "from itself"),
        (report.cache, "from the cache"),
        (report.stores, "from stores"),
    ] {
        add(&mut text, amount, from);
    }
    if report.stores.chunks > 0 {
        let _ = write!(text, " (packed {})", Bytes(report.fetched_bytes));
    }
    let cloned_bytes =
        report.seeds_cloned_bytes + report.own_cloned_bytes + report.stores_cloned_bytes;
    if cloned_bytes > 0 {
        let _ = write!(text, ", {} shared", Bytes(cloned_bytes));
    }
    let _ = write!(
        text,
        ", {} ({}/s)",
        seconds(report.elapsed),
        Bytes(rate(report.size_bytes, report.elapsed))
    );
    if report.verified {
        text.push_str(", read back and right");
    }
    for bad in &report.damaged {
        let _ = write!(text, "\nbad in {}, taken from elsewhere: {}", bad.place, bad.sentence);
    }
    text
}

/// What was found, and at most `list_max` of the bad ranges.
pub(crate) fn verify(report: &VerifyReport, list_max: usize) -> String {
    let target = report.target.path.display();
    let found = &report.found;
    if report.is_right() {
        return format!(
            "{target} is what {} says: {} in {}, {} known to be zero, {}",
            report.index.display(),
            Bytes(report.size_bytes),
            counted(report.chunks, "chunk"),
            Bytes(found.holes.bytes),
            seconds(report.elapsed),
        );
    }
    let mut lines = Vec::new();
    if !report.has_right_size() {
        lines.push(format!(
            "{target} has {} bytes, the image has {}",
            report.target.size_bytes, report.size_bytes
        ));
    }
    if found.bad.chunks > 0 {
        lines.push(format!(
            "{target} is not what {} says: {} of {} wrong, {} in {}",
            report.index.display(),
            counted(found.bad.chunks, "chunk"),
            report.chunks,
            Bytes(found.bad.bytes),
            counted(report.bad_count, "range"),
        ));
        let count = report.bad_ranges.len().min(list_max);
        if count > 0 {
            lines.push(format!("{:>16} {:>16}", "offset", "length"));
        }
        lines.extend(
            report.bad_ranges[..count]
                .iter()
                .map(|range| format!("{:>16} {:>16}", range.start, range.end - range.start)),
        );
        let more = report.bad_count - count as u64;
        if more > 0 && count > 0 {
            lines.push(format!("and {} (--list shows more)", counted(more, "more range")));
        }
    }
    match &report.repair {
        Some(_) if report.is_dry_run => lines.push(format!(
            "would write {} anew: {}",
            counted(found.bad.chunks, "chunk"),
            Bytes(found.bad.bytes)
        )),
        Some(repair) => lines.push(format!(
            "repaired: {} written anew ({}), {} fetched (packed {}), read back and right",
            counted(repair.written.chunks, "chunk"),
            Bytes(repair.written.bytes),
            Bytes(repair.fetched.bytes),
            Bytes(repair.fetched_bytes),
        )),
        None => {}
    }
    lines.join("\n")
}

fn add(text: &mut String, amount: Amount, from: &str) {
    if amount.chunks > 0 {
        let _ = write!(text, ", {} {from}", Bytes(amount.bytes));
    }
}
