//! What `blockprint copy` refuses, each before the first write: targets in use, too small, not there, the same.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use testkit::host::{
    Filesystem, LoopDevice, LoopOptions, Mount, Namespace, Needs, TempDir, make_image, require,
    run, skip, tool, try_run,
};

use crate::support::{
    KIB, MIB, assert_refused, attach_two_partitions, blockprint, copy, make_mixed, make_noise,
    names, overwrite,
};

/// A source of 4 MiB, beside whatever the target of the test is.
fn source_in(scratch: &TempDir) -> PathBuf {
    let source = scratch.join("source");
    make_mixed(&source, 40, 1);
    source
}

fn digest(path: &Path) -> String {
    run(tool("sha256sum").arg(path)).split(' ').next().unwrap_or_default().to_string()
}

/// Panics unless a copy to `target` is refused as in use, with each of `parts` said, and `medium` is what it was.
#[track_caller]
fn assert_held(scratch: &TempDir, target: &Path, medium: &Path, parts: &[&str]) {
    let source = source_in(scratch);
    let before = digest(medium);
    for more in [&["--force"][..], &["--force", "--in-place"], &["--force", "--dry-run"]] {
        let outcome = copy(scratch, &source, target).args(more).run();
        let shown = target.display().to_string();
        let outcome = assert_refused(outcome, 13, &[&shown]);
        parts.iter().fold(outcome, |outcome, part| outcome.expect_error(part));
    }
    assert_eq!(digest(medium), before, "{} was written to", medium.display());
    let left = names(medium.parent().unwrap());
    assert!(!left.iter().any(|name| name.contains(".blockprint-")), "{left:?}");
}

#[test]
fn a_mounted_device_is_refused_and_so_is_the_file_below_it() {
    let Some(scratch) = require(&Needs::root().filesystems(&["ext4"])) else { return };
    let image = scratch.join("image");
    make_image("ext4", &image, 8 * MIB);
    // Read-only, so that the filesystem itself writes nothing between two looks at it.
    let filesystem = Filesystem::mount_read_only(&image);
    let place = format!("mounted at {}", filesystem.path().display());
    assert_held(&scratch, filesystem.device(), &image, &[&place]);
    let attached = format!("attached as {}", filesystem.device().display());
    assert_held(&scratch, &image, &image, &[&place, &attached]);
    let link = scratch.join("link");
    symlink(filesystem.device(), &link).unwrap();
    let shown = filesystem.device().display().to_string();
    let source = source_in(&scratch);
    assert_refused(copy(&scratch, &source, &link).run(), 13, &[&shown, &place]);
}

#[test]
fn a_file_that_is_attached_is_refused_also_where_nothing_is_mounted() {
    let Some(scratch) = require(&Needs::root()) else { return };
    let disk = scratch.join("disk");
    make_noise(&disk, 41, 5 * MIB);
    let device = LoopDevice::attach(&disk, &LoopOptions::default());
    let attached = format!("attached as {}", device.path().display());
    assert_held(&scratch, &disk, &disk, &[&attached]);
    let other_name = scratch.join("other name");
    fs::hard_link(&disk, &other_name).unwrap();
    assert_held(&scratch, &other_name, &disk, &[&attached]);
}

#[test]
fn a_disk_is_refused_while_one_of_its_partitions_is_mounted() {
    let needs = Needs::root().filesystems(&["ext4"]).tools(&["sfdisk", "partx"]);
    let Some(scratch) = require(&needs) else { return };
    let disk = scratch.join("disk");
    let device = attach_two_partitions(&disk);
    run(&mut tool("sync"));
    let mount = Mount::new(&device.partition(2), "ro");
    let place = format!("mounted at {}", mount.path().display());
    assert_held(&scratch, device.path(), &disk, &[&place]);
    assert_held(&scratch, &device.partition(2), &disk, &[&place]);
    assert_held(&scratch, &disk, &disk, &[&place]);
    // Its neighbour is free, and so is the disk afterwards.
    copy(&scratch, &source_in(&scratch), &device.partition(1)).run().expect_ok();
    drop(mount);
    copy(&scratch, &source_in(&scratch), device.path()).run().expect_ok();
}

#[test]
fn a_device_that_is_mounted_in_another_namespace_is_refused() {
    let Some(scratch) = require(&Needs::root().filesystems(&["ext4"]).tools(&["unshare"])) else {
        return;
    };
    let image = scratch.join("image");
    make_image("ext4", &image, 8 * MIB);
    let options = LoopOptions { read_only: true, ..LoopOptions::default() };
    let device = LoopDevice::attach(&image, &options);
    let namespace = Namespace::mount(device.path(), "ro");
    let place = format!("mounted at {}", namespace.point().display());
    let whose = format!("namespace of process {}", namespace.pid());
    assert_held(&scratch, device.path(), &image, &[&place, &whose]);
    assert_held(&scratch, &image, &image, &[&place, &whose]);
}

/// Takes it out of the swap areas when dropped.
struct Swap(PathBuf);

