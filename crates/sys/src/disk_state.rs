//! Whether a block device was written to: which disk it is, since which start of the system, and how much was written.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::{BlockDevice, DeviceNumber};

/// What the kernel knows of a disk that changes with its content.
///
/// Two equal states of one device, both read after it was flushed, say that nothing was written to the disk in between
/// through this kernel and this device: neither by way of its partitions, nor to the disk as a whole. They say nothing of
/// what lies below a device that stands on others (device-mapper, RAID) and is written there, of a table of device-mapper
/// that was exchanged, or of a disk that another machine writes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskState {
    /// Which start of the system: the counters begin anew with each.
    pub boot: [u8; 16],
    /// Which attachment of which disk, counted through all disks since the start. An unplugged disk, and a loop device
    /// that was attached anew, get another.
    pub sequence: u64,
    /// Where the device begins on the disk, in sectors of 512 bytes; 0 unless it is a partition.
    pub start_sectors: u64,
    /// Size of the device in sectors of 512 bytes.
    pub size_sectors: u64,
    /// So many sectors of 512 bytes were written, zeroed or discarded on the whole disk since it is there.
    pub changed_sectors: u64,
    /// The file of a loop device: inode, size, and when its content and its metadata changed, in nanoseconds.
    pub backing: Option<[i128; 4]>,
}

/// Which start of the system this is: random bytes that the kernel chose then.
pub fn boot_id() -> Option<[u8; 16]> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let digits: Vec<u8> = text.trim().bytes().filter(|&byte| byte != b'-').collect();
    let mut id = [0; 16];
    if digits.len() != 2 * id.len() {
        return None;
    }
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(id)
}

impl DiskState {
    /// That of a device as it is now; `None` where the kernel does not tell all of it. Flush the device before.
    pub fn read(number: DeviceNumber) -> Option<Self> {
        let device = BlockDevice::from_number(number)?;
        let start = read_number(&device.sysfs().join("start"));
        let disk = device.whole_disk()?;
        // Nothing is counted where an administrator has turned that off.
        if read_number(&disk.sysfs().join("queue/iostats"))? != 1 {
            return None;
        }
        let changed_sectors =
            changed_sectors(&fs::read_to_string(disk.sysfs().join("stat")).ok()?)?;
        let backing = match disk.loop_backing_file() {
            Some(file) => Some(times_of(&file)?),
            None => None,
        };
        Some(DiskState {
            boot: boot_id()?,
            sequence: read_number(&disk.sysfs().join("diskseq"))?,
            start_sectors: start.unwrap_or(0),
            size_sectors: read_number(&device.sysfs().join("size"))?,
            changed_sectors,
            backing,
        })
    }
}

/// Sectors that were written or discarded. The kernel's `Documentation/block/stat.rst`: the seventh field is "write sectors",
/// the fourteenth (since 4.18) "discard sectors". Requests are no help: a sector is counted before whoever waits for it is
/// woken, a request after.
fn changed_sectors(stat: &str) -> Option<u64> {
    let fields: Vec<u64> =
        stat.split_whitespace().map(|field| field.parse().ok()).collect::<Option<_>>()?;
    fields.get(6)?.checked_add(*fields.get(13)?)
}

/// A file that is gone, or whose name now stands for another, has none that could be trusted.
fn times_of(file: &Path) -> Option<[i128; 4]> {
    let metadata = fs::metadata(file).ok()?;
    let nanoseconds =
        |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    Some([
        i128::from(metadata.ino()),
        i128::from(metadata.len()),
        nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
    ])
}

fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_and_discards_are_counted_and_reads_are_not() {
        let line = " 100 1 2000 3  400 5 6000 7 0 8 9  10 11 12000 13 14 15\n";
        assert_eq!(changed_sectors(line), Some(18000));
        let other_reads = " 999 9 9999 9  400 5 6000 7 0 8 9  10 11 12000 13 14 15\n";
        assert_eq!(changed_sectors(other_reads), changed_sectors(line));
    }

    #[test]
    fn a_kernel_that_does_not_count_discards_is_not_relied_on() {
        assert_eq!(changed_sectors(" 100 1 2000 3  400 5 6000 7 0 8 9\n"), None);
        assert_eq!(changed_sectors(""), None);
    }

    #[test]
    fn the_start_of_the_system_has_one_name() {
        let id = boot_id().expect("Linux tells it");
        assert_eq!(boot_id(), Some(id));
        assert_ne!(id, [0; 16]);
    }
}
