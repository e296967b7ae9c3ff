//! `blockprint copy` when all goes well: equal bytes, sparse results, modes and owners, files and devices.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::time::Duration;

use testkit::host::{
    Filesystem, LoopDevice, LoopOptions, Needs, TempDir, drop_caches, require, run, tool,
};

use crate::support::{
    KIB, MIB, Part, allocated, assert_same, blockprint, copy, make, make_mixed, make_noise, names,
    partial_of,
};

#[test]
fn a_copy_is_equal_and_takes_no_more_space_than_that_of_cp() {
    let scratch = TempDir::new("copy");
    let [source, ours, theirs] = ["source", "ours", "theirs"].map(|name| scratch.join(name));
    make_mixed(&source, 1, 4);
    let result = copy(&scratch, &source, &ours).arg("--json").run().expect_ok().result();
    run(tool("cp").arg("--sparse=always").arg(&source).arg(&theirs));
    assert_same(&source, &ours);
    let (ours, theirs) = (allocated(&ours), allocated(&theirs));
    assert!(ours <= theirs, "ours takes {ours} bytes, that of cp {theirs}");
    assert!(ours < allocated(&source), "written zeroes became no holes");
    let bytes = |name: &str| result[name].as_u64().unwrap();
    assert_eq!(bytes("written_bytes") + bytes("sparse_bytes"), 16 * MIB);
    assert!(bytes("written_bytes") <= ours, "{} bytes written for {ours}", bytes("written_bytes"));
    assert_eq!(names(scratch.path()), ["ours", "source", "theirs"], "something was left");
}

#[test]
fn each_single_block_of_zeroes_becomes_a_hole() {
    let scratch = TempDir::new("copy");
    let (source, target) = (scratch.join("source"), scratch.join("target"));
    make(&source, 2, &[Part::Noise(4 * KIB), Part::Zeroes(4 * KIB)].repeat(64));
    copy(&scratch, &source, &target).run().expect_ok();
    assert_same(&source, &target);
    // One more than that is the filesystem's own list of them.
    assert!(allocated(&target) <= 65 * 4 * KIB, "{} bytes", allocated(&target));
}

#[test]
fn images_of_odd_sizes_are_copied_to_the_last_byte() {
    let scratch = TempDir::new("copy");
    let shapes: &[&[Part]] = &[
        &[],
        &[Part::Noise(1)],
        &[Part::Hole(1)],
        &[Part::Noise(511)],
        &[Part::Noise(4096), Part::Hole(1)],
        &[Part::Hole(4097), Part::Noise(3)],
        &[Part::Noise(256 * KIB + 1)],
        &[Part::Noise(MIB), Part::Zeroes(777)],
        &[Part::Zeroes(MIB + 5)],
    ];
    for (number, parts) in shapes.iter().enumerate() {
        let source = scratch.join(format!("source{number}"));
        let target = scratch.join(format!("target{number}"));
        make(&source, 3, parts);
        copy(&scratch, &source, &target).arg("--verify").run().expect_ok();
        assert!(fs::read(&source).unwrap() == fs::read(&target).unwrap(), "{parts:?}");
        assert!(allocated(&target) <= allocated(&source), "{parts:?}");
    }
}

#[test]
fn the_number_of_threads_makes_no_difference() {
    let scratch = TempDir::new("copy");
    let source = scratch.join("source");
    make_mixed(&source, 4, 3);
    for threads in ["1", "2", "9"] {
        let target = scratch.join(threads);
        copy(&scratch, &source, &target).args(["--threads", threads]).run().expect_ok();
        assert_same(&source, &target);
    }
}

#[test]
fn a_huge_sparse_file_is_copied_at_once() {
    let scratch = TempDir::new("copy");
    let (source, target) = (scratch.join("source"), scratch.join("target"));
    make(
        &source,
        5,
        &[Part::Noise(MIB / 2), Part::Hole(1 << 40), Part::Noise(MIB / 2), Part::Hole(MIB)],
    );
    let outcome = copy(&scratch, &source, &target).run().expect_ok();
    assert!(outcome.elapsed < Duration::from_secs(5), "it took {:?}", outcome.elapsed);
    assert_eq!(fs::metadata(&target).unwrap().len(), fs::metadata(&source).unwrap().len());
    assert_eq!(allocated(&target), allocated(&source));
    blockprint(&scratch).arg("compare").arg(&source).arg(&target).run().expect_ok();
}

