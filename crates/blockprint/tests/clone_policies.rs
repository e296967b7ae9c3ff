//! What `blockprint clone` refuses, what a clone looks like, and what happens where blocks cannot be shared.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use testkit::host::{self, Filesystem, LoopDevice, LoopOptions, Outcome, Program, run, tool};

use crate::live::{self, Live, Outer, clone};
use crate::support::{MIB, allocated, assert_same, make_mixed, names};

/// Panics unless it ended with that code and said these words.
#[track_caller]
fn refused(program: Program, code: i32, words: &str) -> Outcome {
    let outcome = program.spawn().wait_at_most(Duration::from_secs(20)).expect_exit(code);
    let sentence = outcome.events("error")[0]["message"].as_str().unwrap().to_string();
    assert!(sentence.contains(words), "{words}: {outcome}");
    outcome
}

/// An XFS with an image of nothing special.
#[track_caller]
fn idle() -> (Filesystem, PathBuf) {
    let outer = Outer::Xfs.make();
    let image = outer.path().join("a.img");
    make_mixed(&image, 1, 1);
    (outer, image)
}

#[test]
fn a_file_is_replaced_only_by_force_and_only_as_a_whole() {
    let Some(_scratch) = live::scratch() else { return };
    let (outer, image) = idle();
    let target = outer.path().join("clone.img");
    fs::write(&target, "old").unwrap();
    refused(clone(&[&image], &target), 11, "--force replaces it");
    assert_eq!(fs::read(&target).unwrap(), b"old");
    let killed = clone(&[&image], &target).arg("--force");
    let killed = killed.env("BLOCKPRINT_DEBUG_KILL_AT", "publishing").run();
    assert_eq!(killed.signal(), Some(9));
    assert_eq!(fs::read(&target).unwrap(), b"old");
    let old = File::open(&target).unwrap();
    clone(&[&image], &target).arg("--force").run().expect_ok();
    assert_same(&image, &target);
    assert_eq!(old.metadata().unwrap().len(), 3, "who has the old file open still has it");
    assert_eq!(names(outer.path()), ["a.img", "clone.img"]);
}

#[test]
fn a_target_that_appears_during_the_clone_is_not_replaced() {
    let Some(_scratch) = live::scratch() else { return };
    let (outer, image) = idle();
    let target = outer.path().join("clone.img");
    let running = live::stopped_at(clone(&[&image], &target), "publishing");
    fs::write(&target, "somebody else's").unwrap();
    running.signal("CONT");
    running.wait().expect_exit(11);
    assert_eq!(fs::read(&target).unwrap(), b"somebody else's");
    assert_eq!(names(outer.path()), ["a.img", "clone.img"]);
}

#[test]
fn a_target_in_use_is_not_replaced() {
    let Some(_scratch) = live::scratch() else { return };
    let (outer, image) = idle();
    let target = outer.path().join("clone.img");
    host::make_image("ext4", &target, 16 * MIB);
    let device = LoopDevice::attach(&target, &LoopOptions::default());
    refused(clone(&[&image], &target).arg("--force"), 13, "attached as");
    drop(device);
    let _mounted = Filesystem::mount(&target);
    refused(clone(&[&image], &target).arg("--force"), 13, "mounted at");
}

#[test]
fn a_source_is_never_its_own_or_another_clones_target() {
    let Some(_scratch) = live::scratch() else { return };
    let (outer, image) = idle();
    let [hard, soft, other] = ["hard.img", "soft.img", "b.img"].map(|name| outer.path().join(name));
    fs::hard_link(&image, &hard).unwrap();
    symlink("a.img", &soft).unwrap();
    make_mixed(&other, 2, 1);
    for same in [&image, &hard, &soft] {
        refused(clone(&[&image], same).arg("--force"), 17, "is the source itself");
        refused(clone(&[&image], outer.path()).arg("--force"), 17, "is the source itself");
    }
    let folder = outer.path().join("folder");
    fs::create_dir(&folder).unwrap();
    // The first clone would take the place of the second source.
    symlink("../b.img", folder.join("a.img")).unwrap();
    let before = fs::read(&other).unwrap();
    refused(clone(&[&image, &other], &folder).arg("--force"), 17, "is the source");
    assert!(fs::read(&other).unwrap() == before);
    assert_eq!(names(&folder), ["a.img"]);
}

