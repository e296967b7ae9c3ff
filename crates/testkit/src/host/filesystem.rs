//! Real filesystems in files: made, attached, mounted, and gone again with their guard.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::{LoopDevice, LoopOptions, Mount, TempDir, run, tool};

/// A filesystem mounted from an image file through a loop device; all of it goes when dropped.
#[derive(Debug)]
pub struct Filesystem {
    mount: Mount,
    device: LoopDevice,
    image: PathBuf,
    _scratch: Option<TempDir>,
}

impl Filesystem {
    /// A new XFS with reflinks, at least 300 MiB large, on an image of its own.
    #[track_caller]
    pub fn xfs(size_bytes: u64) -> Self {
        Filesystem::make("xfs", size_bytes)
    }

    /// A new Btrfs, at least 128 MiB large, on an image of its own.
    #[track_caller]
    pub fn btrfs(size_bytes: u64) -> Self {
        Filesystem::make("btrfs", size_bytes)
    }

    /// A new ext4 on an image of its own.
    #[track_caller]
    pub fn ext4(size_bytes: u64) -> Self {
        Filesystem::make("ext4", size_bytes)
    }

    /// Mounts the filesystem in an existing image file.
    #[track_caller]
    pub fn mount(image: &Path) -> Self {
        Filesystem::mount_with(image, &LoopOptions::default(), "")
    }

    /// Mounts the filesystem in an existing image file for reading only; nothing is written to the image.
    #[track_caller]
    pub fn mount_read_only(image: &Path) -> Self {
        let options = LoopOptions { read_only: true, ..LoopOptions::default() };
        Filesystem::mount_with(image, &options, "ro")
    }

    /// Mounts the filesystem in an existing image file, attached and mounted with these options.
    #[track_caller]
    pub fn mount_with(image: &Path, options: &LoopOptions, mount_options: &str) -> Self {
        let device = LoopDevice::attach(image, options);
        let mount = Mount::new(device.path(), mount_options);
        Filesystem { mount, device, image: image.to_path_buf(), _scratch: None }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.mount.path()
    }

    /// The loop device it is mounted from.
    pub fn device(&self) -> &Path {
        self.device.path()
    }

    /// The image file it lives in.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// The mount, to freeze it.
    pub fn as_mount(&self) -> &Mount {
        &self.mount
    }

    #[track_caller]
    fn make(kind: &str, size_bytes: u64) -> Self {
        let scratch = TempDir::new(kind);
        let image = scratch.join("filesystem.img");
        make_image(kind, &image, size_bytes);
        let options = LoopOptions { direct_io: true, ..LoopOptions::default() };
        let made = Filesystem::mount_with(&image, &options, "");
        Filesystem { _scratch: Some(scratch), ..made }
    }
}

/// Makes a sparse file of that size at `path` with a new, empty filesystem in it: `ext4`, `xfs` or `btrfs`.
#[track_caller]
pub fn make_image(kind: &str, path: &Path, size_bytes: u64) {
    grow(path, size_bytes);
    let quiet: &[&str] = match kind {
        "ext4" => &["-q", "-F", "-E", "nodiscard"],
        "xfs" => &["-q", "-f", "-K", "-m", "reflink=1"],
        "btrfs" => &["-q", "-f", "-K"],
        _ => panic!("no image of a filesystem {kind} is made here"),
    };
    run(tool(&format!("mkfs.{kind}")).args(quiet).arg(path));
}

/// Makes a sparse file of that size at `path` with the partition table that `script` describes to sfdisk.
#[track_caller]
pub fn partition_image(path: &Path, size_bytes: u64, script: &str) {
    grow(path, size_bytes);
    let mut command = tool("sfdisk");
    command.arg("--quiet").arg(path).stdin(Stdio::piped());
    let mut child = command.spawn().expect("sfdisk starts");
    let mut input = child.stdin.take().expect("sfdisk has an input");
    input.write_all(script.as_bytes()).expect("sfdisk reads its script");
    drop(input);
    let status = child.wait().expect("sfdisk ends");
    assert!(status.success(), "sfdisk refused this script ({status}):\n{script}");
}

#[track_caller]
fn grow(path: &Path, size_bytes: u64) {
    let opened = OpenOptions::new().write(true).create(true).truncate(true).open(path);
    opened
        .and_then(|file| file.set_len(size_bytes))
        .unwrap_or_else(|cause| panic!("cannot make {}: {cause}", path.display()));
}

#[cfg(test)]
mod tests {
    use super::super::{Needs, fsck, loop_devices, mounts, require};
    use super::*;

    fn check(kind: &'static str, make: fn(u64) -> Filesystem, judge: fn(&Path)) {
        let Some(scratch) = require(&Needs::root().filesystems(&[kind])) else {
            return;
        };
        let filesystem = make(320 << 20);
        let found = mounts().into_iter().find(|entry| entry.point == filesystem.path()).unwrap();
        assert_eq!((found.kind.as_str(), found.source.as_path()), (kind, filesystem.device()));
        std::fs::write(filesystem.path().join("file"), "content").unwrap();
        let copy = scratch.join("copy.img");
        let image = filesystem.image().to_path_buf();
        run(tool("umount").arg(filesystem.path()));
        run(tool("cp").arg("--sparse=always").arg(&image).arg(&copy));
        drop(filesystem);
        judge(&copy);
        assert!(!image.exists());
        assert!(!loop_devices().iter().any(|attached| attached.backing == image));
    }

    #[test]
    fn xfs_comes_and_goes() {
        check("xfs", Filesystem::xfs, fsck::xfs);
    }

    #[test]
    fn btrfs_comes_and_goes() {
        check("btrfs", Filesystem::btrfs, fsck::btrfs);
    }

    #[test]
    fn ext4_comes_and_goes() {
        check("ext4", Filesystem::ext4, fsck::ext4);
    }

    #[test]
    fn files_on_xfs_and_btrfs_can_be_reflinked() {
        let needs = Needs::root().filesystems(&["xfs", "btrfs"]);
        let Some(_scratch) = require(&needs) else {
            return;
        };
        for make in [Filesystem::xfs, Filesystem::btrfs] {
            let filesystem = make(320 << 20);
            let (source, target) = (filesystem.path().join("a"), filesystem.path().join("b"));
            std::fs::write(&source, vec![7; 1 << 20]).unwrap();
            run(tool("cp").arg("--reflink=always").arg(&source).arg(&target));
        }
    }

    #[test]
    fn an_image_mounted_read_only_stays_as_it_was() {
        let Some(scratch) = require(&Needs::root().filesystems(&["ext4"])) else {
            return;
        };
        let image = scratch.join("still.img");
        make_image("ext4", &image, 16 << 20);
        let before = std::fs::read(&image).unwrap();
        let filesystem = Filesystem::mount_read_only(&image);
        assert!(std::fs::write(filesystem.path().join("file"), "x").is_err());
        drop(filesystem);
        assert!(std::fs::read(&image).unwrap() == before, "the image was written to");
    }
}