#[test]
fn a_copy_into_a_folder_takes_the_name_of_the_source() {
    let scratch = TempDir::new("copy");
    let (source, folder) = (scratch.join("disk.img"), scratch.join("backup"));
    make_mixed(&source, 6, 1);
    fs::create_dir(&folder).unwrap();
    copy(&scratch, &source, &folder).run().expect_ok();
    assert_same(&source, &folder.join("disk.img"));
    assert_eq!(names(&folder), ["disk.img"]);
}

#[test]
fn a_new_file_has_the_mode_of_the_source() {
    let scratch = TempDir::new("copy");
    let source = scratch.join("source");
    make_noise(&source, 7, 10_000);
    for mode in [0o640, 0o600, 0o444] {
        fs::set_permissions(&source, Permissions::from_mode(mode)).unwrap();
        let target = scratch.join(format!("{mode:o}"));
        copy(&scratch, &source, &target).run().expect_ok();
        assert_eq!(fs::metadata(&target).unwrap().mode() & 0o7777, mode, "{mode:o}");
    }
}

#[test]
fn nobody_else_can_read_what_is_under_way() {
    let scratch = TempDir::new("copy");
    let (source, target) = (scratch.join("source"), scratch.join("target"));
    make_noise(&source, 8, 10_000);
    fs::set_permissions(&source, Permissions::from_mode(0o600)).unwrap();
    let killed = copy(&scratch, &source, &target).env("BLOCKPRINT_DEBUG_KILL_AT", "created").run();
    assert_eq!(killed.signal(), Some(9), "{killed}");
    assert_eq!(fs::metadata(partial_of(&target)).unwrap().mode() & 0o7777, 0o600);
}

#[test]
fn an_existing_file_is_refused_and_untouched() {
    let scratch = TempDir::new("copy");
    let (source, target) = (scratch.join("source"), scratch.join("target"));
    make_noise(&source, 9, 10_000);
    fs::write(&target, "old").unwrap();
    let before = fs::metadata(&target).unwrap();
    let outcome = copy(&scratch, &source, &target).run().expect_exit(11);
    outcome.expect_error("exists already").expect_error("--force");
    let after = fs::metadata(&target).unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"old");
    assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()));
    assert_eq!(names(scratch.path()), ["source", "target"]);
}

#[test]
fn a_replaced_file_keeps_its_mode_and_owner_and_is_another_file() {
    let Some(scratch) = require(&Needs::root()) else { return };
    let (source, target) = (scratch.join("source"), scratch.join("target"));
    make_mixed(&source, 10, 1);
    fs::write(&target, "old").unwrap();
    let link = scratch.join("link to the old one");
    fs::hard_link(&target, &link).unwrap();
    chown(&target, Some(1234), Some(4321)).unwrap();
    fs::set_permissions(&target, Permissions::from_mode(0o604)).unwrap();
    copy(&scratch, &source, &target).arg("--force").run().expect_ok();
    assert_same(&source, &target);
    let now = fs::metadata(&target).unwrap();
    assert_eq!((now.uid(), now.gid(), now.mode() & 0o7777), (1234, 4321, 0o604));
    assert_eq!(fs::read(&link).unwrap(), b"old");
    assert_eq!(names(scratch.path()), ["link to the old one", "source", "target"]);
}

