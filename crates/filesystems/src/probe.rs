//! What stands at the beginning of a device, by blkid's own look at it: right also without udev.

use std::path::Path;

use image::Result;

/// What blkid recognises on a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filesystem {
    /// As lsblk names it: `ext4`, `vfat`, `ntfs`, `swap`, `crypto_LUKS`, …; `None` where nothing is recognised.
    pub kind: Option<String>,
    /// Its label, any text.
    pub label: Option<String>,
    /// Its UUID or serial number, as lsblk shows it.
    pub uuid: Option<String>,
    /// The kind of partition table, `gpt` or `dos`, if there is one.
    pub table: Option<String>,
    /// Size by the filesystem's own superblock in bytes, where we can read that.
    pub size_bytes: Option<u64>,
}

/// Looks at the device or file `path`, past any cache of blkid's.
///
/// # Errors
///
/// `NotFound`, `Denied`; `Unsupported` where blkid cannot be run. Two signatures that contradict each other are an answer: nothing
/// is recognised then.
pub fn probe(_path: &Path) -> Result<Filesystem> {
    todo!()
}
