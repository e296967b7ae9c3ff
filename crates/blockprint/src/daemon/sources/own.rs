//! Disks as we see them ourselves, where lsblk is missing or fails.

use std::collections::BTreeSet;

use engine::Result;
use engine::devices::{self, Device};

use super::{Disk, Part};

/// All disks with something on them.
pub(super) fn list() -> Result<Vec<Disk>> {
    let devices = devices::list()?;
    Ok(devices.iter().filter(|device| !device.children.is_empty()).map(disk).collect())
}

fn disk(device: &Device) -> Disk {
    let mut disk =
        Disk { name: device.name.clone(), size_bytes: device.size_bytes, parts: Vec::new() };
    let mut seen = BTreeSet::new();
    // Partitions first, then what is built on them.
    let deeper = device.children.iter().flat_map(|child| child.all().into_iter().skip(1));
    for child in device.children.iter().chain(deeper) {
        if seen.insert(&child.name) {
            disk.parts.push(part(child));
        }
    }
    disk
}

fn part(device: &Device) -> Part {
    let in_use = device.all().into_iter().find_map(|device| device.held_by.first().cloned());
    Part {
        name: device.name.clone(),
        size_bytes: device.size_bytes,
        in_use: in_use.map(|words| format!("is in use: {words}")),
        kind: device.filesystem.kind.clone(),
        label: device.filesystem.label.clone(),
        uuid: device.filesystem.uuid.clone(),
    }
}