#[test]
fn a_file_in_place_stays_the_same_file_and_gets_the_size_of_the_source() {
    let scratch = TempDir::new("copy");
    let (source, target, link) =
        (scratch.join("source"), scratch.join("target"), scratch.join("link"));
    make_mixed(&source, 11, 1);
    for old_len in [100, 9 * MIB] {
        let _ = fs::remove_file(&link);
        make_noise(&target, 12, old_len);
        fs::hard_link(&target, &link).unwrap();
        let inode = fs::metadata(&target).unwrap().ino();
        let again = || copy(&scratch, &source, &target).arg("--in-place");
        again().run().expect_exit(11);
        assert_eq!(fs::metadata(&target).unwrap().len(), old_len, "it was cut before it was asked");
        again().args(["--force", "--verify"]).run().expect_ok();
        assert_same(&source, &target);
        assert_eq!(fs::metadata(&target).unwrap().ino(), inode);
        assert_same(&source, &link);
        assert!(allocated(&target) < allocated(&source), "zero runs were not punched");
    }
    assert_eq!(names(scratch.path()), ["link", "source", "target"]);
}

#[test]
fn a_link_stays_a_link_and_what_it_leads_to_is_replaced() {
    let scratch = TempDir::new("copy");
    let (source, link) = (scratch.join("source"), scratch.join("link"));
    fs::create_dir(scratch.join("elsewhere")).unwrap();
    let target = scratch.join("elsewhere/target");
    make_noise(&source, 13, 10_000);
    fs::write(&target, "old").unwrap();
    symlink("elsewhere/target", &link).unwrap();
    copy(&scratch, &source, &link).arg("--force").run().expect_ok();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_same(&source, &target);
    assert_eq!(names(&scratch.join("elsewhere")), ["target"]);
}

#[test]
fn a_dry_run_says_what_would_be_done_and_writes_nothing() {
    let scratch = TempDir::new("copy");
    let (source, target) = (scratch.join("source"), scratch.join("target"));
    make(&source, 14, &[Part::Noise(MIB), Part::Hole(3 * MIB)]);
    let call = || copy(&scratch, &source, &target).arg("--dry-run");
    let said = call().run().expect_ok().stdout;
    assert!(said.contains("would make the file") && said.contains("1 MiB to read"), "{said}");
    let plan = call().arg("--json").run().expect_ok().events("plan").remove(0);
    assert_eq!(plan["data_bytes"], MIB);
    assert_eq!(plan["zero_bytes"], 3 * MIB);
    assert_eq!(names(scratch.path()), ["source"]);
    fs::write(&target, "old").unwrap();
    call().run().expect_exit(11);
    let said = call().arg("--force").run().expect_ok().stdout;
    assert!(said.contains("would REPLACE the file"), "{said}");
    assert_eq!(fs::read(&target).unwrap(), b"old");
}

#[test]
fn a_compressed_or_foreign_image_is_not_written_to_a_device_by_mistake() {
    let Some(scratch) = require(&Needs::root()) else { return };
    let (source, disk) = (scratch.join("source"), scratch.join("disk"));
    make_noise(&source, 15, MIB);
    crate::support::overwrite(&source, 0, b"QFI\xfb");
    make_noise(&disk, 16, MIB);
    let device = LoopDevice::attach(&disk, &LoopOptions::default());
    let refused = copy(&scratch, &source, device.path()).run().expect_exit(16);
    refused.expect_error("looks like a qcow2 file").expect_error("raw:");
    let mut raw = std::ffi::OsString::from("raw:");
    raw.push(&source);
    copy(&scratch, raw.as_ref(), device.path()).run().expect_ok();
    assert_same(&source, device.path());
    let target = scratch.join("target");
    let outcome = copy(&scratch, &source, &target).run().expect_ok();
    outcome.expect_error("warning:").expect_error("qcow2");
    assert_same(&source, &target);
}

