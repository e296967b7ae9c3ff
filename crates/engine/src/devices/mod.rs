//! Disks and partitions of this machine: what is on them, and what holds them. Right also without udev.

use std::path::{Path, PathBuf};

use filesystems::Filesystem;
use image::Result;

/// A disk, a partition, or what is built on one (crypt, LVM, RAID).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Kernel name, or `mapper/<name>`: its node is `/dev/` and this.
    pub name: String,
    /// Its node.
    pub path: PathBuf,
    /// What it is.
    pub kind: DeviceKind,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Smallest addressable unit in bytes.
    pub sector_bytes: u32,
    /// The maker's name of a disk, if it has one.
    pub model: Option<String>,
    /// The disk's serial number.
    pub serial: Option<String>,
    /// Whether the kernel refuses to write to it.
    pub is_read_only: bool,
    /// Whether it can be taken out.
    pub is_removable: bool,
    /// For a partition, its number and where it begins on its disk, in bytes.
    pub partition: Option<(u32, u64)>,
    /// For a loop device, its file.
    pub backing_file: Option<PathBuf>,
    /// What is on it.
    pub filesystem: Filesystem,
    /// In use: mounted, swapped to, or held by another device; this is said in a sentence that names where.
    pub held_by: Vec<String>,
    /// Where it is mounted in our namespace, newest first; `[SWAP]` for swap.
    pub mount_points: Vec<PathBuf>,
    /// What lies on it: partitions, and what is built on them. Each device is listed once in all.
    pub children: Vec<Device>,
}

/// What sort of device it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// A whole disk.
    Disk,
    /// A partition.
    Partition,
    /// A loop device.
    Loop,
    /// Device-mapper: crypt, LVM, multipath.
    Mapper,
    /// Software RAID.
    Raid,
    /// Compressed memory.
    Zram,
    /// A CD or DVD.
    Optical,
}

/// All devices of a size above 0, disks with what lies on them; loop devices and RAM disks with nothing in them are left out.
///
/// # Errors
///
/// Those of /sys. A device that vanishes or cannot be probed is listed with what is known.
pub fn list() -> Result<Vec<Device>> {
    todo!()
}

/// The one at `path`, links followed, with what lies on it.
///
/// # Errors
///
/// `NotFound`; `Invalid` if it is no block device.
pub fn look(_path: &Path) -> Result<Device> {
    todo!()
}

impl Device {
    /// It, and all that lies on it, depth first.
    pub fn all(&self) -> Vec<&Device> {
        let mut all = vec![self];
        all.extend(self.children.iter().flat_map(Device::all));
        all
    }

    /// Whether it, or anything on it, is in use.
    pub fn is_in_use(&self) -> bool {
        self.all().iter().any(|device| !device.held_by.is_empty())
    }
}
