//! Results as lines of text for people.

mod backup;
mod backups;
mod cat;
mod devices;
mod disk;
mod extract;
mod index;
mod make;
mod restore;
mod store;
mod sync;
mod table;

use std::fmt::Write as _;
use std::time::Duration;

use engine::location::Format;
use engine::ops::clone::{ClonePlan, CloneReport, FrozenFilesystem, Method};
use engine::ops::compare::CompareReport;
use engine::ops::copy::{CopyPlan, CopyReport, TargetKind};
use engine::ops::info::{Count, InfoReport};
use engine::{Bytes, RangeSet};

pub(crate) use backup::{backup, backup_plan};
pub(crate) use backups::backups;
pub(crate) use cat::cat;
pub(crate) use devices::devices;
pub(crate) use disk::{
    disk_backup, disk_backup_plan, disk_restore, disk_restore_plan, disk_verify,
};
pub(crate) use extract::{extract, extract_plan, verify};
pub(crate) use index::{diff, index};
pub(crate) use make::make;
pub(crate) use restore::{image_verify, restore, restore_plan};
pub(crate) use store::{prune, prune_plan, store, store_copy, store_verify};
pub(crate) use sync::sync;

/// What a copy would do.
pub(crate) fn copy_plan(plan: &CopyPlan) -> String {
    let target = plan.target.display();
    let file = if plan.target_format == Format::Spgz { "container" } else { "file" };
    let what = match plan.target_kind {
        TargetKind::NewFile => format!("make the {file} {target}"),
        TargetKind::ReplacedFile if file == "container" => {
            format!("REPLACE the file {target} by a container")
        }
        TargetKind::ReplacedFile => format!("REPLACE the file {target}"),
        TargetKind::FileInPlace => format!("OVERWRITE the {file} {target} where it stands"),
        TargetKind::Device => format!("OVERWRITE the device {target}"),
    };
    let mut text = format!(
        "would {what} with {} from {}: {} to read, {} known to be zero",
        Bytes(plan.source.size_bytes),
        plan.source.path.display(),
        Bytes(plan.data_bytes),
        Bytes(plan.zero_bytes),
    );
    if plan.unspecified_bytes > 0 {
        let _ = write!(text, ", {} of no matter", Bytes(plan.unspecified_bytes));
    }
    if plan.resumed_bytes > 0 {
        let _ = write!(text, ", {} done before", Bytes(plan.resumed_bytes));
    }
    text
}

pub(crate) fn copy(report: &CopyReport) -> String {
    let mut text = format!(
        "{}: {}, {} {}, {} left sparse, {} ({}/s)",
        report.target.display(),
        Bytes(report.size_bytes),
        Bytes(report.written_bytes + report.shared_bytes),
        if report.shared_bytes > report.written_bytes { "shared" } else { "written" },
        Bytes(report.sparse_bytes),
        seconds(report.elapsed),
        Bytes(rate(report.size_bytes - report.resumed_bytes, report.elapsed)),
    );
    if report.resumed_bytes > 0 {
        let _ = write!(text, ", {} done before", Bytes(report.resumed_bytes));
    }
    if report.verified {
        text.push_str(", read back and equal");
    }
    if report.lost_end {
        text.push_str("\nthe end of the image is lost with the last block of the container");
    }
    if !report.unreadable.is_empty() {
        let _ = write!(
            text,
            "\n{} could not be read in {} and are zeroes now",
            Bytes(report.unreadable.total_bytes()),
            counted(report.unreadable.count() as u64, "range"),
        );
        if let Some(map) = &report.bad_map {
            let _ = write!(text, "; the map is {}", map.display());
        }
    }
    text
}

/// What was found, and at most `list_max` of the differing ranges.
pub(crate) fn compare(report: &CompareReport, list_max: usize) -> String {
    let (a, b) = (report.a.path.display(), report.b.path.display());
    let differences = &report.differences;
    if report.is_equal() {
        return format!(
            "equal: {}, {} compared, {} known to be zero, {}",
            Bytes(report.a.size_bytes),
            Bytes(differences.compared_bytes),
            Bytes(differences.zero_bytes),
            seconds(report.elapsed),
        );
    }
    let mut lines = Vec::new();
    if report.a.size_bytes != report.b.size_bytes {
        lines.push(format!(
            "sizes differ: {a} has {} bytes, {b} has {} bytes ({} {})",
            report.a.size_bytes,
            report.b.size_bytes,
            Bytes(report.a.size_bytes.abs_diff(report.b.size_bytes)),
            if report.a.size_bytes > report.b.size_bytes { "fewer" } else { "more" },
        ));
    }
    match differences.first {
        Some(first) if report.stopped_at_first => {
            lines.push(format!("{a} and {b} differ: first difference at offset {first}"));
        }
        Some(first) => {
            let count = differences.ranges.count() as u64;
            lines.push(format!(
                "{a} and {b} differ: first difference at offset {first}, {} in {}",
                Bytes(differences.ranges.total_bytes()),
                counted(count, "range"),
            ));
            lines.extend(list(&differences.ranges, list_max));
        }
        None => {
            let common = report.a.size_bytes.min(report.b.size_bytes);
            lines.push(format!("the first {} are equal", Bytes(common)));
        }
    }
    lines.join("\n")
}