impl Drop for Swap {
    fn drop(&mut self) {
        let _ = try_run(tool("swapoff").arg(&self.0));
    }
}

#[test]
fn a_device_that_is_used_for_swap_is_refused() {
    let Some(scratch) = require(&Needs::root().tools(&["mkswap", "swapon", "swapoff"])) else {
        return;
    };
    let disk = scratch.join("disk");
    make_noise(&disk, 42, 5 * MIB);
    let device = LoopDevice::attach(&disk, &LoopOptions::default());
    run(tool("mkswap").arg(device.path()));
    // Of the lowest priority, so that nothing is swapped to it meanwhile.
    if let Err(sentence) = try_run(tool("swapon").arg("--priority=0").arg(device.path())) {
        return skip(&format!("this system does not swap: {sentence}"));
    }
    let swap = Swap(device.path().to_path_buf());
    let sentence = format!("used for swap ({})", device.path().display());
    assert_held(&scratch, device.path(), &disk, &[&sentence]);
    assert_held(&scratch, &disk, &disk, &[&sentence]);
    drop(swap);
    copy(&scratch, &source_in(&scratch), device.path()).run().expect_ok();
}

#[test]
fn a_device_that_somebody_else_has_claimed_is_refused() {
    const O_EXCL: i32 = 0o200;
    let Some(scratch) = require(&Needs::root()) else { return };
    let disk = scratch.join("disk");
    make_noise(&disk, 43, 5 * MIB);
    let device = LoopDevice::attach(&disk, &LoopOptions::default());
    let claim = OpenOptions::new().read(true).custom_flags(O_EXCL).open(device.path()).unwrap();
    assert_held(&scratch, device.path(), &disk, &["somebody else has claimed it"]);
    drop(claim);
    copy(&scratch, &source_in(&scratch), device.path()).run().expect_ok();
}

#[test]
fn a_device_that_is_too_small_is_refused_with_the_exact_number() {
    let Some(scratch) = require(&Needs::root()) else { return };
    let (source, disk) = (source_in(&scratch), scratch.join("disk"));
    make_noise(&disk, 44, 4 * MIB - 512);
    let before = digest(&disk);
    let device = LoopDevice::attach(&disk, &LoopOptions::default());
    for more in [&[][..], &["--force"], &["--dry-run"]] {
        let outcome = copy(&scratch, &source, device.path()).args(more).run();
        let sizes = [4 * MIB - 512, 4 * MIB].map(|bytes| bytes.to_string());
        assert_refused(outcome, 14, &["too small", &sizes[0], &sizes[1], "which is 512 bytes"]);
    }
    drop(device);
    assert_eq!(digest(&disk), before);
}

#[test]
fn a_read_only_device_is_refused() {
    let Some(scratch) = require(&Needs::root()) else { return };
    let (source, disk) = (source_in(&scratch), scratch.join("disk"));
    make_noise(&disk, 45, 5 * MIB);
    let options = LoopOptions { read_only: true, ..LoopOptions::default() };
    let device = LoopDevice::attach(&disk, &options);
    assert_refused(copy(&scratch, &source, device.path()).run(), 12, &["read-only"]);
}

#[test]
fn a_misspelt_device_is_not_made_as_a_file() {
    let scratch = TempDir::new("refused");
    let source = source_in(&scratch);
    let target = Path::new("/dev/nosuch-blockprint");
    assert_refused(
        copy(&scratch, &source, target).run(),
        10,
        &["there is no device /dev/nosuch-blockprint"],
    );
    assert!(!target.exists());
    let outcome = copy(&scratch, target, &scratch.join("target")).run();
    assert_refused(outcome, 10, &["/dev/nosuch-blockprint", "No such file or directory"]);
    let outcome = copy(&scratch, &source, &scratch.join("no/such/folder")).run();
    assert_refused(outcome, 10, &["no/such", "No such file or directory"]);
    assert_eq!(names(scratch.path()), ["source"]);
}

#[test]
fn a_link_that_leads_nowhere_is_refused_before_anything_is_copied() {
    let scratch = TempDir::new("refused");
    let (source, link) = (source_in(&scratch), scratch.join("link"));
    symlink(scratch.join("nowhere"), &link).unwrap();
    for more in [&[][..], &["--force"]] {
        let outcome = copy(&scratch, &source, &link).args(more).arg("--dry-run").run();
        assert_refused(outcome, 17, &["link", "leads nowhere"]);
        assert_refused(copy(&scratch, &source, &link).args(more).run(), 17, &["leads nowhere"]);
    }
    assert_eq!(names(scratch.path()), ["link", "source"]);
}

#[test]
fn source_and_target_must_be_two_things() {
    let scratch = TempDir::new("refused");
    let source = source_in(&scratch);
    let before = fs::read(&source).unwrap();
    let (hard, soft) = (scratch.join("hard"), scratch.join("soft"));
    fs::hard_link(&source, &hard).unwrap();
    symlink("source", &soft).unwrap();
    for target in [&source, &hard, &soft, &scratch.path().to_path_buf()] {
        for more in [&[][..], &["--force"], &["--force", "--in-place"]] {
            let outcome = copy(&scratch, &source, target).args(more).run();
            assert_refused(outcome, 17, &["are the same"]);
        }
    }
    assert!(fs::read(&source).unwrap() == before);
}