#[test]
fn two_clones_of_one_name_are_refused() {
    let Some(_scratch) = live::scratch() else { return };
    let (outer, image) = idle();
    let [one, two, folder] = ["one", "two", "folder"].map(|name| outer.path().join(name));
    for made in [&one, &two, &folder] {
        fs::create_dir(made).unwrap();
    }
    let [a, b] = [one.join("disk.img"), two.join("disk.img")];
    fs::copy(&image, &a).unwrap();
    fs::copy(&image, &b).unwrap();
    refused(clone(&[&a, &b], &folder), 17, "two clones would be");
    // The same by way of a link.
    fs::rename(&b, two.join("other.img")).unwrap();
    fs::write(folder.join("disk.img"), "old").unwrap();
    symlink("disk.img", folder.join("other.img")).unwrap();
    refused(
        clone(&[&a, &two.join("other.img")], &folder).arg("--force"),
        17,
        "two clones would be",
    );
    assert_eq!(fs::read(folder.join("disk.img")).unwrap(), b"old");
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let Some(scratch) = live::scratch() else { return };
    let (outer, image) = idle();
    let target = outer.path().join("clone.img");
    let pipe = scratch.join("pipe");
    run(tool("mkfifo").arg(&pipe));
    let device = LoopDevice::attach(&image, &LoopOptions::default());
    for source in [&*pipe, scratch.path(), Path::new("/dev/null"), device.path()] {
        refused(clone(&[source], &target), 17, "only image files can be cloned");
    }
    refused(clone(&[&scratch.join("missing")], &target), 10, "missing");
    for place in [&*pipe, Path::new("/dev/null"), device.path()] {
        refused(clone(&[&image], place).arg("--force"), 17, "is no regular file");
    }
    assert_eq!(names(outer.path()), ["a.img"]);
}

#[test]
fn folders_are_told_from_files() {
    let Some(_scratch) = live::scratch() else { return };
    let (outer, image) = idle();
    let folder = outer.path().join("folder");
    let other = outer.path().join("b.img");
    fs::copy(&image, &other).unwrap();
    let with_slash = PathBuf::from(format!("{}/", folder.display()));
    refused(clone(&[&image, &other], &folder), 10, "there is no folder");
    refused(clone(&[&image], &with_slash), 10, "there is no folder");
    refused(clone(&[&image, &other], &image), 17, "is no folder");
    refused(clone(&[&image], &outer.path().join("no/such/clone")).arg("--dry-run"), 10, "no/such");
    fs::create_dir(&folder).unwrap();
    clone(&[&image, &other], &folder).run().expect_ok();
    clone(&[&image], &with_slash).arg("--force").run().expect_ok();
    assert_eq!(names(&folder), ["a.img", "b.img"]);
    assert_same(&image, &folder.join("a.img"));
}

#[test]
fn a_clone_has_the_mode_and_owner_of_its_source() {
    let Some(_scratch) = live::scratch() else { return };
    for outer in Outer::BOTH {
        let outer = outer.make();
        let (image, target) = (outer.path().join("a.img"), outer.path().join("clone.img"));
        make_mixed(&image, 1, 1);
        chown(&image, Some(1234), Some(4321)).unwrap();
        for mode in [0o600, 0o444, 0o751, 0o6755] {
            fs::set_permissions(&image, Permissions::from_mode(mode)).unwrap();
            clone(&[&image], &target).arg("--force").run().expect_ok();
            let clone = fs::metadata(&target).unwrap();
            assert_eq!((clone.uid(), clone.gid(), clone.mode() & 0o7777), (1234, 4321, mode));
        }
    }
}

