//! Judges of a filesystem in an image: the checkers of the filesystems themselves, which change nothing here.

use std::path::Path;

use super::{Filesystem, LoopOptions, TempDir, run, tool, try_run};

/// Panics with what `e2fsck -fn` said unless the ext4 in `image` is clean, without a journal to replay.
#[track_caller]
pub fn ext4(image: &Path) {
    let report = run(tool("e2fsck").args(["-f", "-n"]).arg(image));
    let dirty = report.contains("recover");
    assert!(!dirty, "the journal of {} was not empty:\n{report}", image.display());
}

/// Panics with what `xfs_repair -n` said unless the XFS in `image` is consistent.
///
/// A freeze leaves a log to replay, on purpose (for files that are deleted but open), and the checker cannot judge
/// past it: then a copy is mounted once, which needs root, and judged instead.
#[track_caller]
pub fn xfs(image: &Path) {
    let judge = |image: &Path| try_run(tool("xfs_repair").args(["-n", "-f"]).arg(image));
    let Err(report) = judge(image) else { return };
    assert!(report.contains("metadata changes in a log"), "{report}");
    let scratch = TempDir::new("xfs-log");
    let copy = scratch.join("copy.img");
    run(tool("cp").args(["--sparse=always", "--reflink=auto"]).arg(image).arg(&copy));
    drop(Filesystem::mount_with(&copy, &LoopOptions::default(), "nouuid"));
    if let Err(report) = judge(&copy) {
        panic!("after its log was replayed:\n{report}");
    }
}

/// Panics with what `btrfs check` said unless the Btrfs in `image` is consistent, its data included.
#[track_caller]
pub fn btrfs(image: &Path) {
    run(tool("btrfs").args(["check", "--readonly", "--check-data-csum", "--force"]).arg(image));
}

#[cfg(test)]
mod tests {
    use super::super::{Needs, make_image, require};
    use super::*;
    use std::fs;
    use std::os::unix::fs::FileExt;
    use std::panic::catch_unwind;
    use std::path::PathBuf;

    #[test]
    fn a_damaged_filesystem_is_not_clean() {
        let needs = Needs::none().filesystems(&["ext4", "xfs", "btrfs"]);
        let Some(scratch) = require(&needs.tools(&["e2fsck", "xfs_repair", "btrfs"])) else {
            return;
        };
        for kind in ["ext4", "xfs", "btrfs"] {
            let judge = match kind {
                "ext4" => ext4,
                "xfs" => xfs,
                _ => btrfs,
            };
            let image = scratch.join(kind);
            make_image(kind, &image, 320 << 20);
            judge(&image);
            // Past the first superblock of each, and over the copies that a checker could repair from.
            let file = fs::OpenOptions::new().write(true).open(&image).unwrap();
            for offset in
                [4096, 8192, 65536 + 4096, 1 << 20, 22020096, 30408704, 38797312, 64 << 20]
            {
                file.write_all_at(&[0xA5; 65536], offset).unwrap();
            }
            let judged = catch_unwind(|| judge(&image));
            assert!(judged.is_err(), "the damaged {kind} passed");
        }
    }

    /// Copies an image twice while it is in use: as it lies there, and frozen.
    fn copies(kind: &str, scratch: &TempDir) -> [PathBuf; 2] {
        let copy = |image: &Path, name: &str| {
            let target = scratch.join(format!("{name}.{kind}"));
            run(tool("cp").arg("--sparse=always").arg(image).arg(&target));
            target
        };
        let image = scratch.join(kind);
        make_image(kind, &image, 320 << 20);
        let filesystem = Filesystem::mount(&image);
        fs::write(filesystem.path().join("file"), vec![1; 1 << 20]).unwrap();
        run(tool("sync").arg("--file-system").arg(filesystem.path()));
        let in_use = copy(&image, "in-use");
        filesystem.as_mount().freeze();
        [in_use, copy(&image, "frozen")]
    }

    #[test]
    fn an_image_taken_while_frozen_is_clean_and_an_ext4_taken_in_use_is_not() {
        let needs = Needs::root().filesystems(&["ext4", "xfs", "btrfs"]);
        let Some(scratch) = require(&needs.tools(&["e2fsck", "xfs_repair", "btrfs"])) else {
            return;
        };
        let [in_use, frozen] = copies("ext4", &scratch);
        ext4(&frozen);
        assert!(catch_unwind(|| ext4(&in_use)).is_err());
        let [_, frozen] = copies("xfs", &scratch);
        xfs(&frozen);
        let [_, frozen] = copies("btrfs", &scratch);
        btrfs(&frozen);
    }
}
