//! Which device lies on which: disks at the top, each device once.

use std::collections::BTreeSet;
use std::fs;

use image::{Error, Result};
use sys::{BlockDevice, DeviceNumber};

use super::{Device, sysfs};

/// All devices of this machine in the order of their names, disks first.
pub(super) fn of_the_machine() -> Result<Vec<Device>> {
    let entries = fs::read_dir("/sys/class/block")
        .map_err(|cause| Error::io("cannot list the devices in /sys/class/block", cause))?;
    let blocks: Vec<BlockDevice> = entries
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path().join("dev")).ok())
        .filter_map(|text| number(&text))
        .filter_map(BlockDevice::from_number)
        .filter(|block| !sysfs::is_hidden(block))
        .collect();
    let mut seen = BTreeSet::new();
    let mut devices: Vec<Device> = blocks
        .iter()
        .filter(|block| !sysfs::stands_on_others(block))
        .map(|block| with_children(block, &mut seen))
        .collect();
    // What stands on others that are not seen.
    for block in &blocks {
        if !seen.contains(&block.number) {
            devices.push(with_children(block, &mut seen));
        }
    }
    devices.sort_by_key(|device| (device.kind, natural(&device.name)));
    Ok(devices)
}

/// One device with what lies on it.
pub(super) fn of(block: &BlockDevice) -> Device {
    with_children(block, &mut BTreeSet::new())
}

/// Partitions in the order of their numbers, then what is built on the device itself.
fn with_children(block: &BlockDevice, seen: &mut BTreeSet<DeviceNumber>) -> Device {
    seen.insert(block.number);
    let mut device = sysfs::device(block);
    let on_it = block.partitions().into_iter().chain(block.stacked());
    for child in on_it {
        if !seen.contains(&child.number) {
            device.children.push(with_children(&child, seen));
        }
    }
    device.children.sort_by(|a, b| {
        (a.kind, a.partition, natural(&a.name)).cmp(&(b.kind, b.partition, natural(&b.name)))
    });
    device
}

fn number(text: &str) -> Option<DeviceNumber> {
    let (major, minor) = text.trim().split_once(':')?;
    Some(DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

/// A name cut into texts and numbers, so that `loop9` comes before `loop10`.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| letter.is_ascii_digit()).unwrap_or(rest.len());
        let (text, tail) = rest.split_at(digits);
        let end = tail.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(tail.len());
        let (number, tail) = tail.split_at(end);
        parts.push((text.to_string(), number.parse().unwrap_or(0)));
        rest = tail;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_put_in_the_order_that_people_expect() {
        let mut names = ["loop10", "sdb1", "loop9", "sda10", "sda2", "nvme0n1p2", "nvme0n1"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["loop9", "loop10", "nvme0n1", "nvme0n1p2", "sda2", "sda10", "sdb1"]);
    }

    #[test]
    fn each_device_of_this_machine_is_listed_once() {
        let devices = of_the_machine().unwrap();
        let all: Vec<&Device> = devices.iter().flat_map(Device::all).collect();
        let names: BTreeSet<&str> = all.iter().map(|device| device.name.as_str()).collect();
        assert_eq!(all.len(), names.len());
    }
}
