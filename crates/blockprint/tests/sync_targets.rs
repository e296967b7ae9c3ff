//! What `blockprint sync` writes to: files in place, new ones, containers, devices, and clones that replace the old file.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};

use testkit::host::{
    Filesystem, LoopDevice, LoopOptions, Needs, TempDir, make_image, require, run, tool,
};

use crate::support::{
    KIB, MIB, Part, allocated, assert_refused, assert_same, attach_two_partitions, blockprint,
    make, make_mixed, make_noise, names, overwrite, partial_of,
};
use crate::sync::{assert_image, sync};

#[test]
fn a_file_in_place_keeps_its_number_its_links_and_its_mode() {
    let scratch = TempDir::new("sync-targets");
    let [source, target, hard, soft] =
        ["source", "target", "hard", "soft"].map(|name| scratch.join(name));
    make_mixed(&source, 1, 1);
    make_noise(&target, 2, MIB);
    fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).unwrap();
    fs::hard_link(&target, &hard).unwrap();
    symlink("target", &soft).unwrap();
    let number = fs::metadata(&target).unwrap().ino();
    sync(&scratch, &source, &soft).run().expect_ok();
    assert_same(&source, &hard);
    let now = fs::metadata(&target).unwrap();
    assert_eq!((now.ino(), now.mode() & 0o777), (number, 0o640));
    assert!(fs::symlink_metadata(&soft).unwrap().is_symlink());
}

#[test]
fn a_new_file_gets_the_mode_of_its_source_and_in_a_folder_its_name() {
    let scratch = TempDir::new("sync-targets");
    let (source, folder) = (scratch.join("source"), scratch.join("folder"));
    make_noise(&source, 3, 10_000);
    fs::set_permissions(&source, fs::Permissions::from_mode(0o604)).unwrap();
    fs::create_dir(&folder).unwrap();
    sync(&scratch, &source, &folder).run().expect_ok();
    sync(&scratch, &source, &folder).args(["--format", "spgz"]).run().expect_ok();
    assert_eq!(names(&folder), ["source", "source.spgz"]);
    assert_same(&source, &folder.join("source"));
    assert_image(&scratch, &source, &folder.join("source.spgz"));
    assert_eq!(fs::metadata(folder.join("source")).unwrap().mode() & 0o777, 0o604);
}

#[test]
fn source_and_target_must_be_two_things() {
    let scratch = TempDir::new("sync-targets");
    let source = scratch.join("source");
    make_noise(&source, 4, 100_000);
    let before = fs::read(&source).unwrap();
    let (hard, soft, dangling) =
        (scratch.join("hard"), scratch.join("soft"), scratch.join("dangling"));
    fs::hard_link(&source, &hard).unwrap();
    symlink("source", &soft).unwrap();
    symlink("nowhere", &dangling).unwrap();
    for target in [&source, &hard, &soft, &scratch.path().to_path_buf()] {
        for more in [&[][..], &["--atomic"], &["--dry-run"]] {
            assert_refused(sync(&scratch, &source, target).args(more).run(), 17, &["are the same"]);
        }
    }
    assert_refused(sync(&scratch, &source, &dangling).run(), 17, &["leads nowhere"]);
    // The partial file of a target is no source for it.
    let target = scratch.join("target");
    fs::rename(&source, partial_of(&target)).unwrap();
    let outcome = sync(&scratch, &partial_of(&target), &target).run();
    assert_refused(outcome, 17, &["are the same"]);
    assert!(fs::read(partial_of(&target)).unwrap() == before);
    let outcome = sync(&scratch, &scratch.join("nothing"), &target).run();
    assert_refused(outcome, 10, &["No such file"]);
}

#[test]
fn a_container_stays_a_container_and_a_raw_image_raw() {
    let scratch = TempDir::new("sync-targets");
    let [source, raw, container] =
        ["source", "raw.img", "disk.spgz"].map(|name| scratch.join(name));
    make(&source, 5, &[Part::Noise(300_000), Part::Hole(MIB), Part::Noise(5)]);
    make_noise(&raw, 6, 70_000);
    sync(&scratch, &source, &container).args(["--block-size", "64K"]).run().expect_ok();
    let head = fs::read(&container).unwrap();
    assert_eq!(&head[..8], b"SPGZ0001");
    assert_image(&scratch, &source, &container);
    let outcome = sync(&scratch, &source, &raw).args(["--format", "spgz"]).run();
    assert_refused(outcome, 17, &["is no spgz container, and stays what it is"]);
    for more in [&[][..], &["--atomic"]] {
        let outcome =
            sync(&scratch, &source, &container).args(["--format", "raw"]).args(more).run();
        assert_refused(outcome, 17, &["is an spgz container, and stays one"]);
    }
    let outcome = sync(&scratch, &source, &scratch.join("new")).args(["--block-size", "64K"]).run();
    assert_refused(outcome, 17, &["a block size is for containers"]);
    // Another size of blocks is for a container that is made: this one keeps its own.
    overwrite(&source, 3, b"changed");
    let outcome = sync(&scratch, &source, &container).args(["--block-size", "256K"]).run();
    outcome.expect_ok().expect_error("keeps its blocks of 65535 bytes");
    assert_image(&scratch, &source, &container);
    // A prefix says what is meant.
    let meant = format!("raw:{}", container.display());
    blockprint(&scratch).arg("sync").arg(&source).arg(&meant).run().expect_ok();
    assert_same(&source, &container);
}

