//! What is mounted where, in all mount namespaces that /proc shows.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags};

use crate::{BlockDevice, DeviceNumber, ioctl};

/// The mounts of this system.
#[derive(Clone, Debug, Default)]
pub struct MountTable {
    entries: Vec<MountEntry>,
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// Number of the mount, unique on the system while it lasts.
    pub id: u64,
    /// The filesystem's device number: one for each filesystem, however often it is mounted.
    pub filesystem_number: DeviceNumber,
    /// Where it is mounted, as its namespace sees it.
    pub mount_point: PathBuf,
    /// `ext4`, `xfs`, …
    pub filesystem: String,
    /// What was mounted, usually a device node, as its namespace saw it.
    pub source: PathBuf,
    /// Whose view this is.
    pub namespace: Namespace,
}

/// A mount namespace, by a process that lives in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// That of this process.
    Own,
    /// That of the process with this number.
    Of(u32),
}

/// Filesystems that nothing can write to: they cannot be frozen, and need not be.
const NEVER_WRITTEN: &[&str] = &["squashfs", "erofs", "iso9660", "cramfs", "romfs"];

impl MountTable {
    /// Reads the mounts of this process's namespace and of each other one that can be seen.
    ///
    /// What vanishes while it is read is left out.
    pub fn read() -> io::Result<Self> {
        let own = fs::read("/proc/self/mountinfo")?;
        let mut entries = parse(&own, Namespace::Own);
        let mut known: BTreeSet<u64> = entries.iter().map(|entry| entry.id).collect();
        let mut seen: BTreeSet<(PathBuf, PathBuf)> = view("self").into_iter().collect();
        for pid in processes() {
            let Some(view) = view(&pid.to_string()) else { continue };
            if seen.insert(view)
                && let Ok(text) = fs::read(format!("/proc/{pid}/mountinfo"))
            {
                let more = parse(&text, Namespace::Of(pid));
                entries.extend(more.into_iter().filter(|entry| known.insert(entry.id)));
            }
        }
        Ok(MountTable { entries })
    }

    /// The device number of the filesystem that an open file or directory lies in: that of the filesystem, also
    /// where stat tells another one for each subvolume.
    pub fn filesystem_of(&self, file: impl AsFd) -> io::Result<DeviceNumber> {
        let wanted = StatxFlags::MNT_ID | StatxFlags::BASIC_STATS;
        let status = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, wanted)?;
        let known = status.stx_mask & StatxFlags::MNT_ID.bits() != 0;
        let entry = self.entries.iter().find(|entry| known && entry.id == status.stx_mnt_id);
        let own = DeviceNumber { major: status.stx_dev_major, minor: status.stx_dev_minor };
        Ok(entry.map_or(own, |entry| entry.filesystem_number))
    }

    /// The file that the filesystem with this number stands on, if that is through a loop device.
    pub fn backing_file_of(&self, filesystem: DeviceNumber) -> Option<PathBuf> {
        let entry = self.entries.iter().find(|entry| entry.filesystem_number == filesystem)?;
        let number = match filesystem.major {
            0 => DeviceNumber::of_node(&entry.source)?,
            _ => filesystem,
        };
        BlockDevice::from_number(number)?.foundation_file()
    }

    /// The mounts of filesystems that lie on one of `devices`, wholly or in part.
    pub fn on_devices<'a>(&'a self, devices: &BTreeSet<BlockDevice>) -> Vec<&'a MountEntry> {
        let numbers: BTreeSet<DeviceNumber> = devices.iter().map(|device| device.number).collect();
        let btrfs = btrfs_on(&numbers);
        self.entries
            .iter()
            .filter(|entry| {
                numbers.contains(&entry.filesystem_number)
                    || (entry.filesystem_number.major == 0
                        && (entry.is_from(&numbers) || entry.is_btrfs_of(&btrfs)))
            })
            .collect()
    }
}

impl MountEntry {
    /// The mount point as this process can reach it.
    pub fn reachable_path(&self) -> PathBuf {
        match self.namespace {
            Namespace::Own => self.mount_point.clone(),
            Namespace::Of(pid) => in_root_of(pid, &self.mount_point),
        }
    }

    /// Whether the filesystem could ever be written to, also if it is mounted read-only now.
    pub fn can_change(&self) -> bool {
        !NEVER_WRITTEN.contains(&self.filesystem.as_str())
    }

