//! A device in the words of a question before it is overwritten.

use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use image::units::Bytes;

use super::{Device, DeviceKind};

impl Device {
    /// What somebody must know before it is overwritten, in one line: which disk it is of, its size, and what is on it with its
    /// label and the place where it was mounted last. Control characters are escaped.
    pub fn describe(&self) -> String {
        let mut parts = vec![self.whereabouts(), Bytes(self.size_bytes).to_string()];
        parts.push(self.content());
        let inner: Vec<&Device> = self.all().into_iter().skip(1).collect();
        parts.extend(inner.iter().map(|child| {
            let size = Bytes(child.size_bytes);
            format!("on it {}: {size}, {}", shown(&child.name), child.content())
        }));
        parts.join(", ")
    }

    fn whereabouts(&self) -> String {
        let path = shown(&self.path.display().to_string());
        let of = |what: &str| match &self.model {
            Some(model) => format!("{path} ({what} {})", shown(model)),
            None => path.clone(),
        };
        match (self.kind, self.partition, &self.backing_file) {
            (DeviceKind::Partition, Some((number, _)), _) => match &self.model {
                Some(model) => format!("{path} (partition {number} of {})", shown(model)),
                None => format!("{path} (partition {number})"),
            },
            (_, _, Some(file)) => format!("{path} (loop device on {})", shown_path(file)),
            (DeviceKind::Optical, ..) => of("disc in"),
            _ => of("disk"),
        }
    }

    fn content(&self) -> String {
        let found = &self.filesystem;
        let mut text = match (&found.kind, &found.table, &self.problem) {
            (Some(kind), ..) => shown(kind),
            (None, Some(table), _) => format!("{} partition table", shown(table)),
            (None, None, Some(problem)) => format!("content unknown ({})", shown(problem)),
            (None, None, None) => "nothing that is recognised".to_string(),
        };
        if let Some(label) = &found.label {
            text += &format!(" \"{}\"", shown(label));
        }
        if !self.mount_points.is_empty() {
            let places: Vec<String> =
                self.mount_points.iter().map(|place| shown_path(place)).collect();
            text += &format!(", mounted at {}", places.join(" and "));
        } else if let Some(place) = &self.last_mount_point {
            text += &format!(", last mounted at {}", shown_path(place));
        }
        text
    }
}

/// The field `s_last_mounted` of the superblock of ext2, ext3 and ext4: the superblock begins at 1024 and has its mark 0xEF53 at
/// 56, the field is the 64 bytes at 136, filled up with zeroes.
pub(super) fn last_mount_point_of_ext(device: &Path) -> Option<PathBuf> {
    let mut superblock = [0; 1024];
    File::open(device).ok()?.read_exact_at(&mut superblock, 1024).ok()?;
    last_mounted(&superblock)
}

fn last_mounted(superblock: &[u8; 1024]) -> Option<PathBuf> {
    if superblock[56..58] != [0x53, 0xEF] {
        return None;
    }
    let field = &superblock[136..200];
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    let bytes = field[..end].to_vec();
    (!bytes.is_empty()).then(|| PathBuf::from(std::ffi::OsString::from_vec(bytes)))
}

fn shown_path(path: &Path) -> String {
    shown(&path.to_string_lossy())
}

/// A text from a disk as people may be shown it: it cannot move the cursor, turn the direction of writing, or look like a line of
/// ours. What cannot be printed is escaped, and so is a backslash.
pub fn shown(text: &str) -> String {
    text.escape_debug().to_string().replace("\\'", "'").replace("\\\"", "\"")
}

#[cfg(test)]
mod tests {
    use filesystems::Filesystem;

    use super::*;

    fn partition() -> Device {
        Device {
            name: "sdb2".to_string(),
            path: "/dev/sdb2".into(),
            kind: DeviceKind::Partition,
            size_bytes: 3 << 30,
            sector_bytes: 512,
            model: Some("Cruzer Blade".to_string()),
            serial: None,
            is_read_only: false,
            is_removable: true,
            partition: Some((2, 1 << 20)),
            backing_file: None,
            filesystem: Filesystem {
                kind: Some("ext4".to_string()),
                label: Some("a\u{1b}[2J\\ 'b".to_string()),
                ..Filesystem::default()
            },
            problem: None,
            last_mount_point: Some("/home".into()),
            held_by: Vec::new(),
            mount_points: Vec::new(),
            children: Vec::new(),
        }
    }

    #[test]
    fn a_partition_is_told_by_its_disk_size_content_and_last_place() {
        assert_eq!(
            partition().describe(),
            "/dev/sdb2 (partition 2 of Cruzer Blade), 3 GiB, ext4 \"a\\u{1b}[2J\\\\ 'b\", last mounted at /home"
        );
    }

    #[test]
    fn a_disk_is_told_with_what_lies_on_it() {
        let mut disk = partition();
        disk.kind = DeviceKind::Disk;
        disk.path = "/dev/sdb".into();
        disk.filesystem = Filesystem { table: Some("gpt".to_string()), ..Filesystem::default() };
        disk.last_mount_point = None;
        disk.children = vec![partition()];
        let told = disk.describe();
        assert!(
            told.starts_with(
                "/dev/sdb (disk Cruzer Blade), 3 GiB, gpt partition table, on it sdb2: 3 GiB, ext4"
            ),
            "{told}"
        );
    }

    #[test]
    fn a_superblock_without_the_mark_tells_no_place() {
        let mut superblock = [0; 1024];
        superblock[136..141].copy_from_slice(b"/home");
        assert_eq!(last_mounted(&superblock), None);
        superblock[56..58].copy_from_slice(&[0x53, 0xEF]);
        assert_eq!(last_mounted(&superblock), Some(PathBuf::from("/home")));
        superblock[136..200].fill(b'x');
        assert_eq!(last_mounted(&superblock).map(|path| path.as_os_str().len()), Some(64));
    }
}