#[test]
fn a_raw_image_whose_guest_wrote_the_header_of_a_container_stays_raw() {
    let scratch = TempDir::new("sync-targets");
    let [source, container, raw] =
        ["source", "disk.spgz", "disk.img"].map(|name| scratch.join(name));
    make_noise(&source, 7, 200_000);
    sync(&scratch, &source, &container).run().expect_ok();
    fs::copy(&container, &raw).unwrap();
    let outcome = sync(&scratch, &source, &raw).run().expect_ok();
    outcome.expect_error("looks like a spgz file");
    assert_same(&source, &raw);
}

#[test]
fn a_damaged_container_is_made_right_and_that_is_said() {
    let scratch = TempDir::new("sync-targets");
    let (source, target) = (scratch.join("source"), scratch.join("target.spgz"));
    let text: Vec<u8> =
        (0..100_000u32).flat_map(|line| format!("line {line}\n").into_bytes()).collect();
    fs::write(&source, text).unwrap();
    sync(&scratch, &source, &target).run().expect_ok();
    let damage = || {
        let file = OpenOptions::new().write(true).open(&target).unwrap();
        file.write_all_at(&[0x5a; 500], 4096 + 2 * 131_072 + 600).unwrap();
    };
    damage();
    blockprint(&scratch).arg("compare").arg(&source).arg(&target).run().expect_exit(18);
    let result = sync(&scratch, &source, &target).arg("--json").run().expect_ok().result();
    assert_eq!(result["repaired"][0]["offset"], 2 * 131_071, "{result}");
    assert_eq!(result["repaired_bytes"], 131_071, "{result}");
    assert_eq!(result["data_bytes"], 131_071, "{result}");
    assert_image(&scratch, &source, &target);
    damage();
    let outcome = sync(&scratch, &source, &target).arg("--dry-run").run().expect_ok();
    assert!(
        outcome.stdout.contains("damaged blocks of the target would be made anew"),
        "{outcome}"
    );
    let outcome = sync(&scratch, &source, &target).run().expect_ok();
    assert!(outcome.stdout.contains("damaged blocks of the target made anew"), "{outcome}");
    let outcome = sync(&scratch, &source, &target).run().expect_ok();
    assert!(!outcome.stdout.contains("damaged"), "{outcome}");
}

#[test]
fn a_device_that_is_too_small_or_in_use_is_refused_before_a_write() {
    let Some(scratch) = require(&Needs::root().filesystems(&["ext4"])) else { return };
    let (source, disk) = (scratch.join("source"), scratch.join("disk"));
    make_noise(&source, 8, 4 * MIB);
    make_noise(&disk, 9, 4 * MIB - 512);
    let before = fs::read(&disk).unwrap();
    let device = LoopDevice::attach(&disk, &LoopOptions::default());
    for more in [&[][..], &["--dry-run"]] {
        let outcome = sync(&scratch, &source, device.path()).args(more).run();
        assert_refused(outcome, 14, &["too small", "which is 512 bytes"]);
    }
    for (more, part) in [
        (&["--atomic"][..], "only a file can be replaced"),
        (&["--format", "spgz"], "a container is a file"),
        (&["--block-size", "64K"], "a block size is for containers"),
    ] {
        let small = scratch.join("small");
        make_noise(&small, 10, 512);
        assert_refused(sync(&scratch, &small, device.path()).args(more).run(), 17, &[part]);
    }
    // The file below an attached device, and the device of a source.
    let outcome = sync(&scratch, &source, &disk).run();
    assert_refused(outcome, 13, &["attached as"]);
    assert_refused(sync(&scratch, &disk, device.path()).run(), 17, &["are the same"]);
    drop(device);
    assert!(fs::read(&disk).unwrap() == before);

    let mounted = scratch.join("mounted");
    make_image("ext4", &mounted, 8 * MIB);
    let filesystem = Filesystem::mount(&mounted);
    for target in [filesystem.device(), &mounted] {
        for more in [&[][..], &["--atomic"], &["--dry-run"]] {
            let outcome = sync(&scratch, &source, target).args(more).run();
            assert_refused(outcome, 13, &["mounted"]);
        }
    }
    let whole = scratch.join("whole");
    let partitioned = attach_two_partitions(&whole);
    let mount = testkit::host::Mount::new(&partitioned.partition(2), "ro");
    assert_refused(sync(&scratch, &source, partitioned.path()).run(), 13, &["mounted"]);
    drop(mount);
}

