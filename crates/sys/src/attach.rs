//! A part of a disk as a block device of its own: a loop device that is gone when nobody has it open any more.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use image::{Error, Result};

use crate::Access;
use crate::ioctl::{self, LoopSetup};

/// A part of an open disk or file, as a block device. The kernel detaches it when this is dropped, also by the end of the
/// process, and nobody else has it open any more.
#[derive(Debug)]
pub struct AttachedPart {
    path: PathBuf,
    _device: File,
}

impl AttachedPart {
    /// Attaches `range` of `below`, called `name`, to a free loop device with logical sectors of `sector_bytes`. Where that is
    /// possible, it goes past the page cache of what is below. For writing, `below` must be open for writing.
    ///
    /// # Errors
    ///
    /// `Denied` without the right; `NotFound` where the kernel has no loop devices; `Invalid` if `range` is empty or not made of
    /// whole sectors.
    pub fn attach(
        below: BorrowedFd<'_>,
        name: &str,
        range: &Range<u64>,
        sector_bytes: u32,
        access: Access,
    ) -> Result<Self> {
        let sector = u64::from(sector_bytes);
        let fits = range.start.is_multiple_of(sector) && range.end.is_multiple_of(sector);
        let setup = LoopSetup {
            offset: range.start,
            size_limit: range.end.saturating_sub(range.start),
            sector_bytes,
            access,
        };
        let attached = match fits && !range.is_empty() {
            true => attach(below, &setup),
            false => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not made of whole sectors"))
            }
        };
        attached.map_err(|cause| {
            let sentence = format!(
                "cannot make a block device of the bytes {} to {} of {name}",
                range.start, range.end
            );
            Error::io(sentence, cause).at(name, Some(range.clone()))
        })
    }

    /// Its node: `/dev/loop3`.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Has the kernel read the partition table of `disk`, called `name`, again, so that it has a node for each partition.
///
/// # Errors
///
/// `InUse` while a partition is in use; `Invalid` where the kernel does not look for partitions, as on most loop devices.
pub fn reread_partitions(disk: BorrowedFd<'_>, name: &str) -> Result<()> {
    ioctl::reread_partitions(disk).map_err(|cause| {
        Error::io(format!("the kernel cannot read the partitions of {name} again"), cause)
            .at(name, None)
    })
}

fn attach(below: BorrowedFd<'_>, setup: &LoopSetup) -> io::Result<AttachedPart> {
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
    let mut tries_left = 100;
    loop {
        let number = ioctl::free_loop_device(control.as_fd())?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let configured = OpenOptions::new()
            .read(true)
            .write(setup.access == Access::Write)
            .open(&path)
            .and_then(|device| {
                ioctl::configure_loop(device.as_fd(), below, setup).map(|()| device)
            });
        match configured {
            Ok(device) => return Ok(AttachedPart { path, _device: device }),
            // Somebody else was faster, or the node of a new device is not there yet.
            Err(cause) if tries_left > 0 && is_passing(&cause) => {
                tries_left -= 1;
                thread::sleep(Duration::from_millis(20));
            }
            Err(cause) => return Err(cause),
        }
    }
}

fn is_passing(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::NotFound)
        || cause.raw_os_error() == Some(libc::ENXIO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DeviceMedium;
    use image::{ErrorKind, Medium};
    use std::fs;
    use std::os::unix::fs::FileExt;
    use testkit::host::{LoopDevice, LoopOptions, Needs, loop_devices, require};

    /// A file of 1 MiB whose bytes say where they are.
    fn numbered(path: &Path) -> File {
        let bytes: Vec<u8> = (0..1u32 << 18).flat_map(u32::to_le_bytes).collect();
        fs::write(path, bytes).unwrap();
        OpenOptions::new().read(true).write(true).open(path).unwrap()
    }

    #[test]
    fn a_part_is_a_device_with_its_bytes_and_gone_with_its_guard() {
        let Some(scratch) = require(&Needs::root()) else { return };
        let path = scratch.join("disk");
        let file = numbered(&path);
        for sector_bytes in [512, 4096] {
            let part = AttachedPart::attach(
                file.as_fd(),
                "disk",
                &(8192..65536),
                sector_bytes,
                Access::Write,
            );
            let part = part.unwrap();
            let device = DeviceMedium::open(part.path(), Access::Write).unwrap();
            assert_eq!(device.len().unwrap(), 65536 - 8192);
            assert_eq!(device.logical_sector_bytes(), sector_bytes);
            let mut word = [0; 4];
            device.read_at(&mut word, 4).unwrap();
            assert_eq!(u32::from_le_bytes(word), (8192 + 4) / 4);
            device.write_at(&[sector_bytes as u8; 4096], 4096).unwrap();
            device.sync().unwrap();
            file.read_exact_at(&mut word, 8192 + 4096).unwrap();
            assert_eq!(word, [sector_bytes as u8; 4]);
            drop((device, part));
            // A program that was just being started may have it open for a moment.
            let is_there = || loop_devices().iter().any(|attached| attached.backing == path);
            let gone = (0..200).any(|_| {
                thread::sleep(Duration::from_millis(10));
                !is_there()
            });
            assert!(gone, "it is still attached");
        }
    }

    #[test]
    fn a_part_of_a_claimed_disk_can_be_attached_and_claimed() {
        let Some(scratch) = require(&Needs::root()) else { return };
        drop(numbered(&scratch.join("disk")));
        let disk = LoopDevice::attach(&scratch.join("disk"), &LoopOptions::default());
        let claimed = DeviceMedium::open(disk.path(), Access::Write).unwrap();
        let part = AttachedPart::attach(claimed.as_fd(), "disk", &(4096..8192), 512, Access::Write)
            .unwrap();
        let inner = DeviceMedium::open(part.path(), Access::Write).unwrap();
        inner.write_at(b"through", 0).unwrap();
        inner.sync().unwrap();
        let mut found = [0; 7];
        claimed.read_at(&mut found, 4096).unwrap();
        assert_eq!(&found, b"through");
    }

    #[test]
    fn a_part_for_reading_cannot_be_written() {
        let Some(scratch) = require(&Needs::root()) else { return };
        let file = numbered(&scratch.join("disk"));
        let part =
            AttachedPart::attach(file.as_fd(), "disk", &(0..4096), 512, Access::Read).unwrap();
        let error = DeviceMedium::open(part.path(), Access::Write).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
    }

    #[test]
    fn a_part_that_is_not_made_of_sectors_is_refused() {
        let Some(scratch) = require(&Needs::root()) else { return };
        let file = numbered(&scratch.join("disk"));
        for range in [0..100, 100..612, 512..512] {
            let error = AttachedPart::attach(file.as_fd(), "disk", &range, 512, Access::Read);
            assert_eq!(error.unwrap_err().kind(), ErrorKind::Invalid);
        }
    }
}
