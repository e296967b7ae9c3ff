//! `blockprint sync` when something goes wrong: killed at any moment, full disks, changing sources, two at once.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use testkit::host::{Filesystem, Needs, Program, TempDir, fill_disk, require, run, tool};

use crate::judges::quick_folder;
use crate::support::{
    MIB, Part, assert_refused, assert_same, copy, journal_of, make, make_mixed, make_noise, names,
    overwrite, partial_of, until, until_stopped,
};
use crate::sync::{assert_image, sync};

/// An old image and a new one, and what is to become a target.
struct Scene {
    scratch: TempDir,
    old: PathBuf,
    new: PathBuf,
}

impl Scene {
    fn new(scratch: TempDir) -> Self {
        let (old, new) = (scratch.join("old"), scratch.join("new"));
        make_mixed(&old, 1, 2);
        fs::copy(&old, &new).unwrap();
        for (at, len) in [(0, 5), (MIB, 300_000), (4 * MIB - 7, 100), (7 * MIB, MIB as usize)] {
            overwrite(&new, at, &vec![7; len]);
        }
        overwrite(&new, 5 * MIB, &vec![0; MIB as usize]);
        fs::OpenOptions::new().write(true).open(&new).unwrap().set_len(9 * MIB + 11).unwrap();
        Scene { scratch, old, new }
    }

    /// The target as it was before.
    fn reset(&self, target: &Path, is_there: bool) {
        for path in [target.to_owned(), partial_of(target)] {
            let _ = fs::remove_file(path);
        }
        if is_there {
            sync(&self.scratch, &self.old, target).run().expect_ok();
        }
    }

    fn call(&self, target: &Path, more: &[&str]) -> Program {
        sync(&self.scratch, &self.new, target).args(more)
    }

    /// After a kill: an atomic target is the old or the new image, a new file is absent or complete, and the same again
    /// ends equal and leaves nothing beside it.
    #[track_caller]
    fn check(&self, target: &Path, more: &[&str], was_there: bool, when: &str) {
        if more.contains(&"--atomic") || !was_there {
            assert_eq!(target.exists() || was_there, target.exists(), "{when}: it is gone");
            if target.exists() {
                let unpacked = self.scratch.join("looked-at");
                sync(&self.scratch, target, &unpacked).run().expect_ok();
                let found = fs::read(&unpacked).unwrap();
                let is_new = found == fs::read(&self.new).unwrap();
                let is_old = was_there && found == fs::read(&self.old).unwrap();
                assert!(is_new || is_old, "{when}: neither the old nor the new image");
                fs::remove_file(unpacked).unwrap();
            }
        }
        self.call(target, more).run().expect_ok();
        assert_image(&self.scratch, &self.new, target);
        assert!(!partial_of(target).exists(), "{when}: a partial file is left");
    }
}

const STEPS: [&str; 9] = [
    "claimed",
    "begun",
    "written",
    "written:3",
    "written:6",
    "flushed",
    "renamed",
    "published",
    "done",
];

#[test]
fn killed_at_each_step_a_target_is_old_or_new_and_the_same_again_ends_equal() {
    let scene = Scene::new(quick_folder("sync-faults"));
    for (name, more, is_there) in [
        ("fresh", &[][..], false),
        ("fresh.spgz", &[], false),
        ("in-place", &[], true),
        ("in-place.spgz", &[], true),
        ("atomic", &["--atomic"], true),
        ("atomic.spgz", &["--atomic"], true),
    ] {
        let target = scene.scratch.join(name);
        let mut kills = 0;
        for step in STEPS {
            scene.reset(&target, is_there);
            let call = scene.call(&target, more).env("BLOCKPRINT_DEBUG_KILL_AT", step);
            let outcome = call.run();
            kills += u32::from(outcome.signal() == Some(9));
            scene.check(&target, more, is_there, &format!("{name} killed at {step}"));
        }
        // In place nothing is renamed; a container has fewer writes.
        assert!(kills >= 5, "{name} was killed only {kills} times");
    }
}

#[test]
fn killed_at_random_moments_an_atomic_target_is_old_or_new() {
    let Some(scratch) = require(&Needs::root().filesystems(&["xfs"])) else { return };
    let outer = Filesystem::xfs(512 * MIB);
    let scene = Scene::new(scratch);
    let target = outer.path().join("target");
    let mut random = fastrand::Rng::with_seed(3);
    scene.reset(&target, true);
    let start = std::time::Instant::now();
    scene.call(&target, &["--atomic"]).run().expect_ok();
    let whole = start.elapsed();
    for round in 0..10 {
        scene.reset(&target, true);
        let running = scene.call(&target, &["--atomic"]).spawn();
        thread::sleep(whole.mul_f64(random.f64()));
        running.signal("KILL");
        running.wait();
        scene.check(&target, &["--atomic"], true, &format!("round {round}"));
    }
}

#[test]
fn a_full_disk_is_said_and_what_was_synced_is_gone_on_with() {
    let Some(scratch) = require(&Needs::root().filesystems(&["ext4"])) else { return };
    let source = scratch.join("source");
    make_noise(&source, 4, 12 * MIB);
    let filesystem = Filesystem::ext4(32 * MIB);
    let target = filesystem.path().join("target");
    let room = filesystem.path().join("room");
    make_noise(&room, 5, 6 * MIB);
    let filler = fill_disk(filesystem.path());
    fs::remove_file(&room).unwrap();
    run(tool("sync").arg("--file-system").arg(filesystem.path()));
    let partial = partial_of(&target).display().to_string();
    let parts = ["No space left on device", "is kept in", &partial, "goes on from it"];
    assert_refused(sync(&scratch, &source, &target).run(), 15, &parts);
    assert!(!target.exists(), "an incomplete file was published");
    fs::remove_file(filler).unwrap();
    run(tool("sync").arg("--file-system").arg(filesystem.path()));
    let result = sync(&scratch, &source, &target).arg("--json").run().expect_ok().result();
    let written = result["data_bytes"].as_u64().unwrap();
    assert!(written <= 10 * MIB, "it began again: {result}");
    assert_same(&source, &target);
    assert_eq!(names(filesystem.path()), ["target"]);
}

