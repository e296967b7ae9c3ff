//! Block devices as sysfs tells of them: names, partitions, and what is built on top of them.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A block device of this system, by its number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockDevice {
    /// Its number.
    pub number: DeviceNumber,
    /// What the kernel calls it, such as `sda1` or `dm-0`.
    pub kernel_name: String,
    sysfs: PathBuf,
}

/// Major and minor number of a device, or of the filesystem that a file lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceNumber {
    /// Major number; 0 for filesystems that are on no single device.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl DeviceNumber {
    /// From the form that stat uses.
    pub fn from_raw(raw: u64) -> Self {
        DeviceNumber { major: rustix::fs::major(raw), minor: rustix::fs::minor(raw) }
    }

    /// The number of the device node `path`, if it is one for a block device.
    pub fn of_node(path: &Path) -> Option<Self> {
        use std::os::unix::fs::FileTypeExt;
        let metadata = fs::metadata(path).ok()?;
        metadata.file_type().is_block_device().then(|| DeviceNumber::from_raw(metadata.rdev()))
    }

    /// From `MAJOR:MINOR`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.trim().split_once(':')?;
        Some(DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl BlockDevice {
    /// The device with this number, if the system has it.
    pub fn from_number(number: DeviceNumber) -> Option<Self> {
        let sysfs = fs::canonicalize(format!("/sys/dev/block/{number}")).ok()?;
        let kernel_name = sysfs.file_name()?.to_string_lossy().into_owned();
        Some(BlockDevice { number, kernel_name, sysfs })
    }

    fn from_sysfs(path: &Path) -> Option<Self> {
        let number = DeviceNumber::parse(&fs::read_to_string(path.join("dev")).ok()?)?;
        BlockDevice::from_number(number)
    }

    /// The path that people know: `/dev/mapper/NAME` for device-mapper, else `/dev/KERNELNAME`.
    pub fn path(&self) -> PathBuf {
        match fs::read_to_string(self.sysfs.join("dm/name")) {
            Ok(name) => Path::new("/dev/mapper").join(name.trim_end()),
            // In sysfs a slash within a name is written as an exclamation mark (cciss!c0d0).
            Err(_) => Path::new("/dev").join(self.kernel_name.replace('!', "/")),
        }
    }

    /// Its folder in sysfs.
    pub(crate) fn sysfs(&self) -> &Path {
        &self.sysfs
    }

    /// The disk that it is a partition of, or itself.
    pub(crate) fn whole_disk(&self) -> Option<BlockDevice> {
        match self.sysfs.join("partition").exists() {
            true => BlockDevice::from_sysfs(self.sysfs.parent()?),
            false => Some(self.clone()),
        }
    }

    /// Its partitions that the kernel knows.
    pub fn partitions(&self) -> Vec<BlockDevice> {
        let mut found: Vec<_> = children(&self.sysfs)
            .filter(|path| path.join("partition").exists())
            .filter_map(|path| BlockDevice::from_sysfs(&path))
            .collect();
        found.sort();
        found
    }

    /// The devices that are directly built on it (device-mapper, software RAID).
    pub fn stacked(&self) -> Vec<BlockDevice> {
        let mut found: Vec<_> = children(&self.sysfs.join("holders"))
            .filter_map(|path| BlockDevice::from_sysfs(&path))
            .collect();
        found.sort();
        found
    }

    /// It, its partitions, and all that is built on any of them, however deep.
    pub fn family(&self) -> BTreeSet<BlockDevice> {
        let mut family = BTreeSet::new();
        let mut open = vec![self.clone()];
        while let Some(device) = open.pop() {
            if family.insert(device.clone()) {
                open.extend(device.partitions());
                open.extend(device.stacked());
            }
        }
        family
    }

    /// The file at the bottom: that of the loop device that it is, is a partition of, or is built on.
    pub(crate) fn foundation_file(&self) -> Option<PathBuf> {
        if let Some(file) = self.loop_backing_file() {
            return Some(file);
        }
        if self.sysfs.join("partition").exists() {
            return self.whole_disk()?.foundation_file();
        }
        children(&self.sysfs.join("slaves"))
            .filter_map(|path| BlockDevice::from_sysfs(&path))
            .find_map(|device| device.foundation_file())
    }

    /// The file that its loop device is attached to, as sysfs writes it; `None` for other devices.
    pub fn loop_backing_file(&self) -> Option<PathBuf> {
        let text = fs::read_to_string(self.sysfs.join("loop/backing_file")).ok()?;
        Some(PathBuf::from(text.strip_suffix('\n').unwrap_or(&text)))
    }
}

fn children(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}
