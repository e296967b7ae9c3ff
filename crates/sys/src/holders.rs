//! Who holds a file or device: mounts, loop devices, swap, and what is built on top.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use image::{Error, Result};

use crate::{BlockDevice, DeviceNumber, LoopDevice, MountEntry, MountTable, Namespace};

/// All that holds one file or device.
#[derive(Clone, Debug, Default)]
pub struct Holders {
    /// Devices through which it is reached: loop devices, partitions, device-mapper, in order of depth.
    pub devices: Vec<HoldingDevice>,
    /// Mounts of filesystems on it.
    pub mounts: Vec<MountEntry>,
    /// Devices on it that the system swaps to.
    pub swaps: Vec<PathBuf>,
}

/// A device that stands on the file or device in question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldingDevice {
    /// Its node.
    pub path: PathBuf,
    /// How it stands there.
    pub kind: HoldingKind,
}

/// How a device stands on another or on a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldingKind {
    /// A loop device, from this offset on.
    Loop {
        /// In bytes.
        offset: u64,
    },
    /// A partition. By itself it holds nothing.
    Partition,
    /// Device-mapper, software RAID and the like.
    Stacked,
}

impl Holders {
    /// What holds the file or block device `path`, also through loop devices, partitions and device-mapper, in
    /// every mount namespace that can be seen.
    pub fn of_path(path: &Path) -> Result<Self> {
        let metadata = fs::metadata(path).map_err(|cause| {
            let name = path.display().to_string();
            Error::io(format!("cannot look at {name}"), cause).at(name, None)
        })?;
        Holders::of(&metadata)
    }

    /// The same for something that is open already.
    pub fn of(metadata: &Metadata) -> Result<Self> {
        let mut family: BTreeSet<BlockDevice> = BTreeSet::new();
        let mut devices = Vec::new();
        if metadata.file_type().is_block_device() {
            let number = DeviceNumber::from_raw(metadata.rdev());
            if let Some(device) = BlockDevice::from_number(number) {
                family = device.family();
                devices.extend(members(&device, &family));
            }
        }
        for attached in LoopDevice::backed_by(metadata) {
            let kind = HoldingKind::Loop { offset: attached.offset };
            devices.push(HoldingDevice { path: attached.device.path(), kind });
            let below = attached.device.family();
            devices.extend(members(&attached.device, &below));
            family.extend(below);
        }
        // The usual case, and the one that must be quick: nobody can have it mounted.
        if family.is_empty() {
            return Ok(Holders::default());
        }
        let table = MountTable::read()
            .map_err(|cause| Error::io("cannot read what is mounted (/proc)", cause))?;
        let mounts = table.on_devices(&family).into_iter().cloned().collect();
        Ok(Holders { devices, mounts, swaps: swaps_on(&family) })
    }

    /// Whether something would notice if the content changed: a mount, a loop device, swap, a device on top.
    pub fn is_held(&self) -> bool {
        !self.mounts.is_empty()
            || !self.swaps.is_empty()
            || self.devices.iter().any(|device| device.kind != HoldingKind::Partition)
    }

    /// The mounts, one for each filesystem (the first that was found of each).
    pub fn filesystems(&self) -> Vec<&MountEntry> {
        let mut seen = BTreeSet::new();
        self.mounts.iter().filter(|entry| seen.insert(entry.filesystem_number)).collect()
    }
}

/// For people: who holds it, in half a sentence.
impl fmt::Display for Holders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = Vec::new();
        for entry in &self.mounts {
            let place = entry.mount_point.display();
            parts.push(match entry.namespace {
                Namespace::Own => format!("mounted at {place}"),
                Namespace::Of(pid) => {
                    format!("mounted at {place} (in the namespace of process {pid})")
                }
            });
        }
        parts.extend(self.swaps.iter().map(|path| format!("used for swap ({})", path.display())));
        for device in &self.devices {
            let path = device.path.display();
            match device.kind {
                HoldingKind::Loop { .. } => parts.push(format!("attached as {path}")),
                HoldingKind::Stacked => parts.push(format!("part of {path}")),
                HoldingKind::Partition => {}
            }
        }
        f.write_str(&parts.join(", "))
    }
}

fn members(root: &BlockDevice, family: &BTreeSet<BlockDevice>) -> Vec<HoldingDevice> {
    let partitions: BTreeSet<BlockDevice> =
        family.iter().flat_map(BlockDevice::partitions).collect();
    family
        .iter()
        .filter(|device| *device != root)
        .map(|device| HoldingDevice {
            path: device.path(),
            kind: if partitions.contains(device) {
                HoldingKind::Partition
            } else {
                HoldingKind::Stacked
            },
        })
        .collect()
}

/// The swap areas on one of the devices.
fn swaps_on(family: &BTreeSet<BlockDevice>) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/swaps").unwrap_or_default();
    text.lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .map(PathBuf::from)
        .filter(|path| {
            DeviceNumber::of_node(path)
                .is_some_and(|number| family.iter().any(|device| device.number == number))
        })
        .collect()
}
