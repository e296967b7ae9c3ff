//! Loop devices: the kernel's list of them, and a guard that detaches.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::{release, run, tool, try_run};

/// How a file is attached.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoopOptions {
    /// Where in the file the device begins.
    pub offset_bytes: u64,
    /// How much of the file it shows; all of the rest where this is zero.
    pub size_bytes: u64,
    /// Bypass the page cache of the filesystem below, where that is possible.
    pub direct_io: bool,
    /// Refuse writes.
    pub read_only: bool,
    /// Logical sectors of this size; the kernel's choice where this is zero.
    pub sector_bytes: u32,
    /// Make devices of the partitions on it.
    pub partitions: bool,
}

/// One attached loop device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The device: `/dev/loop3`.
    pub device: PathBuf,
    /// The file below, as the kernel shows it, without its mark for a deleted one.
    pub backing: PathBuf,
}

/// What is attached now.
pub fn loop_devices() -> Vec<Attached> {
    let Ok(entries) = fs::read_dir("/sys/block") else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut devices: Vec<Attached> =
        names.filter(|name| name.starts_with("loop")).filter_map(|name| attached(&name)).collect();
    devices.sort_by(|a, b| a.device.cmp(&b.device));
    devices
}

/// A file attached as a block device; detached when dropped, along with all that is mounted from it.
#[derive(Debug)]
pub struct LoopDevice {
    attached: Attached,
}

impl LoopDevice {
    /// Attaches the file at `path` to the first free loop device.
    #[track_caller]
    pub fn attach(path: &Path, options: &LoopOptions) -> Self {
        let direct = options.direct_io.then(|| losetup(path, options, true));
        let device = match direct {
            Some(Ok(device)) => device,
            // Not every filesystem lets a loop device bypass its page cache.
            _ => losetup(path, options, false).unwrap_or_else(|sentence| panic!("{sentence}")),
        };
        let name = device.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let attached = attached(&name)
            .unwrap_or_else(|| panic!("{} is not attached after losetup", device.display()));
        let guard = LoopDevice { attached };
        if options.partitions {
            run(tool("partx").arg("--update").arg(&device));
        }
        guard
    }

    /// The device: `/dev/loop3`.
    pub fn path(&self) -> &Path {
        &self.attached.device
    }

    /// The device of partition `number`, counted from 1: `/dev/loop3p2`.
    pub fn partition(&self, number: u32) -> PathBuf {
        PathBuf::from(format!("{}p{number}", self.attached.device.display()))
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        release::device(&self.attached);
    }
}

/// Tests race for free devices, and the node of a new one appears a moment after it: try again for a while.
fn losetup(path: &Path, options: &LoopOptions, direct_io: bool) -> Result<PathBuf, String> {
    let mut tries_left = 40;
    loop {
        let mut command = tool("losetup");
        command.args(["--find", "--show"]);
        if options.offset_bytes > 0 {
            command.arg(format!("--offset={}", options.offset_bytes));
        }
        if options.size_bytes > 0 {
            command.arg(format!("--sizelimit={}", options.size_bytes));
        }
        if direct_io {
            command.arg("--direct-io=on");
        }
        if options.read_only {
            command.arg("--read-only");
        }
        if options.sector_bytes > 0 {
            command.arg(format!("--sector-size={}", options.sector_bytes));
        }
        match try_run(command.arg(path)) {
            Ok(output) => return Ok(PathBuf::from(output.trim())),
            Err(sentence) => {
                let lost_race = ["busy", "temporarily unavailable", "No such device"];
                let again = lost_race.iter().any(|reason| sentence.contains(reason));
                if !again || tries_left == 0 {
                    return Err(sentence);
                }
            }
        }
        tries_left -= 1;
        thread::sleep(Duration::from_millis(50));
    }
}

/// The loop device `name` as it is attached now, if it is.
pub(super) fn attached(name: &str) -> Option<Attached> {
    let backing = fs::read_to_string(format!("/sys/block/{name}/loop/backing_file")).ok()?;
    let backing = backing.trim_end_matches('\n');
    let backing = backing.strip_suffix(" (deleted)").unwrap_or(backing);
    Some(Attached { device: Path::new("/dev").join(name), backing: PathBuf::from(backing) })
}

#[cfg(test)]
mod tests {
    use super::super::{Needs, partition_image, require};
    use super::*;

    #[test]
    fn a_device_shows_the_part_it_was_asked_for() {
        let Some(scratch) = require(&Needs::root().tools(&["losetup", "blockdev"])) else {
            return;
        };
        let file = scratch.join("file");
        fs::write(&file, vec![0; 1 << 20]).unwrap();
        let options = LoopOptions {
            offset_bytes: 4096,
            size_bytes: 65536,
            read_only: true,
            sector_bytes: 4096,
            direct_io: true,
            ..LoopOptions::default()
        };
        let device = LoopDevice::attach(&file, &options);
        let ask = |question: &str| run(tool("blockdev").arg(question).arg(device.path()));
        assert_eq!(ask("--getsize64").trim(), "65536");
        assert_eq!(ask("--getro").trim(), "1");
        assert_eq!(ask("--getss").trim(), "4096");
    }

    #[test]
    fn many_devices_attached_at_once_are_all_different() {
        let Some(scratch) = require(&Needs::root().tools(&["losetup"])) else {
            return;
        };
        let files: Vec<PathBuf> = (0..12).map(|number| scratch.join(number.to_string())).collect();
        for file in &files {
            fs::write(file, vec![0; 65536]).unwrap();
        }
        let attach = |file: &PathBuf| LoopDevice::attach(file, &LoopOptions::default());
        let devices: Vec<LoopDevice> = thread::scope(|scope| {
            let workers: Vec<_> =
                files.iter().map(|file| scope.spawn(move || attach(file))).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).collect()
        });
        for (device, file) in devices.iter().zip(&files) {
            assert_eq!(&device.attached.backing, file);
        }
        drop(devices);
        let below = |attached: &Attached| attached.backing.starts_with(scratch.path());
        assert!(!loop_devices().iter().any(below));
    }

    #[test]
    fn partitions_come_and_go_with_their_device() {
        let Some(scratch) = require(&Needs::root().tools(&["sfdisk", "partx"])) else {
            return;
        };
        let disk = scratch.join("disk.img");
        partition_image(&disk, 64 << 20, "label: gpt\nsize=16MiB\nsize=32MiB\n");
        let options = LoopOptions { partitions: true, ..LoopOptions::default() };
        let device = LoopDevice::attach(&disk, &options);
        let second = device.partition(2);
        assert_eq!(run(tool("blockdev").arg("--getsize64").arg(&second)).trim(), "33554432");
        let sysfs =
            second.file_name().map(|name| Path::new("/sys/class/block").join(name)).unwrap();
        drop(device);
        assert!(!sysfs.exists(), "{} is still there", second.display());
    }
}
