//! Mounted filesystems: the kernel's list of them, a guard that unmounts, and thawing.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::{TempDir, release, run, tool, try_run};

/// One line of the kernel's list of mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// The folder it is mounted on.
    pub point: PathBuf,
    /// What is mounted: a device, or a name that the kind of filesystem chose.
    pub source: PathBuf,
    /// The kind of filesystem.
    pub kind: String,
}

/// What is mounted in this process's namespace, in the order of mounting.
pub fn mounts() -> Vec<MountEntry> {
    parse(&fs::read("/proc/self/mountinfo").unwrap_or_default())
}

/// A mounted filesystem, unmounted when dropped: thawed first, and along with all that stands on it.
#[derive(Debug)]
pub struct Mount {
    point: PathBuf,
    _folder: Option<TempDir>,
}

impl Mount {
    /// Mounts `device` on a folder of its own, with `options` as `mount -o` takes them, or none.
    #[track_caller]
    pub fn new(device: &Path, options: &str) -> Self {
        let folder = TempDir::new("mount");
        let point = folder.path().to_path_buf();
        mount(device, &point, options);
        Mount { point, _folder: Some(folder) }
    }

    /// Mounts `device` on `point`, an existing folder.
    #[track_caller]
    pub fn at(device: &Path, point: &Path, options: &str) -> Self {
        mount(device, point, options);
        Mount { point: point.to_path_buf(), _folder: None }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.point
    }

    /// Freezes it. Whoever freezes should thaw; the guard does if not.
    #[track_caller]
    pub fn freeze(&self) {
        run(tool("fsfreeze").arg("--freeze").arg(&self.point));
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        release::mount(&self.point);
    }
}

/// Thaws the filesystem mounted on `point`. True if it was frozen; where nothing is mounted, false.
pub fn thaw(point: &Path) -> bool {
    let mounted = mounts().iter().any(|entry| entry.point == point);
    mounted && try_run(tool("fsfreeze").arg("--unfreeze").arg(point)).is_ok()
}

#[track_caller]
fn mount(device: &Path, point: &Path, options: &str) {
    let mut command = tool("mount");
    if !options.is_empty() {
        command.args(["-o", options]);
    }
    run(command.arg(device).arg(point));
}

/// See proc_pid_mountinfo(5): the fields after the mount options vary in number and end with a dash.
fn parse(table: &[u8]) -> Vec<MountEntry> {
    let entry = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ');
        let point = path(fields.nth(4)?);
        let mut tail = fields.skip_while(|field| *field != b"-").skip(1);
        let kind = String::from_utf8_lossy(tail.next()?).into_owned();
        Some(MountEntry { point, kind, source: path(tail.next()?) })
    };
    table.split(|byte| *byte == b'\n').filter_map(entry).collect()
}

/// The kernel writes blanks, line ends and backslashes as a backslash and three octal digits.
fn path(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let escaped = tail.get(..3).filter(|_| *first == b'\\');
        let code = escaped.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::super::{LoopDevice, LoopOptions, Needs, loop_devices, make_image, require};
    use super::*;

    #[test]
    fn the_kernels_list_is_understood() {
        let table = b"36 35 98:0 /mnt1 /mnt/a\\040b rw,noatime master:1 - ext3 /dev/root rw\n\
                      37 35 0:5 / /proc rw - proc proc rw\n";
        let entry = |point: &str, source: &str, kind: &str| MountEntry {
            point: point.into(),
            source: source.into(),
            kind: kind.into(),
        };
        let expected = [entry("/mnt/a b", "/dev/root", "ext3"), entry("/proc", "proc", "proc")];
        assert_eq!(parse(table), expected);
    }

    #[test]
    fn a_frozen_mount_goes_with_its_guard() {
        let needs = Needs::root().filesystems(&["ext4"]);
        let Some(scratch) = require(&needs) else {
            return;
        };
        let image = scratch.join("frozen.img");
        make_image("ext4", &image, 16 << 20);
        let device = LoopDevice::attach(&image, &LoopOptions::default());
        let mount = Mount::new(device.path(), "");
        let point = mount.path().to_path_buf();
        mount.freeze();
        drop(mount);
        assert!(!mounts().iter().any(|entry| entry.point == point));
        drop(device);
        assert!(!loop_devices().iter().any(|attached| attached.backing == image));
    }

    #[test]
    fn a_device_dropped_before_its_mount_takes_it_along() {
        let needs = Needs::root().filesystems(&["ext4"]);
        let Some(scratch) = require(&needs) else {
            return;
        };
        let image = scratch.join("order.img");
        make_image("ext4", &image, 16 << 20);
        let device = LoopDevice::attach(&image, &LoopOptions::default());
        let mount = Mount::new(device.path(), "");
        let second = Mount::new(device.path(), "");
        mount.freeze();
        drop(device);
        assert!(!loop_devices().iter().any(|attached| attached.backing == image));
        drop(mount);
        drop(second);
    }
}
