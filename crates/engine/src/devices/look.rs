//! Looks into devices, many at once: what is on each, and what holds it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use filesystems::Filesystem;
use sys::holders::{Holders, HoldingKind};
use sys::{BlockDevice, DeviceNumber, MountEntry, MountTable, Namespace};

use super::{Device, describe};

/// How many devices are looked into at once: they are waited for more than worked on.
const THREADS_MAX: usize = 16;

/// What a look into one device tells.
#[derive(Default)]
struct Looked {
    filesystem: Filesystem,
    problem: Option<String>,
    last_mount_point: Option<PathBuf>,
    held_by: Vec<String>,
    mount_points: Vec<PathBuf>,
}

/// Fills in what is on the devices and what holds them. One that is slow or cannot be read does not keep the others up.
pub(super) fn at(mut devices: Vec<Device>) -> Vec<Device> {
    let mounts = MountTable::read().unwrap_or_default();
    let paths: Vec<PathBuf> = devices
        .iter()
        .flat_map(Device::all)
        .filter(|device| device.size_bytes > 0)
        .map(|device| device.path.clone())
        .collect();
    let next = AtomicUsize::new(0);
    let found = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..THREADS_MAX.min(paths.len()) {
            scope.spawn(|| {
                while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let looked = look_into(path, &mounts);
                    let mut found = found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    found.insert(path.clone(), looked);
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    for device in &mut devices {
        fill(device, &mut found);
    }
    devices
}

fn fill(device: &mut Device, found: &mut BTreeMap<PathBuf, Looked>) {
    let looked = found.remove(&device.path).unwrap_or_default();
    device.filesystem = looked.filesystem;
    device.problem = looked.problem;
    device.last_mount_point = looked.last_mount_point;
    device.held_by = looked.held_by;
    device.mount_points = looked.mount_points;
    for child in &mut device.children {
        fill(child, found);
    }
}

fn look_into(path: &Path, mounts: &MountTable) -> Looked {
    let (filesystem, problem) = match filesystems::probe(path) {
        Ok(filesystem) => (filesystem, None),
        Err(error) => (Filesystem::default(), Some(error.full_sentence())),
    };
    let last_mount_point = match filesystem.kind.as_deref() {
        Some("ext2" | "ext3" | "ext4") => describe::last_mount_point_of_ext(path),
        _ => None,
    };
    let (held_by, mount_points) = held_by(path, mounts);
    Looked { filesystem, problem, last_mount_point, held_by, mount_points }
}

/// Who holds the device itself, and not what lies on it; and where it is mounted for us.
fn held_by(path: &Path, table: &MountTable) -> (Vec<String>, Vec<PathBuf>) {
    let Some(number) = DeviceNumber::of_node(path) else { return Default::default() };
    let Some(block) = BlockDevice::from_number(number) else { return Default::default() };
    let mut sentences = Vec::new();
    let (mut places, foreign) = split(table.on_devices(&BTreeSet::from([block.clone()])));
    sentences.extend(places.iter().map(|place| format!("mounted at {}", place.display())));
    sentences.extend(foreign);
    let Ok(holders) = Holders::of_path(path) else { return (sentences, places) };
    let is_itself = |other: &Path| DeviceNumber::of_node(other) == Some(number);
    if holders.swaps.iter().any(|swap| is_itself(swap)) {
        sentences.push("used for swap".to_string());
        places.push(PathBuf::from("[SWAP]"));
    }
    if holders.unseen.iter().any(|unseen| is_itself(unseen)) {
        let sentence = "in use by a filesystem that is mounted nowhere in sight";
        sentences.push(sentence.to_string());
    }
    for holder in &holders.devices {
        let stands_here = match holder.kind {
            HoldingKind::Partition => false,
            HoldingKind::Stacked => block.stacked().iter().any(|above| above.path() == holder.path),
            HoldingKind::Loop { .. } => loop_backing(&holder.path).is_some_and(|on| is_itself(&on)),
        };
        if stands_here {
            let word = match holder.kind {
                HoldingKind::Loop { .. } => "attached as",
                _ => "part of",
            };
            sentences.push(format!("{word} {}", holder.path.display()));
        }
    }
    (sentences, places)
}

/// Mount points of ours, newest first, and sentences on those that only others see.
fn split(mut entries: Vec<&MountEntry>) -> (Vec<PathBuf>, Vec<String>) {
    entries.reverse();
    let mut places: Vec<PathBuf> = Vec::new();
    for entry in entries.iter().filter(|entry| entry.namespace == Namespace::Own) {
        if !places.contains(&entry.mount_point) {
            places.push(entry.mount_point.clone());
        }
    }
    let mut told = BTreeSet::new();
    let mut foreign = Vec::new();
    for entry in entries {
        // A namespace begins as a copy of another: the same place is not told again for each.
        if let Namespace::Of(pid) = entry.namespace
            && !places.contains(&entry.mount_point)
            && told.insert(&entry.mount_point)
        {
            let place = entry.mount_point.display();
            foreign.push(format!("mounted at {place} (in the namespace of process {pid})"));
        }
    }
    (places, foreign)
}

fn loop_backing(path: &Path) -> Option<PathBuf> {
    BlockDevice::from_number(DeviceNumber::of_node(path)?)?.loop_backing_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u64, place: &str, namespace: Namespace) -> MountEntry {
        MountEntry {
            id,
            filesystem_number: DeviceNumber { major: 7, minor: 0 },
            mount_point: place.into(),
            filesystem: "ext4".to_string(),
            source: "/dev/loop0".into(),
            namespace,
        }
    }

    #[test]
    fn the_newest_mount_is_first_and_copies_of_a_namespace_are_not_told_again() {
        let entries = [
            entry(1, "/a", Namespace::Own),
            entry(2, "/b", Namespace::Own),
            entry(3, "/a", Namespace::Of(70)),
            entry(4, "/hidden", Namespace::Of(70)),
            entry(5, "/hidden", Namespace::Of(71)),
        ];
        let (places, foreign) = split(entries.iter().collect());
        assert_eq!(places, [Path::new("/b"), Path::new("/a")]);
        assert_eq!(foreign, ["mounted at /hidden (in the namespace of process 71)"]);
    }
}
