//! Loop devices: which of them stand on a given file.

use std::fs::{self, File, Metadata};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::ioctl;
use crate::{BlockDevice, DeviceNumber};

/// A loop device that is attached to something.
#[derive(Clone, Debug)]
pub struct LoopDevice {
    /// The device.
    pub device: BlockDevice,
    /// Where it begins in its file, in bytes.
    pub offset: u64,
    backing: Backing,
}

/// What is known of the file below.
#[derive(Clone, Debug)]
enum Backing {
    /// Device and inode number, as the driver tells: right also when the file was renamed or removed. For a loop
    /// device on a block device also the number of that.
    Inode { device: u64, inode: u64, block_device: Option<DeviceNumber> },
    /// The path in sysfs, where the driver could not be asked.
    Path(PathBuf),
}

impl LoopDevice {
    /// All loop devices that are attached.
    pub fn all() -> Vec<LoopDevice> {
        let Ok(entries) = fs::read_dir("/sys/block") else { return Vec::new() };
        entries
            .flatten()
            .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"loop"))
            .filter_map(|entry| LoopDevice::from_sysfs(&entry.path()))
            .collect()
    }

    /// The loop devices that are attached to the file with this metadata.
    pub fn backed_by(file: &Metadata) -> Vec<LoopDevice> {
        LoopDevice::all().into_iter().filter(|device| device.is_backed_by(file)).collect()
    }

    /// Whether it stands on that block device, rather than on a file.
    pub(crate) fn is_on(&self, number: DeviceNumber) -> bool {
        match &self.backing {
            Backing::Inode { block_device, .. } => *block_device == Some(number),
            Backing::Path(path) => DeviceNumber::of_node(path) == Some(number),
        }
    }

    fn from_sysfs(path: &Path) -> Option<LoopDevice> {
        // Only an attached device has this folder.
        let file = path.join("loop/backing_file");
        if !file.exists() {
            return None;
        }
        let number = DeviceNumber::parse(&fs::read_to_string(path.join("dev")).ok()?)?;
        let device = BlockDevice::from_number(number)?;
        let asked = File::open(device.path()).and_then(|node| ioctl::loop_status(node.as_fd()));
        match asked {
            Ok(info) => Some(LoopDevice {
                device,
                offset: info.offset,
                backing: Backing::Inode {
                    device: info.device,
                    inode: info.inode,
                    block_device: (info.rdevice != 0).then(|| DeviceNumber::from_raw(info.rdevice)),
                },
            }),
            Err(_) => {
                let backing = device.loop_backing_file()?;
                let offset = fs::read_to_string(path.join("loop/offset")).ok();
                let offset = offset.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
                Some(LoopDevice { device, offset, backing: Backing::Path(backing) })
            }
        }
    }

    pub(crate) fn is_backed_by(&self, file: &Metadata) -> bool {
        match &self.backing {
            Backing::Inode { device, inode, .. } => (*device, *inode) == (file.dev(), file.ino()),
            Backing::Path(path) => fs::metadata(path)
                .is_ok_and(|other| (other.dev(), other.ino()) == (file.dev(), file.ino())),
        }
    }
}