#[test]
fn files_and_devices_are_copied_to_each_other() {
    let Some(scratch) = require(&Needs::root()) else { return };
    let [source, one, other] = ["source", "one", "other"].map(|name| scratch.join(name));
    make_mixed(&source, 20, 4);
    make_noise(&one, 21, 16 * MIB);
    make_noise(&other, 22, 16 * MIB);
    let one = LoopDevice::attach(&one, &LoopOptions::default());
    let other = LoopDevice::attach(&other, &LoopOptions::default());
    let call = |from, to| copy(&scratch, from, to).args(["--verify", "--json"]);
    let result = call(&source, one.path()).run().expect_ok().result();
    assert_eq!(result["verified"], true);
    assert!(result["sparse_bytes"].as_u64().unwrap() > 6 * MIB, "zeroes were written: {result}");
    assert_same(&source, one.path());
    call(one.path(), other.path()).run().expect_ok();
    assert_same(&source, other.path());
    let back = scratch.join("back");
    call(other.path(), &back).run().expect_ok();
    drop_caches();
    assert_same(&source, &back);
    assert!(allocated(&back) < allocated(&source), "the copy of a device is not sparse");
    assert_eq!(fs::metadata(&back).unwrap().mode() & 0o7777, 0o600);
    assert!(!scratch.join("state").exists(), "a journal was kept without need");
}

#[test]
fn what_a_larger_device_held_behind_the_image_stays() {
    let Some(scratch) = require(&Needs::root()) else { return };
    let (source, disk) = (scratch.join("source"), scratch.join("disk"));
    make(&source, 23, &[Part::Noise(MIB), Part::Hole(MIB), Part::Noise(1000)]);
    make_noise(&disk, 24, 5 * MIB);
    let before = fs::read(&disk).unwrap();
    let device = LoopDevice::attach(&disk, &LoopOptions::default());
    let outcome = copy(&scratch, &source, device.path()).arg("--verify").run().expect_ok();
    let end = 2 * MIB + 1000;
    outcome.expect_error(&format!("is {} bytes larger than the image", 5 * MIB - end));
    drop(device);
    let after = fs::read(&disk).unwrap();
    assert!(after[..end as usize] == fs::read(&source).unwrap());
    assert!(after[end as usize..] == before[end as usize..], "bytes behind the image changed");
}

#[test]
fn a_device_with_large_sectors_takes_an_image_that_ends_within_one() {
    let Some(scratch) = require(&Needs::root()) else { return };
    let (source, disk) = (scratch.join("source"), scratch.join("disk"));
    make(&source, 25, &[Part::Noise(MIB), Part::Zeroes(MIB), Part::Noise(512), Part::Zeroes(1024)]);
    make_noise(&disk, 26, 4 * MIB);
    let options = LoopOptions { sector_bytes: 4096, ..LoopOptions::default() };
    let device = LoopDevice::attach(&disk, &options);
    copy(&scratch, &source, device.path()).arg("--verify").run().expect_ok();
    assert_same(&source, device.path());
    let back = scratch.join("back");
    copy(&scratch, device.path(), &back).run().expect_ok();
    assert_same(&back, device.path());
}

#[test]
fn copies_between_filesystems_are_sparse_on_each() {
    let needs = Needs::root().filesystems(&["xfs", "ext4", "btrfs"]);
    let Some(scratch) = require(&needs) else { return };
    let source = scratch.join("source");
    make_mixed(&source, 27, 2);
    for filesystem in
        [Filesystem::xfs(320 * MIB), Filesystem::ext4(64 * MIB), Filesystem::btrfs(128 * MIB)]
    {
        let (ours, theirs) = (filesystem.path().join("ours"), filesystem.path().join("theirs"));
        copy(&scratch, &source, &ours).arg("--verify").run().expect_ok();
        run(tool("cp").arg("--sparse=always").arg(&source).arg(&theirs));
        assert_same(&source, &ours);
        assert!(allocated(&ours) <= allocated(&theirs), "{}", filesystem.image().display());
        let back = scratch.join("back");
        copy(&scratch, &ours, &back).arg("--force").run().expect_ok();
        assert_same(&source, &back);
    }
}

#[test]
fn the_copy_of_something_in_use_comes_with_a_warning() {
    let Some(scratch) = require(&Needs::root().filesystems(&["ext4"])) else { return };
    let filesystem = Filesystem::ext4(16 * MIB);
    let target = scratch.join("target");
    for source in [filesystem.image(), filesystem.device()] {
        let outcome = copy(&scratch, source, &target).arg("--force").run().expect_ok();
        let place = filesystem.path().display().to_string();
        outcome.expect_error("warning:").expect_error(&place).expect_error("blockprint clone");
    }
}