#[test]
fn a_link_that_leads_nowhere_yet_is_followed() {
    let Some(_scratch) = live::scratch() else { return };
    let (outer, image) = idle();
    let link = outer.path().join("latest.img");
    symlink("clone.img", &link).unwrap();
    clone(&[&image], &link).run().expect_ok();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_same(&image, &outer.path().join("clone.img"));
    refused(clone(&[&image], &link), 11, "exists already");
    clone(&[&image], &link).arg("--force").run().expect_ok();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[test]
fn an_image_of_a_btrfs_without_copy_on_write_is_shared_all_the_same() {
    let Some(_scratch) = live::scratch() else { return };
    let outer = Outer::Btrfs.make();
    let image = outer.path().join("a.img");
    fs::write(&image, "").unwrap();
    // As libvirt and others set it for disk images; a new file in this folder does not have it.
    run(tool("chattr").arg("+C").arg(&image));
    make_mixed(&image, 1, 1);
    let target = outer.path().join("clone.img");
    clone(&[&image], &target).arg("--reflink=always").run().expect_ok();
    assert_same(&image, &target);
}

#[test]
fn where_blocks_cannot_be_shared_an_idle_image_is_copied_sparse_and_a_mounted_one_refused() {
    let Some(scratch) = live::scratch() else { return };
    let outer = Filesystem::ext4(256 * MIB);
    let (image, target) = (outer.path().join("a.img"), outer.path().join("clone.img"));
    make_mixed(&image, 1, 2);
    for (reflink, code) in [("auto", 0), ("never", 0), ("always", 16)] {
        let program = clone(&[&image], &target).args(["--reflink", reflink]);
        let outcome = program.run().expect_exit(code);
        if code == 0 {
            assert_eq!(outcome.result()["clones"][0]["method"], "copy", "{outcome}");
            assert_same(&image, &target);
            assert!(allocated(&target) < 6 * MIB, "zeroes were written");
            fs::remove_file(&target).unwrap();
        }
        assert_eq!(names(outer.path()), ["a.img"]);
    }
    let mounted = outer.path().join("mounted.img");
    host::make_image("ext4", &mounted, 16 * MIB);
    let inner = Filesystem::mount(&mounted);
    for reflink in ["auto", "never", "always"] {
        let program = clone(&[&mounted], &target).args(["--reflink", reflink]);
        refused(program, 16, "unmount it first");
        live::assert_takes_a_write(inner.path());
        assert_eq!(names(outer.path()), ["a.img", "mounted.img"]);
    }
    // The same from one filesystem to another.
    let (_xfs, image) = idle();
    let target = scratch.join("clone.img");
    refused(clone(&[&image], &target).arg("--reflink=always"), 16, "filesystem of its source");
    clone(&[&image], &target).run().expect_ok();
    assert_same(&image, &target);
}

#[test]
fn a_dry_run_names_what_would_be_frozen_and_writes_nothing() {
    let Some(_scratch) = live::scratch() else { return };
    let live = Live::start(Outer::Xfs);
    let target = live.beside("clone.img");
    let outcome = live.clone_to(&target).arg("--dry-run").run().expect_ok();
    let plans = outcome.events("plan");
    assert_eq!(plans.len(), 1, "{outcome}");
    let mount_point = live.inner.path().to_string_lossy().into_owned();
    assert_eq!(plans[0]["filesystems"][0]["mount_point"], mount_point, "{outcome}");
    assert_eq!(plans[0]["clones"][0]["target"], target.to_string_lossy().into_owned());
    live.assert_nothing_but(&[]);
}

#[test]
fn a_result_has_all_its_fields() {
    let Some(_scratch) = live::scratch() else { return };
    let live = Live::start(Outer::Btrfs);
    let target = live.beside("clone.img");
    let outcome = live.clone_to(&target).run().expect_ok();
    let result = outcome.result();
    let text = |path: &Path| path.to_string_lossy().into_owned();
    assert_eq!(result["command"], "clone");
    assert_eq!(result["clones"].as_array().unwrap().len(), 1);
    assert_eq!(result["clones"][0]["source"], text(&live.image));
    assert_eq!(result["clones"][0]["target"], text(&target));
    assert_eq!(result["clones"][0]["size_bytes"], 64 * MIB);
    assert_eq!(result["clones"][0]["method"], "reflink");
    assert_eq!(result["filesystems"][0]["filesystem"], "ext4");
    assert_eq!(result["filesystems"][0]["mount_point"], text(live.inner.path()));
    assert_eq!(result["filesystems"][0]["device"], text(live.inner.device()));
    let (frozen, elapsed) = (result["frozen_ms"].as_f64(), result["elapsed_ms"].as_f64());
    assert!(frozen > Some(0.0) && frozen < elapsed, "{outcome}");
}

#[test]
fn somebody_who_is_not_root_clones_idle_images_and_is_told_what_a_live_one_needs() {
    let Some(_scratch) = live::scratch() else { return };
    let live = Live::start(Outer::Xfs);
    fs::set_permissions(live.outer.path(), Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(&live.image, Permissions::from_mode(0o644)).unwrap();
    // A program that nobody may reach, below /root for instance, is of no use here.
    let program = live.beside("blockprint");
    fs::copy(env!("CARGO_BIN_EXE_blockprint"), &program).unwrap();
    let as_nobody = |source: &Path, target: &Path| {
        Program::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program)
            .args(["clone", "--json"])
            .args([source, target])
    };
    let idle = live.beside("idle.img");
    make_mixed(&idle, 1, 1);
    fs::set_permissions(&idle, Permissions::from_mode(0o4644)).unwrap();
    let target = live.beside("clone.img");
    as_nobody(&idle, &target).run().expect_ok();
    assert_same(&idle, &target);
    let made = fs::metadata(&target).unwrap();
    // It is nobody's own, and so does not act in the name of root's.
    assert_eq!((made.uid(), made.mode() & 0o7777), (65534, 0o644));
    fs::remove_file(&target).unwrap();
    refused(as_nobody(&live.image, &target), 12, "only root may freeze");
    live.assert_writable("nobody tried to freeze it");
    live.assert_nothing_but(&["blockprint", "idle.img"]);
}

#[test]
fn an_empty_image_and_one_of_odd_size_are_cloned() {
    let Some(_scratch) = live::scratch() else { return };
    for outer in Outer::BOTH {
        let outer = outer.make();
        for len in [0, 1, 511, 4097, 3_000_001] {
            let image = outer.path().join(format!("{len}.img"));
            fs::write(&image, vec![5; len]).unwrap();
            let target = outer.path().join("clone.img");
            clone(&[&image], &target).arg("--force").run().expect_ok();
            assert_same(&image, &target);
            assert_eq!(fs::metadata(&target).unwrap().len(), len as u64);
        }
    }
}