    /// Opens the root of the mount: a directory, or, where a single file is mounted, that file.
    ///
    /// # Errors
    ///
    /// `NotFound` also where the path now leads into another mount, because something was mounted over it.
    pub fn open(&self) -> io::Result<File> {
        // Only looked at first: opening could do or wait for something if it is a device or a pipe.
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let place = rustix::fs::openat(CWD, self.reachable_path(), flags, Mode::empty())?;
        let wanted = StatxFlags::MNT_ID | StatxFlags::TYPE;
        let status = rustix::fs::statx(&place, "", AtFlags::EMPTY_PATH, wanted)?;
        let known = status.stx_mask & StatxFlags::MNT_ID.bits() != 0;
        if known && status.stx_mnt_id != self.id {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "something else is mounted over it",
            ));
        }
        let kind = FileType::from_raw_mode(status.stx_mode.into());
        if !matches!(kind, FileType::Directory | FileType::RegularFile) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a special file"));
        }
        let by_number = format!("/proc/self/fd/{}", place.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(CWD, by_number, flags, Mode::empty())?.into())
    }

    /// Whether what was mounted is a node of one of the devices.
    fn is_from(&self, numbers: &BTreeSet<DeviceNumber>) -> bool {
        let source = match self.namespace {
            Namespace::Own => self.source.clone(),
            Namespace::Of(pid) => in_root_of(pid, &self.source),
        };
        self.source.is_absolute()
            && DeviceNumber::of_node(&source).is_some_and(|number| numbers.contains(&number))
    }

    fn is_btrfs_of(&self, identifiers: &BTreeSet<String>) -> bool {
        if self.filesystem != "btrfs" || identifiers.is_empty() {
            return false;
        }
        let fsid = self.open().and_then(|root| ioctl::btrfs_fsid(root.as_fd()));
        fsid.is_ok_and(|fsid| identifiers.contains(&uuid(&fsid)))
    }
}

fn in_root_of(pid: u32, path: &Path) -> PathBuf {
    let mut reachable = OsString::from(format!("/proc/{pid}/root"));
    reachable.push(path);
    reachable.into()
}

/// What decides which mounts a process sees: its mount namespace, and its root within it.
fn view(process: &str) -> Option<(PathBuf, PathBuf)> {
    let link = |name: &str| fs::read_link(format!("/proc/{process}/{name}")).ok();
    Some((link("ns/mnt")?, link("root")?))
}

fn processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

impl BlockDevice {
    /// Whether a Btrfs that is in use has it as one of its devices.
    pub(crate) fn is_in_btrfs(&self) -> bool {
        !btrfs_on(&BTreeSet::from([self.number])).is_empty()
    }
}

/// The identifiers of the Btrfs filesystems that use one of the devices.
fn btrfs_on(numbers: &BTreeSet<DeviceNumber>) -> BTreeSet<String> {
    let uses = |filesystem: &Path| {
        let members = fs::read_dir(filesystem.join("devices")).into_iter().flatten().flatten();
        members
            .filter_map(|member| fs::read_to_string(member.path().join("dev")).ok())
            .filter_map(|text| DeviceNumber::parse(&text))
            .any(|number| numbers.contains(&number))
    };
    fs::read_dir("/sys/fs/btrfs")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| uses(&entry.path()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn uuid(bytes: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (number, byte) in bytes.iter().enumerate() {
        if matches!(number, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// Reads the lines of a mountinfo file (proc(5)); a line that cannot be read is left out.
fn parse(text: &[u8], namespace: Namespace) -> Vec<MountEntry> {
    text.split(|&byte| byte == b'\n').filter_map(|line| parse_line(line, namespace)).collect()
}

/// `36 35 98:0 /root /mount/point options [tag[:value] …] - type source super-options`
fn parse_line(line: &[u8], namespace: Namespace) -> Option<MountEntry> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let filesystem_number = DeviceNumber::parse(std::str::from_utf8(fields.nth(1)?).ok()?)?;
    let mount_point = unescape(fields.nth(1)?);
    let mut behind = fields.skip_while(|field| *field != b"-").skip(1);
    let filesystem = String::from_utf8_lossy(behind.next()?).into_owned();
    let source = unescape(behind.next()?);
    Some(MountEntry { id, filesystem_number, mount_point, filesystem, source, namespace })
}

/// Undoes the kernel's `\040` for space, tab, newline and backslash.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let code = rest.get(1..4).filter(|digits| first == b'\\' && is_octal_byte(digits));
        match code {
            Some(digits) => {
                bytes.push(digits.iter().fold(0u8, |byte, digit| byte << 3 | (digit - b'0')));
                rest = &rest[4..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// Whether three digits stand for one byte.
fn is_octal_byte(digits: &[u8]) -> bool {
    matches!(digits, [b'0'..=b'3', b'0'..=b'7', b'0'..=b'7'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_with_escapes_and_optional_fields_is_read() {
        let line =
            b"36 35 7:3 / /mnt/a\\040b\\134c rw,noatime shared:1 master:2 - ext4 /dev/loop3 rw";
        let entry = parse_line(line, Namespace::Own).unwrap();
        assert_eq!(entry.id, 36);
        assert_eq!(entry.filesystem_number, DeviceNumber { major: 7, minor: 3 });
        assert_eq!(entry.mount_point, Path::new("/mnt/a b\\c"));
        assert_eq!(
            (entry.filesystem.as_str(), entry.source.as_path()),
            ("ext4", Path::new("/dev/loop3"))
        );
    }

    #[test]
    fn the_root_of_this_process_is_in_its_table() {
        let table = MountTable::read().unwrap();
        assert!(table.entries.iter().any(|entry| entry.mount_point == Path::new("/")));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(text in prop::collection::vec(any::<u8>(), 0..300)) {
            parse(&text, Namespace::Own);
        }
    }
}
