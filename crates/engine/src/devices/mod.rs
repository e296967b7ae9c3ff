//! Disks and partitions of this machine: what is on them, and what holds them. Right also without udev.

mod describe;
mod look;
mod sysfs;
mod tree;

use std::path::{Path, PathBuf};

pub use describe::shown;
use filesystems::Filesystem;
use image::{Error, ErrorKind, Result};
use sys::{BlockDevice, DeviceNumber};

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
    /// The maker's name of a disk, if it has one; for a partition that of its disk.
    pub model: Option<String>,
    /// The disk's serial number; for a partition that of its disk.
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
    /// Why nothing can be said about what is on it, if that is so.
    pub problem: Option<String>,
    /// Where the filesystem was mounted last, if it keeps that (ext2, ext3 and ext4 do).
    pub last_mount_point: Option<PathBuf>,
    /// In use: mounted, swapped to, or held by another device; this is said in a sentence that names where.
    pub held_by: Vec<String>,
    /// Where it is mounted in our namespace, newest first; `[SWAP]` for swap.
    pub mount_points: Vec<PathBuf>,
    /// What lies on it: partitions, and what is built on them. Each device is listed once in all.
    pub children: Vec<Device>,
}

/// What sort of device it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    let mut devices = list_all()?;
    devices.retain(|device| {
        device.size_bytes > 0 && !(device.is_ram_disk() && device.is_blank_and_free())
    });
    Ok(devices)
}

/// All devices that the kernel has, also those with nothing in them: empty drives, free loop devices, RAM disks.
///
/// # Errors
///
/// Those of [`list`].
pub fn list_all() -> Result<Vec<Device>> {
    Ok(look::at(tree::of_the_machine()?))
}

/// The one at `path`, links followed, with what lies on it.
///
/// # Errors
///
/// `NotFound`; `Invalid` if it is no block device.
pub fn look(path: &Path) -> Result<Device> {
    let name = path.display();
    if let Err(cause) = std::fs::metadata(path) {
        let sentence = format!("cannot look at {name}");
        return Err(Error::io(sentence, cause).at(name.to_string(), None));
    }
    let invalid = |sentence: String| Error::new(ErrorKind::Invalid, sentence);
    let number = DeviceNumber::of_node(path).ok_or_else(|| {
        invalid(format!("{name} is no block device: name a disk or partition, such as /dev/sda1"))
    })?;
    let device = BlockDevice::from_number(number).ok_or_else(|| {
        let sentence = format!("the kernel has no device {number}, which the node {name} is for");
        Error::new(ErrorKind::NotFound, sentence)
    })?;
    let mut looked = look::at(vec![tree::of(&device)]);
    looked.pop().ok_or_else(|| invalid(format!("{name} cannot be looked at")))
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

    /// Whether it has a partition table with partitions in it that the kernel did not read, so that they have no nodes.
    pub fn has_unread_table(&self) -> bool {
        self.filesystem.table.is_some()
            && !self.children.iter().any(|child| child.kind == DeviceKind::Partition)
    }

    fn is_ram_disk(&self) -> bool {
        self.name.strip_prefix("ram").is_some_and(|number| number.parse::<u32>().is_ok())
    }

    fn is_blank_and_free(&self) -> bool {
        let content = &self.filesystem;
        content.kind.is_none() && content.table.is_none() && !self.is_in_use()
    }
}

impl DeviceKind {
    /// The word for it, as lsblk has it where that has one word for all of the kind.
    pub fn name(self) -> &'static str {
        match self {
            DeviceKind::Disk => "disk",
            DeviceKind::Partition => "part",
            DeviceKind::Loop => "loop",
            DeviceKind::Mapper => "mapper",
            DeviceKind::Raid => "raid",
            DeviceKind::Zram => "zram",
            DeviceKind::Optical => "rom",
        }
    }
}
