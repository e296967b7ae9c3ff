//! Who holds a file or device: mounts, loop devices, swap, and what is built on top.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use image::{Error, Result};

use crate::{BlockDevice, DeviceNumber, LoopDevice, MountEntry, MountTable, Namespace};

/// All that holds one file or device.
#[derive(Clone, Debug, Default)]
pub struct Holders {
    /// Devices through which it is reached: loop devices, partitions, device-mapper, in order of depth.
    pub devices: Vec<HoldingDevice>,
    /// Mounts of filesystems on it.
    pub mounts: Vec<MountEntry>,
    /// Devices on it with a filesystem that is in use, but mounted nowhere in sight: unmounted with `umount -l`
    /// while files in it are open, or in a namespace that /proc does not show.
    pub unseen: Vec<PathBuf>,
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
        let mut others = LoopDevice::all();
        // A loop device may stand on another one, or on a partition of it.
        while let Some(index) = others.iter().position(|device| {
            device.is_backed_by(metadata) || family.iter().any(|below| device.is_on(below.number))
        }) {
            let attached = others.swap_remove(index);
            let kind = HoldingKind::Loop { offset: attached.offset };
            devices.push(HoldingDevice { path: attached.device.path(), kind });
            let above = attached.device.family();
            devices.extend(members(&attached.device, &above));
            family.extend(above);
        }
        // The usual case, and the one that must be quick: nobody can have it mounted.
        if family.is_empty() {
            return Ok(Holders::default());
        }
        let (mounts, unseen) = mounts_on(&family)
            .map_err(|cause| Error::io("cannot read what is mounted (/proc)", cause))?;
        Ok(Holders { devices, mounts, unseen, swaps: swaps_on(&family) })
    }

    /// Whether something would notice if the content changed: a mount, a loop device, swap, a device on top.
    pub fn is_held(&self) -> bool {
        !self.mounts.is_empty()
            || !self.unseen.is_empty()
            || !self.swaps.is_empty()
            || self.devices.iter().any(|device| device.kind != HoldingKind::Partition)
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
        parts.extend(self.unseen.iter().map(|path| {
            format!("in use by a filesystem on {} that is mounted nowhere in sight", path.display())
        }));
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

/// The mounts of filesystems on these devices, and the devices with a filesystem that is in use but not among them.
fn mounts_on(family: &BTreeSet<BlockDevice>) -> io::Result<(Vec<MountEntry>, Vec<PathBuf>)> {
    let mut tries_left = 5;
    loop {
        let table = MountTable::read()?;
        let mounts: Vec<MountEntry> = table.on_devices(family).into_iter().cloned().collect();
        let unseen = unseen_on(family, &mounts);
        // It may have been mounted after the table was read, or is on its way out.
        if unseen.is_empty() || tries_left == 0 {
            return Ok((mounts, unseen));
        }
        tries_left -= 1;
        thread::sleep(Duration::from_millis(20));
    }
}

/// Ext4, XFS and others have a folder in sysfs for each filesystem that is in use, named as its device.
fn unseen_on(family: &BTreeSet<BlockDevice>, mounts: &[MountEntry]) -> Vec<PathBuf> {
    let kinds: Vec<PathBuf> =
        fs::read_dir("/sys/fs").into_iter().flatten().flatten().map(|kind| kind.path()).collect();
    let in_use =
        |device: &BlockDevice| kinds.iter().any(|kind| kind.join(&device.kernel_name).is_dir());
    let seen =
        |device: &BlockDevice| mounts.iter().any(|entry| entry.filesystem_number == device.number);
    let mut unseen: Vec<PathBuf> = family
        .iter()
        .filter(|device| !seen(device) && in_use(device))
        .map(BlockDevice::path)
        .collect();
    if !mounts.iter().any(|entry| entry.filesystem == "btrfs") {
        unseen.extend(family.iter().filter(|device| device.is_in_btrfs()).map(BlockDevice::path));
    }
    unseen
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