#[test]
fn a_device_and_what_it_stands_on_are_one_thing() {
    let Some(scratch) = require(&Needs::root()) else { return };
    let source = source_in(&scratch);
    let device = LoopDevice::attach(&source, &LoopOptions::default());
    let again = scratch.join("again");
    symlink(device.path(), &again).unwrap();
    for (from, to) in [(source.as_path(), device.path()), (device.path(), again.as_path())] {
        assert_refused(copy(&scratch, from, to).run(), 17, &["are the same"]);
    }
    // The other way round it is in use, by the device that is the source.
    let outcome = copy(&scratch, device.path(), &source).arg("--force").run();
    let attached = format!("attached as {}", device.path().display());
    assert_refused(outcome, 13, &[&attached]);
}

#[test]
fn what_can_hold_no_image_is_refused() {
    let scratch = TempDir::new("refused");
    let (source, pipe) = (source_in(&scratch), scratch.join("pipe"));
    run(tool("mkfifo").arg(&pipe));
    let target = scratch.join("target");
    assert_refused(copy(&scratch, scratch.path(), &target).run(), 17, &["is a folder"]);
    assert_refused(copy(&scratch, &pipe, &target).run(), 17, &["neither a file nor a block"]);
    assert_refused(copy(&scratch, &source, &pipe).run(), 17, &["neither a file nor a block"]);
    let zero = Path::new("/dev/zero");
    assert_refused(copy(&scratch, zero, &target).run(), 17, &["neither a file nor a block"]);
    assert_eq!(names(scratch.path()), ["pipe", "source"]);
}

#[test]
fn the_second_of_two_copies_to_one_target_is_refused() {
    let scratch = TempDir::new("refused");
    let (source, target) = (scratch.join("source"), scratch.join("target"));
    make_noise(&source, 46, 8 * MIB);
    for more in [&[][..], &["--force", "--in-place"]] {
        if !more.is_empty() {
            File::create(&target).unwrap().set_len(100).unwrap();
        }
        let first = copy(&scratch, &source, &target)
            .args(more)
            .env("BLOCKPRINT_DEBUG_STOP_AT", "copied")
            .spawn();
        crate::support::until_stopped(&first);
        for resume in [&[][..], &["--resume"]] {
            let second = copy(&scratch, &source, &target).args(more).args(resume).run();
            assert_refused(second, 13, &["is being written by another program"]);
        }
        first.signal("CONT");
        first.wait().expect_ok();
        crate::support::assert_same(&source, &target);
        fs::remove_file(&target).unwrap();
    }
    assert_eq!(names(scratch.path()), ["source"]);
}

#[test]
fn a_file_that_appears_under_the_name_meanwhile_is_not_replaced() {
    let scratch = TempDir::new("refused");
    let (source, target) = (source_in(&scratch), scratch.join("target"));
    let running =
        copy(&scratch, &source, &target).env("BLOCKPRINT_DEBUG_STOP_AT", "copied").spawn();
    crate::support::until_stopped(&running);
    fs::write(&target, "of somebody else").unwrap();
    running.signal("CONT");
    let partial = crate::support::partial_of(&target);
    let shown = partial.display().to_string();
    assert_refused(running.wait(), 11, &["exists already", "the complete copy is kept in", &shown]);
    assert_eq!(fs::read(&target).unwrap(), b"of somebody else");
    crate::support::assert_same(&source, &partial);
}

#[test]
fn a_size_that_the_filesystem_of_the_target_cannot_hold_leaves_nothing() {
    let Some(scratch) = require(&Needs::root().filesystems(&["xfs", "ext4"])) else { return };
    let (large, small) = (Filesystem::xfs(320 * MIB), Filesystem::ext4(16 * MIB));
    let (source, target) = (large.path().join("source"), small.path().join("target"));
    File::create(&source).unwrap().set_len(17 << 40).unwrap();
    let outcome = copy(&scratch, &source, &target).run();
    assert_refused(outcome, 14, &["target", "File too large"]);
    assert!(names(small.path()).is_empty(), "{:?} left", names(small.path()));
}

#[test]
fn compare_and_info_take_what_is_in_use() {
    let Some(scratch) = require(&Needs::root().filesystems(&["ext4"])) else { return };
    let image = scratch.join("image");
    make_image("ext4", &image, 8 * MIB);
    overwrite(&image, 0, &[0; KIB as usize]);
    let filesystem = Filesystem::mount_read_only(&image);
    blockprint(&scratch).arg("compare").arg(&image).arg(filesystem.device()).run().expect_ok();
    blockprint(&scratch).arg("info").arg(filesystem.device()).run().expect_ok();
}
