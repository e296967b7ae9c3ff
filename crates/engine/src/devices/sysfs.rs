//! What the kernel tells of one block device in /sys/class/block.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use filesystems::Filesystem;
use sys::BlockDevice;

use super::{Device, DeviceKind};

/// A sector in sysfs, whatever the device's own are.
const SYSFS_SECTOR_BYTES: u64 = 512;

/// Such a device as far as /sys tells: what is on it and who holds it is not looked at.
pub(super) fn device(block: &BlockDevice) -> Device {
    let folder = folder(block);
    // A partition has no queue, model or serial number of its own.
    let disk = match folder.join("partition").exists() {
        true => folder.parent().unwrap_or(&folder).to_path_buf(),
        false => folder.clone(),
    };
    let path = block.path();
    Device {
        name: path.strip_prefix("/dev").unwrap_or(&path).to_string_lossy().into_owned(),
        path,
        kind: kind(&block.kernel_name, &folder),
        size_bytes: number(&folder.join("size")).unwrap_or(0).saturating_mul(SYSFS_SECTOR_BYTES),
        sector_bytes: sector_bytes(&disk),
        model: model(&block.kernel_name, &disk),
        serial: serial(&disk),
        is_read_only: number(&folder.join("ro")) == Some(1),
        is_removable: number(&disk.join("removable")) == Some(1),
        partition: partition(&folder),
        backing_file: backing_file(block, &folder),
        filesystem: Filesystem::default(),
        problem: None,
        last_mount_point: None,
        held_by: Vec::new(),
        mount_points: Vec::new(),
        children: Vec::new(),
    }
}

/// Its folder, with links followed, so that the parent of a partition's is that of its disk.
pub(super) fn folder(block: &BlockDevice) -> PathBuf {
    let link = Path::new("/sys/class/block").join(&block.kernel_name);
    fs::canonicalize(&link).unwrap_or(link)
}

/// The devices that it stands on: a partition's disk, the members of a RAID, what a mapper maps to.
pub(super) fn stands_on_others(block: &BlockDevice) -> bool {
    let folder = folder(block);
    folder.join("partition").exists() || has_entries(&folder.join("slaves"))
}

/// Whether it is but one of several ways to another device, which the kernel hides from everybody.
pub(super) fn is_hidden(block: &BlockDevice) -> bool {
    number(&folder(block).join("hidden")) == Some(1)
}

fn has_entries(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

fn kind(kernel_name: &str, folder: &Path) -> DeviceKind {
    if folder.join("partition").exists() {
        DeviceKind::Partition
    } else if folder.join("dm").exists() {
        DeviceKind::Mapper
    } else if folder.join("md").exists() {
        DeviceKind::Raid
    } else if is_numbered(kernel_name, "loop") {
        DeviceKind::Loop
    } else if is_numbered(kernel_name, "zram") {
        DeviceKind::Zram
    } else if is_numbered(kernel_name, "sr") {
        DeviceKind::Optical
    } else {
        DeviceKind::Disk
    }
}

fn is_numbered(name: &str, stem: &str) -> bool {
    name.strip_prefix(stem).is_some_and(|number| number.parse::<u32>().is_ok())
}

fn sector_bytes(disk: &Path) -> u32 {
    let told = number(&disk.join("queue/logical_block_size"));
    told.and_then(|bytes| u32::try_from(bytes).ok()).unwrap_or(512)
}

fn model(kernel_name: &str, disk: &Path) -> Option<String> {
    let of_card = || kernel_name.starts_with("mmcblk").then(|| text(&disk.join("device/name")))?;
    text(&disk.join("device/model")).or_else(of_card)
}

fn serial(disk: &Path) -> Option<String> {
    let file = |name: &str| text(&disk.join(name));
    file("device/serial").or_else(|| file("serial")).or_else(|| scsi_serial(disk))
}

/// The page "unit serial number" that a SCSI or SATA disk was asked for: four bytes, and the number.
fn scsi_serial(disk: &Path) -> Option<String> {
    let page = fs::read(disk.join("device/vpd_pg80")).ok()?;
    clean(&String::from_utf8_lossy(page.get(4..)?))
}

fn partition(folder: &Path) -> Option<(u32, u64)> {
    let at = number(&folder.join("partition"))?;
    let start = number(&folder.join("start"))?;
    Some((u32::try_from(at).ok()?, start.saturating_mul(SYSFS_SECTOR_BYTES)))
}

/// As the kernel writes it, but for its mark for a file that is deleted.
fn backing_file(block: &BlockDevice, folder: &Path) -> Option<PathBuf> {
    // That of a partition of a loop device is its disk's.
    if !folder.join("loop").exists() {
        return None;
    }
    let bytes = block.loop_backing_file()?.into_os_string().into_vec();
    let name = bytes.strip_suffix(b" (deleted)").unwrap_or(&bytes);
    Some(PathBuf::from(std::ffi::OsString::from_vec(name.to_vec())))
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn text(file: &Path) -> Option<String> {
    clean(&String::from_utf8_lossy(&fs::read(file).ok()?))
}

/// Without the blanks and zeroes that makers fill up with; `None` if nothing is left.
fn clean(text: &str) -> Option<String> {
    let text = text.trim_matches(|letter: char| letter.is_whitespace() || letter == '\0');
    (!text.is_empty()).then(|| text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makers_fill_up_with_is_left_out() {
        assert_eq!(clean("  SAMSUNG SSD 870 \n"), Some("SAMSUNG SSD 870".to_string()));
        assert_eq!(clean("\0\0S3Z9\0\0"), Some("S3Z9".to_string()));
        assert_eq!(clean(" \0\n"), None);
    }

    #[test]
    fn kinds_are_told_by_name_where_no_folder_tells() {
        let nowhere = Path::new("/sys/class/block/no such device");
        for (name, expected) in [
            ("sda", DeviceKind::Disk),
            ("nvme0n1", DeviceKind::Disk),
            ("loop12", DeviceKind::Loop),
            ("loopy", DeviceKind::Disk),
            ("sr0", DeviceKind::Optical),
            ("zram0", DeviceKind::Zram),
        ] {
            assert_eq!(kind(name, nowhere), expected, "{name}");
        }
    }
}