#[test]
fn an_atomic_sync_without_space_for_its_copy_changes_nothing() {
    let Some(scratch) = require(&Needs::root().filesystems(&["ext4"])) else { return };
    let source = scratch.join("source");
    make_noise(&source, 6, 12 * MIB);
    let filesystem = Filesystem::ext4(32 * MIB);
    let target = filesystem.path().join("target");
    make_noise(&target, 7, 12 * MIB);
    let before = fs::read(&target).unwrap();
    let _filler = fill_disk(filesystem.path());
    let outcome = sync(&scratch, &source, &target).arg("--atomic").run();
    assert_refused(outcome, 15, &["No space left on device", "nothing was changed"]);
    assert!(fs::read(&target).unwrap() == before);
    assert!(!partial_of(&target).exists());
}

#[test]
fn a_source_that_is_written_meanwhile_is_refused_at_the_end() {
    let scratch = TempDir::new("sync-faults");
    let (source, target) = (scratch.join("source"), scratch.join("target"));
    make_mixed(&source, 8, 2);
    make_noise(&target, 9, MIB);
    let before = fs::read(&target).unwrap();
    let call = sync(&scratch, &source, &target).arg("--atomic");
    let running = call.env("BLOCKPRINT_DEBUG_STOP_AT", "begun").spawn();
    until_stopped(&running);
    overwrite(&source, 5000, b"one byte is enough");
    running.signal("CONT");
    let shown = source.display().to_string();
    let parts = [&shown, "was written to while it was synced", "is kept in"];
    assert_refused(running.wait(), 19, &parts);
    assert!(fs::read(&target).unwrap() == before);
    sync(&scratch, &source, &target).arg("--atomic").run().expect_ok();
    assert_same(&source, &target);
    assert_eq!(names(scratch.path()), ["source", "target"]);
}

#[test]
fn the_second_of_two_syncs_to_one_target_is_refused() {
    let scratch = TempDir::new("sync-faults");
    let (source, target) = (scratch.join("source"), scratch.join("target"));
    make_noise(&source, 10, 2 * MIB);
    for (is_there, more) in [(false, &[][..]), (true, &[]), (true, &["--atomic"])] {
        if is_there {
            make_noise(&target, 11, MIB);
        }
        let call = || sync(&scratch, &source, &target).args(more);
        let first = call().env("BLOCKPRINT_DEBUG_STOP_AT", "begun").spawn();
        until_stopped(&first);
        for second in [call(), call().arg("--dry-run")] {
            assert_refused(second.run(), 13, &["is being written by another program"]);
        }
        first.signal("CONT");
        first.wait().expect_ok();
        assert_same(&source, &target);
        fs::remove_file(&target).unwrap();
    }
    assert_eq!(names(scratch.path()), ["source"]);
}

#[test]
fn a_file_that_appears_under_the_name_meanwhile_is_not_replaced() {
    let scratch = TempDir::new("sync-faults");
    let (source, target) = (scratch.join("source"), scratch.join("target"));
    make_noise(&source, 12, MIB);
    let running = sync(&scratch, &source, &target).env("BLOCKPRINT_DEBUG_STOP_AT", "begun").spawn();
    until_stopped(&running);
    fs::write(&target, "of somebody else").unwrap();
    running.signal("CONT");
    let shown = partial_of(&target).display().to_string();
    let parts = ["exists already", "the complete image is kept in", &shown];
    assert_refused(running.wait(), 11, &parts);
    assert_eq!(fs::read(&target).unwrap(), b"of somebody else");
    assert_same(&source, &partial_of(&target));
}

#[test]
fn what_an_interrupted_copy_left_is_gone_on_with_and_its_journal_is_forgotten() {
    let scratch = TempDir::new("sync-faults");
    let (source, target) = (scratch.join("source"), scratch.join("target"));
    make(&source, 13, &[Part::Noise(8 * MIB), Part::Hole(MIB)]);
    let call = copy(&scratch, &source, &target).args(["--limit", "8M"]);
    let running = call.env("BLOCKPRINT_DEBUG_CHECKPOINT_MS", "20").spawn();
    until("a journal is there", || journal_of(&target).exists());
    thread::sleep(Duration::from_millis(200));
    running.signal("KILL");
    running.wait();
    let result = sync(&scratch, &source, &target).arg("--json").run().expect_ok().result();
    assert!(result["data_bytes"].as_u64().unwrap() < 8 * MIB, "{result}");
    assert_same(&source, &target);
    assert_eq!(names(scratch.path()), ["source", "target"]);
}

#[test]
fn a_sync_that_is_told_to_stop_says_what_is_left() {
    let scratch = TempDir::new("sync-faults");
    let (source, target) = (scratch.join("source"), scratch.join("target"));
    make_noise(&source, 14, 8 * MIB);
    make_noise(&target, 15, 8 * MIB);
    let running = sync(&scratch, &source, &target).args(["--limit", "2M"]).spawn();
    thread::sleep(Duration::from_millis(300));
    running.signal("TERM");
    let outcome = running.wait_at_most(Duration::from_secs(30));
    let code = outcome.status.code().unwrap();
    assert_refused(outcome, code, &["interrupted", "mixture of old and new", "makes it right"]);
    assert_ne!(code, 0);
    sync(&scratch, &source, &target).run().expect_ok();
    assert_same(&source, &target);
}