/// What a clone would do.
pub(crate) fn clone_plan(plan: &ClonePlan) -> String {
    let mut lines: Vec<String> = plan
        .clones
        .iter()
        .map(|clone| {
            let verb = if clone.replaces { "REPLACE" } else { "make" };
            let (source, target) = (clone.source.display(), clone.target.display());
            format!("would {verb} {target} as a clone of {source}, {}", Bytes(clone.size_bytes))
        })
        .collect();
    let filesystems = plan.filesystems();
    if !filesystems.is_empty() {
        lines.push(format!("would freeze for that moment: {}", places(&filesystems)));
    }
    lines.join("\n")
}

pub(crate) fn clone(report: &CloneReport) -> String {
    let mut lines: Vec<String> = report
        .clones
        .iter()
        .map(|clone| {
            let how = match clone.method {
                Method::Reflink | Method::ReflinkCatchup { .. } => "blocks shared",
                Method::Copy => "data copied (no reflinks here)",
            };
            format!("{}: {}, {how}", clone.target.display(), Bytes(clone.size_bytes))
        })
        .collect();
    match report.frozen {
        Some(frozen) => {
            lines.push(format!("frozen for {}: {}", millis(frozen), places(&report.filesystems)));
        }
        None => lines.push("nothing had to be frozen".to_string()),
    }
    lines.join("\n")
}

pub(crate) fn info(report: &InfoReport) -> String {
    let facts = &report.facts;
    let mut rows: Vec<(&str, String)> = vec![
        ("image", facts.path.display().to_string()),
        ("format", format!("{} ({})", facts.format.name(), facts.medium.name())),
        ("size", exact(facts.size_bytes)),
        ("allocated", exact(facts.allocated_bytes)),
        ("block size", block_size(facts.block_size_bytes)),
    ];
    if let Some(sector) = facts.sector_size_bytes {
        rows.push(("sector size", Bytes(u64::from(sector)).to_string()));
    }
    rows.extend(cat::index_rows(report));
    rows.extend(cat::backup_rows(report));
    rows.push(("data", count(report.summary.data)));
    rows.push(("zero", count(report.summary.zero)));
    rows.push(("unspecified", count(report.summary.unspecified)));
    if let Some(format) = facts.looks_like {
        rows.push(("looks like", format!("{format} (taken as raw bytes here)")));
    }
    let holders = report.holders.to_string();
    rows.push(("held by", if holders.is_empty() { "nobody".to_string() } else { holders }));
    let mut lines: Vec<String> =
        rows.into_iter().map(|(name, value)| format!("{name:<12} {value}")).collect();
    if let Some(map) = &report.map {
        lines.push(format!("\n{:>16} {:>16}  kind", "offset", "length"));
        let extents = map.iter().map(|extent| {
            format!("{:>16} {:>16}  {}", extent.offset, extent.len_bytes, extent.kind.name())
        });
        lines.extend(extents);
    }
    lines.join("\n")
}

fn list(ranges: &RangeSet, most: usize) -> impl Iterator<Item = String> {
    let count = ranges.count();
    let shown: Vec<String> = ranges
        .iter()
        .take(most)
        .map(|range| format!("{:>16} {:>16}", range.start, range.end - range.start))
        .collect();
    let head = (most > 0).then(|| format!("{:>16} {:>16}", "offset", "length"));
    let tail = (count > most && most > 0).then(|| {
        format!("and {} (--list shows more)", counted((count - most) as u64, "more range"))
    });
    head.into_iter().chain(shown).chain(tail)
}

fn places(filesystems: &[FrozenFilesystem]) -> String {
    let one = |filesystem: &FrozenFilesystem| {
        format!("{} ({})", filesystem.mount_point.display(), filesystem.filesystem)
    };
    filesystems.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// That of a container is a byte less than a power of two, and would be taken for one.
fn block_size(bytes: u64) -> String {
    if bytes.is_power_of_two() { Bytes(bytes).to_string() } else { exact(bytes) }
}

fn exact(bytes: u64) -> String {
    if bytes < 1024 {
        Bytes(bytes).to_string()
    } else {
        format!("{} ({bytes} bytes)", Bytes(bytes))
    }
}

fn count(count: Count) -> String {
    format!("{} in {}", exact(count.bytes), counted(count.extents, "extent"))
}

fn counted(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn rate(bytes: u64, time: Duration) -> u64 {
    (bytes as f64 / time.as_secs_f64().max(0.001)) as u64
}
