//! A power cut while a clone is published leaves it complete or not there; once published, it stays.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use testkit::host::{Filesystem, LoopOptions, run, tool};

use crate::clone_catchup::make_fragmented;
use crate::live::{self, Outer, clone, reflink};
use crate::support::{MIB, assert_same, make_mixed, names};

/// What must be found under the clone's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Clone,
    NothingOrClone,
    OldOrClone,
}

/// Panics unless `folder` shows what is legal after a power cut.
#[track_caller]
fn assert_legal(folder: &Path, source: &Path, found: Found, when: &str) {
    let target = folder.join("clone.img");
    let is_old = fs::read(&target).is_ok_and(|bytes| bytes == b"old");
    match found {
        Found::Nothing => assert!(!target.exists(), "{when}: it is there"),
        Found::Clone => assert!(target.exists(), "{when}: it is gone"),
        Found::NothingOrClone => {}
        Found::OldOrClone => assert!(target.exists(), "{when}: neither old nor new is there"),
    }
    if target.exists() && !(is_old && found == Found::OldOrClone) {
        assert_eq!(
            fs::metadata(&target).unwrap().len(),
            fs::metadata(source).unwrap().len(),
            "{when}"
        );
        assert_same(source, &target);
    }
}

#[test]
fn a_power_cut_on_xfs_leaves_a_clone_whole_or_absent() {
    let Some(scratch) = live::scratch() else { return };
    let outer = Outer::Xfs.make();
    let (image, witness) = (outer.path().join("disk.img"), scratch.join("witness.img"));
    let target = outer.path().join("clone.img");
    make_mixed(&image, 1, 2);
    fs::copy(&image, &witness).unwrap();
    run(tool("sync").arg("-f").arg(outer.path()));
    let cut_and_remount = || {
        // Drops what is only in memory, the log included.
        run(tool("xfs_io").args(["-x", "-c", "shutdown"]).arg(outer.path()));
        run(tool("umount").arg(outer.path()));
        run(tool("mount").arg(outer.device()).arg(outer.path()));
    };
    for force in [false, true] {
        for (step, found) in [("publishing", Found::Nothing), ("published", Found::Clone)] {
            let mut program = clone(&[&image], &target).env("BLOCKPRINT_DEBUG_KILL_AT", step);
            let mut found = found;
            if force {
                fs::write(&target, "old").unwrap();
                run(tool("sync").arg("-f").arg(outer.path()));
                program = program.arg("--force");
                found = if step == "published" { Found::Clone } else { Found::OldOrClone };
            }
            assert_eq!(program.run().signal(), Some(9));
            cut_and_remount();
            assert_legal(outer.path(), &witness, found, step);
            let _ = fs::remove_file(&target);
        }
    }
    for round in 0..8 {
        let running = clone(&[&image], &target).spawn();
        thread::sleep(Duration::from_millis(fastrand::u64(..25)));
        // Asked before the cut: an fsync that the cut runs into may return success for what is lost, which nobody
        // would hear of if the power were really gone.
        let published = running.stdout().contains(r#""event":"result""#);
        run(tool("xfs_io").args(["-x", "-c", "shutdown"]).arg(outer.path()));
        running.wait();
        run(tool("umount").arg(outer.path()));
        run(tool("mount").arg(outer.device()).arg(outer.path()));
        let found = if published { Found::Clone } else { Found::NothingOrClone };
        assert_legal(outer.path(), &witness, found, &format!("cut {round}"));
        let _ = fs::remove_file(&target);
        run(tool("sync").arg("-f").arg(outer.path()));
    }
}

#[test]
fn a_power_cut_on_btrfs_leaves_a_clone_whole_or_absent() {
    let Some(_scratch) = live::scratch() else { return };
    for (force, how) in [(false, "always"), (true, "always"), (false, "never")] {
        cut_btrfs(force, how);
    }
}

/// Takes a picture of the disk below a Btrfs at each step, and at many moments while the clone is made: each is what
/// a power cut could leave. All of them are mounted afterwards, one by one.
fn cut_btrfs(force: bool, how: &str) {
    let disks = Filesystem::xfs(2048 * MIB);
    let disk = disks.path().join("btrfs.img");
    testkit::host::make_image("btrfs", &disk, 512 * MIB);
    let witness = disks.path().join("witness.img");
    let picture = |name: &str| {
        let path = disks.path().join(name);
        reflink(&disk, &path);
        path
    };
    let mut pictures: Vec<(PathBuf, Found, String)> = Vec::new();
    {
        let outer = Filesystem::mount_with(&disk, &LoopOptions::default(), "");
        let (image, target) = (outer.path().join("disk.img"), outer.path().join("clone.img"));
        make_fragmented(&image);
        fs::copy(&image, &witness).unwrap();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            // Somebody else makes the folder durable all the time.
            scope.spawn(|| {
                let folder = File::open(outer.path()).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    fs::write(outer.path().join("other"), "x").unwrap();
                    folder.sync_all().unwrap();
                    thread::sleep(Duration::from_millis(1));
                }
            });
            let _stop = OnDrop(&stop);
            for (step, found) in [("publishing", Found::Nothing), ("published", Found::Clone)] {
                let mut found = found;
                let mut program = clone(&[&image], &target).args(["--reflink", how]);
                if force {
                    fs::write(&target, "old").unwrap();
                    run(tool("sync").arg("-f").arg(outer.path()));
                    program = program.arg("--force");
                    found = if step == "published" { Found::Clone } else { Found::OldOrClone };
                }
                let running = live::stopped_at(program, step);
                pictures.push((picture(step), found, step.to_string()));
                running.signal("CONT");
                for number in 0..6 {
                    let name = format!("{step}-{number}");
                    let found = match (step, force) {
                        ("published", _) => Found::Clone,
                        (_, true) => Found::OldOrClone,
                        (_, false) => Found::NothingOrClone,
                    };
                    pictures.push((picture(&name), found, name));
                }
                running.wait().expect_ok();
                fs::remove_file(&target).unwrap();
                run(tool("sync").arg("-f").arg(outer.path()));
            }
        });
    }
    for (path, found, when) in pictures {
        let cut = Filesystem::mount_with(&path, &LoopOptions::default(), "");
        assert_legal(cut.path(), &witness, found, &format!("{when}, force {force}, reflink {how}"));
        let mut rest = names(cut.path());
        rest.retain(|name| !["clone.img", "disk.img", "other"].contains(&name.as_str()));
        // A temporary name beside the old file is all that may be left.
        assert!(
            rest.is_empty() || force && rest.iter().all(|name| name.ends_with(".tmp")),
            "{rest:?}"
        );
        drop(cut);
        fs::remove_file(path).unwrap();
    }
}

/// Ends the threads of a scope, also when the test fails.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