#[test]
fn an_atomic_target_is_another_file_with_the_old_ones_owner_and_blocks() {
    let Some(scratch) = require(&Needs::root().filesystems(&["xfs", "btrfs", "ext4"])) else {
        return;
    };
    for (kind, outer) in [
        ("xfs", Filesystem::xfs(512 * MIB)),
        ("btrfs", Filesystem::btrfs(512 * MIB)),
        ("ext4", Filesystem::ext4(256 * MIB)),
    ] {
        for name in ["target", "target.spgz"] {
            let (source, target) = (scratch.join("source"), outer.path().join(name));
            let old = outer.path().join("old");
            make(&source, 11, &[Part::Noise(12 * MIB), Part::Hole(4 * MIB), Part::Noise(4 * MIB)]);
            // Nothing there yet: as any new file.
            sync(&scratch, &source, &target).arg("--atomic").run().expect_ok();
            fs::set_permissions(&target, fs::Permissions::from_mode(0o612)).unwrap();
            std::os::unix::fs::chown(&target, Some(1234), Some(4321)).unwrap();
            fs::hard_link(&target, &old).unwrap();
            let before = fs::read(&old).unwrap();
            overwrite(&source, 5 * MIB, b"changed");
            let file = OpenOptions::new().write(true).open(&source).unwrap();
            file.set_len(18 * MIB + 5).unwrap();
            let free = |when: &str| {
                run(tool("sync").arg("--file-system").arg(outer.path()));
                let text = run(tool("stat").args(["-f", "-c", "%f %S"]).arg(outer.path()));
                let product = text
                    .split_whitespace()
                    .map(|word| word.parse::<u64>().unwrap())
                    .product::<u64>();
                assert!(product > 0, "{when}");
                product
            };
            let free_before = free("before");
            let outcome = sync(&scratch, &source, &target).args(["--atomic", "--json"]).run();
            let outcome = outcome.expect_ok();
            let written = outcome.result()["data_bytes"].as_u64().unwrap();
            assert!(written <= 300 * KIB, "{kind}: {outcome}");
            assert_image(&scratch, &source, &target);
            assert!(fs::read(&old).unwrap() == before, "{kind}: the old file was changed");
            let now = fs::metadata(&target).unwrap();
            assert_ne!(now.ino(), fs::metadata(&old).unwrap().ino());
            assert_eq!((now.mode() & 0o777, now.uid(), now.gid()), (0o612, 1234, 4321));
            let notes = outcome.events("note").len();
            if kind == "ext4" {
                assert_eq!(notes, 1, "{outcome}");
            } else {
                assert_eq!(notes, 0, "{outcome}");
                let taken = free_before.saturating_sub(free("after"));
                assert!(taken < 6 * MIB, "{kind}: blocks are not shared: {taken} bytes");
            }
            assert_eq!(names(outer.path()), ["old", name]);
            assert!(allocated(&target) < 19 * MIB);
            fs::remove_file(&old).unwrap();
            fs::remove_file(&target).unwrap();
        }
    }
}

#[test]
fn a_clone_says_what_changed_and_is_believed_only_for_what_was_synced_from_it() {
    let Some(scratch) = require(&Needs::root().filesystems(&["xfs"])) else { return };
    let outer = Filesystem::xfs(512 * MIB);
    let [source, clone] = ["source", "clone"].map(|name| outer.path().join(name));
    make(&source, 12, &[Part::Noise(8 * MIB), Part::Hole(4 * MIB), Part::Noise(MIB)]);
    let since = |target: &std::path::Path| {
        sync(&scratch, &source, target).arg("--since").arg(&clone).arg("--json")
    };
    for name in ["target", "target.spgz"] {
        let target = scratch.join(name);
        sync(&scratch, &source, &target).run().expect_ok();
        run(tool("cp").arg("--reflink=always").arg(&source).arg(&clone));
        overwrite(&source, 3 * MIB + 5, b"changed");
        overwrite(&source, 10 * MIB, &[1; 100]);
        OpenOptions::new().write(true).open(&source).unwrap().set_len(14 * MIB).unwrap();
        overwrite(&source, 14 * MIB - 3, b"end");
        for more in [&[][..], &["--atomic"]] {
            let result = since(&target).args(more).arg("--dry-run").run().expect_ok().result();
            assert!(result["compared_bytes"].as_u64().unwrap() <= MIB + 64 * KIB, "{result}");
            assert!(result["assumed_bytes"].as_u64().unwrap() >= 12 * MIB, "{result}");
        }
        let outcome = since(&target).arg("--atomic").run().expect_ok();
        assert!(outcome.result()["assumed_bytes"].as_u64().unwrap() >= 12 * MIB);
        assert_image(&scratch, &source, &target);
        // Now it is no more what the clone was.
        assert_refused_json(&since(&target).run(), "changed", "is not what it was");
        let nothing = scratch.join("nothing");
        assert_refused_json(&since(&nothing).run(), "invalid", "leave --since out");
        let outcome = sync(&scratch, &source, &clone).arg("--since").arg(&clone).run();
        assert_refused(outcome, 17, &["are the same"]);
        OpenOptions::new().write(true).open(&source).unwrap().set_len(13 * MIB).unwrap();
    }
}

#[track_caller]
fn assert_refused_json(outcome: &testkit::host::Outcome, kind: &str, part: &str) {
    let error = outcome.events("error").remove(0);
    assert_eq!(error["kind"], kind, "{outcome}");
    assert!(error["message"].as_str().unwrap().contains(part), "{outcome}");
}
