//! `blockprint devices` as a table, and trees in its first column.

use engine::Bytes;
use engine::devices::{Device, shown};

use super::table::Table;

const HEAD: [&str; 8] =
    ["NAME", "SIZE", "TYPE", "FILESYSTEM", "LABEL", "UUID", "IN USE", "MODEL OR FILE"];

pub(crate) fn devices(devices: &[Device]) -> String {
    if devices.is_empty() {
        return "no devices".to_string();
    }
    let mut table = Table::new(HEAD, &["SIZE"]);
    for device in devices {
        add(&mut table, device, "", "");
    }
    table.lines()
}

/// A row for the device behind `branch`, and rows for what lies on it, each behind `trunk` and a branch.
fn add(table: &mut Table<8>, device: &Device, branch: &str, trunk: &str) {
    let found = &device.filesystem;
    let of_text = |text: &Option<String>| text.as_deref().map(shown).unwrap_or_default();
    let is_part = device.partition.is_some();
    let thing = match &device.backing_file {
        Some(file) => shown(&file.to_string_lossy()),
        None if is_part => String::new(),
        None => of_text(&device.model),
    };
    table.row([
        format!("{branch}{}", shown(&device.name)),
        Bytes(device.size_bytes).to_string(),
        kind(device),
        filesystem(device),
        of_text(&found.label),
        of_text(&found.uuid),
        device.held_by.iter().map(|sentence| shown(sentence)).collect::<Vec<_>>().join(", "),
        thing,
    ]);
    let last = device.children.len().saturating_sub(1);
    for (at, child) in device.children.iter().enumerate() {
        let (fork, stem) = if at == last { ("└─", "  ") } else { ("├─", "│ ") };
        add(table, child, &format!("{trunk}{fork}"), &format!("{trunk}{stem}"));
    }
}

fn kind(device: &Device) -> String {
    let mut word = device.kind.name().to_string();
    // That of a partition is its disk's, and stands there.
    if device.is_removable && device.partition.is_none() {
        word += ", removable";
    }
    if device.is_read_only {
        word += ", read-only";
    }
    word
}

fn filesystem(device: &Device) -> String {
    let found = &device.filesystem;
    match (&found.kind, &found.table) {
        (Some(kind), _) => shown(kind),
        (None, Some(table)) if device.has_unread_table() => {
            format!("{} table (not read by the kernel)", shown(table))
        }
        (None, Some(table)) => format!("{} table", shown(table)),
        (None, None) if device.problem.is_some() => "?".to_string(),
        (None, None) => String::new(),
    }
}
