//! `blockprint copy` when something goes wrong: full disks, changing sources, read errors, lying media, signals.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::thread;
use std::time::Duration;

use testkit::host::{
    Filesystem, LoopDevice, LoopOptions, Needs, TempDir, drop_caches, fill_disk, require, run, tool,
};

use crate::support::{
    KIB, MIB, Part, assert_refused, assert_same, copy, journal_of, make, make_mixed, make_noise,
    names, overwrite, partial_of, until, until_stopped,
};

/// A small filesystem of that kind.
fn small(kind: &str) -> Filesystem {
    match kind {
        "ext4" => Filesystem::ext4(32 * MIB),
        "xfs" => Filesystem::xfs(320 * MIB),
        _ => Filesystem::btrfs(128 * MIB),
    }
}

#[test]
fn a_copy_onto_a_full_disk_says_what_is_kept_and_goes_on_when_there_is_space() {
    let Some(scratch) = require(&Needs::root().filesystems(&["ext4", "xfs", "btrfs"])) else {
        return;
    };
    let source = scratch.join("source");
    make_noise(&source, 60, 12 * MIB);
    for kind in ["ext4", "xfs", "btrfs"] {
        let filesystem = small(kind);
        // Room for some of it: what is taken away again of a disk that is full to the last block.
        let room = filesystem.path().join("room");
        make_noise(&room, 61, 6 * MIB);
        let filler = fill_disk(filesystem.path());
        fs::remove_file(&room).unwrap();
        run(tool("sync").arg("--file-system").arg(filesystem.path()));
        let target = filesystem.path().join("target");
        let partial = partial_of(&target).display().to_string();
        let parts = ["No space left on device", "is kept in", &partial, "--resume goes on"];
        let call = match kind {
            // Here the journal lasts that was written while there was space. The others make room for one.
            "btrfs" => copy(&scratch, &source, &target)
                .args(["--limit", "20M"])
                .env("BLOCKPRINT_DEBUG_CHECKPOINT_MS", "20"),
            _ => copy(&scratch, &source, &target),
        };
        assert_refused(call.run(), 15, &parts);
        assert!(!target.exists(), "{kind}: an incomplete copy was published");

        fs::remove_file(filler).unwrap();
        run(tool("sync").arg("--file-system").arg(filesystem.path()));
        let result =
            copy(&scratch, &source, &target).args(["--resume", "--json"]).run().expect_ok();
        let resumed = result.result()["resumed_bytes"].as_u64().unwrap();
        assert!(resumed >= 2 * MIB, "{kind}: only {resumed} bytes were kept");
        assert_same(&source, &target);
        assert_eq!(names(filesystem.path()), ["target"], "{kind}");
    }
}

#[test]
fn a_device_on_a_full_disk_fails_and_its_copy_goes_on_when_there_is_space() {
    let Some(scratch) = require(&Needs::root().filesystems(&["ext4"])) else { return };
    let source = scratch.join("source");
    make_noise(&source, 62, 12 * MIB);
    let filesystem = Filesystem::ext4(32 * MIB);
    let disk = filesystem.path().join("disk");
    make(&disk, 63, &[Part::Hole(12 * MIB)]);
    let room = filesystem.path().join("room");
    make_noise(&room, 64, 6 * MIB);
    let filler = fill_disk(filesystem.path());
    fs::remove_file(&room).unwrap();
    let device = LoopDevice::attach(&disk, &LoopOptions::default());
    let outcome = copy(&scratch, &source, device.path()).run();
    let shown = device.path().display().to_string();
    assert!(matches!(outcome.status.code(), Some(15 | 20)), "{outcome}");
    let code = outcome.status.code().unwrap();
    assert_refused(outcome, code, &[&shown]);
    fs::remove_file(filler).unwrap();
    let again = || copy(&scratch, &source, device.path()).args(["--resume", "--verify"]).run();
    let outcome = again();
    if outcome.status.code() == Some(18) {
        // The kernel's loop driver takes a write that was cut short for a whole one. Reading back finds that,
        // and what is known to be wrong is not taken for done.
        outcome.expect_error("does not hold what was copied to it");
        again().expect_ok();
    } else {
        outcome.expect_ok();
    }
    drop_caches();
    assert_same(&source, device.path());
}

#[test]
fn a_source_that_gets_shorter_is_refused_and_nothing_is_published() {
    let scratch = TempDir::new("faults");
    let (source, target) = (scratch.join("source"), scratch.join("target"));
    make_noise(&source, 65, 12 * MIB);
    let running = copy(&scratch, &source, &target).args(["--limit", "10M"]).spawn();
    until("it writes", || fs::metadata(partial_of(&target)).is_ok_and(|now| now.len() > 0));
    thread::sleep(Duration::from_millis(100));
    OpenOptions::new().write(true).open(&source).unwrap().set_len(3 * MIB).unwrap();
    let shown = source.display().to_string();
    let outcome = running.wait_at_most(Duration::from_secs(20));
    assert_refused(outcome, 19, &[&shown, "became shorter", "nothing was left behind"]);
    assert_eq!(names(scratch.path()), ["source"]);
}

#[test]
fn a_source_that_is_written_meanwhile_is_refused_at_the_end() {
    let scratch = TempDir::new("faults");
    let (source, target) = (scratch.join("source"), scratch.join("target"));
    make_mixed(&source, 66, 2);
    let call = || {
        let slow = copy(&scratch, &source, &target).env("BLOCKPRINT_DEBUG_STOP_AT", "created");
        slow.env("BLOCKPRINT_DEBUG_CHECKPOINT_MS", "50")
    };
    let running = call().spawn();
    until_stopped(&running);
    overwrite(&source, 5000, b"one byte is enough");
    running.signal("CONT");
    let shown = source.display().to_string();
    let parts = [&shown, "was written to", "blockprint clone", "nothing was left behind"];
    assert_refused(running.wait(), 19, &parts);
    assert_eq!(names(scratch.path()), ["source"]);
    // Replaced by another file: also that is not what was there.
    let running = call().spawn();
    until_stopped(&running);
    fs::remove_file(&source).unwrap();
    make_mixed(&source, 67, 2);
    running.signal("CONT");
    assert_refused(running.wait(), 19, &[&shown, "was written to"]);
    assert_eq!(names(scratch.path()), ["source"]);
}

/// A device of 4 MiB whose bytes from `good` on cannot be read, and its content.
fn failing_device(scratch: &TempDir, good: u64) -> (LoopDevice, Vec<u8>) {
    let disk = scratch.join("disk");
    make_noise(&disk, 68, 4 * MIB);
    let mut content = fs::read(&disk).unwrap();
    let device = LoopDevice::attach(&disk, &LoopOptions::default());
    OpenOptions::new().write(true).open(&disk).unwrap().set_len(good).unwrap();
    content[good as usize..].fill(0);
    (device, content)
}

const GOOD: u64 = 2 * MIB + 300 * KIB;

#[test]
fn a_read_error_ends_the_copy_and_its_place_is_named() {
    let Some(scratch) = require(&Needs::root()) else { return };
    let (device, _) = failing_device(&scratch, GOOD);
    let target = scratch.join("target");
    for more in [&[][..], &["--on-read-error", "stop"]] {
        let outcome = copy(&scratch, device.path(), &target).args(more).arg("--json").run();
        let error = outcome.expect_exit(20).events("error").remove(0);
        assert_eq!(error["kind"], "io");
        assert_eq!(error["location"]["name"], device.path().display().to_string());
        let offset = error["location"]["offset"].as_u64().unwrap();
        let len = error["location"]["len_bytes"].as_u64().unwrap();
        assert!(offset + len > GOOD, "{error}");
        let outcome = copy(&scratch, device.path(), &target).args(more).run();
        let shown = device.path().display().to_string();
        assert_refused(outcome, 20, &[&shown, "offset", "Input/output error", "is kept in"]);
    }
    assert!(!target.exists(), "an incomplete copy was published");
}

#[test]
fn what_cannot_be_read_becomes_zeroes_and_ddrescue_knows_where() {
    let Some(scratch) = require(&Needs::root().tools(&["ddrescuelog"])) else { return };
    let (device, content) = failing_device(&scratch, GOOD);
    let target = scratch.join("target");
    let call = |more: &[&str]| {
        let call = copy(&scratch, device.path(), &target).args(["--on-read-error", "zero"]);
        call.args(more).run().expect_exit(3)
    };
    let result = call(&["--json"]).result();
    assert_eq!(result["unreadable_bytes"], 4 * MIB - GOOD);
    assert_eq!(result["unreadable"][0]["offset"], GOOD);
    assert_eq!(result["unreadable"].as_array().unwrap().len(), 1);
    assert!(fs::read(&target).unwrap() == content, "wrong bytes around what could not be read");
    let map = scratch.join("target.map");
    assert_eq!(result["bad_map"], map.display().to_string());
    assert_bad_blocks(&map, GOOD / 512..4 * MIB / 512);

    let elsewhere = scratch.join("elsewhere.map");
    let said = call(&["--force", "--verify", "--bad-map", elsewhere.to_str().unwrap()]).stdout;
    assert!(
        said.contains("could not be read in 1 range") && said.contains("elsewhere.map"),
        "{said}"
    );
    assert_bad_blocks(&elsewhere, GOOD / 512..4 * MIB / 512);
    assert!(fs::read(&target).unwrap() == content);
}

/// Has ddrescue's own tool read the map.
#[track_caller]
fn assert_bad_blocks(map: &Path, expected: std::ops::Range<u64>) {
    let status = run(tool("ddrescuelog").arg("--show-status").arg(map));
    let blocks = run(tool("ddrescuelog").arg("--list-blocks=-").arg(map));
    let blocks: Vec<u64> = blocks.lines().map(|line| line.trim().parse().unwrap()).collect();
    assert_eq!(blocks, expected.collect::<Vec<_>>(), "{status}");
    let rest = run(tool("ddrescuelog").arg("--list-blocks=?/*").arg(map));
    assert_eq!(rest, "", "something is neither finished nor bad: {status}");
}

#[test]
fn what_could_be_read_again_is_not_remembered_as_lost() {
    let Some(scratch) = require(&Needs::root()) else { return };
    let (device, content) = failing_device(&scratch, 4 * MIB);
    let target = scratch.join("target");
    let options = ["--on-read-error", "zero"];
    copy(&scratch, device.path(), &target).args(options).run().expect_ok();
    assert!(fs::read(&target).unwrap() == content);
    assert_eq!(names(scratch.path()), ["disk", "target"]);
}

#[test]
fn reading_back_finds_a_device_that_lies() {
    let Some(scratch) = require(&Needs::root()) else { return };
    let (source, disk) = (scratch.join("source"), scratch.join("disk"));
    make_mixed(&source, 69, 2);
    make_noise(&disk, 70, 8 * MIB);
    let device = LoopDevice::attach(&disk, &LoopOptions::default());
    for offset in [0, 5 * MIB + 77, 8 * MIB - 1] {
        let call = || copy(&scratch, &source, device.path()).arg("--verify");
        let running = call().env("BLOCKPRINT_DEBUG_STOP_AT", "copied").spawn();
        until_stopped(&running);
        overwrite(&disk, offset, b"?");
        running.signal("CONT");
        let place = format!("the first difference is at offset {offset}");
        assert_refused(running.wait(), 18, &[&place, &device.path().display().to_string()]);
        // What is known to be wrong is not taken for done.
        call().args(["--resume", "--json"]).run().expect_ok();
        assert_same(&source, device.path());
    }
}

#[test]
fn reading_back_finds_a_file_whose_disk_lies_although_the_cache_is_right() {
    let needs = Needs::root().filesystems(&["ext4"]).tools(&["filefrag"]);
    let Some(scratch) = require(&needs) else { return };
    let source = scratch.join("source");
    make_noise(&source, 71, 3 * MIB);
    let filesystem = Filesystem::ext4(32 * MIB);
    let target = filesystem.path().join("target");
    let running = copy(&scratch, &source, &target)
        .arg("--verify")
        .env("BLOCKPRINT_DEBUG_STOP_AT", "copied")
        .env("BLOCKPRINT_DEBUG_CHECKPOINT_MS", "20")
        .spawn();
    until_stopped(&running);
    run(tool("sync").arg("--file-system").arg(filesystem.path()));
    let block = first_block(&partial_of(&target));
    // Below the filesystem and its cache: 1000 bytes into the file's first block on the disk.
    overwrite(filesystem.image(), block + 1000, b"?????????");
    running.signal("CONT");
    assert_refused(running.wait(), 18, &["the first difference is at offset 100"]);
    assert!(!target.exists(), "a damaged copy was published");
    copy(&scratch, &source, &target).args(["--verify", "--resume"]).run().expect_ok();
    assert_same(&source, &target);
}

/// Where the first block of a file lies on its disk, in bytes.
fn first_block(path: &Path) -> u64 {
    let report = run(tool("filefrag").args(["-v", "-b1"]).arg(path));
    let line = report.lines().find(|line| line.trim_start().starts_with("0:"));
    let physical =
        line.and_then(|line| line.split(':').nth(2)).and_then(|part| part.split("..").next());
    physical.and_then(|text| text.trim().parse().ok()).unwrap_or_else(|| panic!("{report}"))
}

#[test]
fn an_interrupted_copy_says_what_is_left_and_goes_on() {
    let scratch = TempDir::new("faults");
    let source = scratch.join("source");
    make_noise(&source, 72, 8 * MIB);
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let target = scratch.join(signal);
        let running = copy(&scratch, &source, &target).args(["--limit", "8M"]).spawn();
        until("some of it is written", || {
            fs::metadata(partial_of(&target)).is_ok_and(|now| now.len() > 0)
        });
        thread::sleep(Duration::from_millis(300));
        running.signal(signal);
        let outcome = running.wait_at_most(Duration::from_secs(5));
        let partial = partial_of(&target).display().to_string();
        assert_refused(outcome, code, &["interrupted", &partial, "--resume goes on"]);
        assert!(!target.exists() && journal_of(&target).exists());
        let result = copy(&scratch, &source, &target).args(["--resume", "--json"]).run();
        let result = result.expect_ok().result();
        assert!(result["resumed_bytes"].as_u64().unwrap() > 0, "{result}");
        assert_same(&source, &target);
    }
    assert_eq!(names(scratch.path()), ["HUP", "INT", "TERM", "source"]);
}

#[test]
fn an_interrupted_verification_says_what_is_left_and_goes_on() {
    let scratch = TempDir::new("faults");
    let (source, target) = (scratch.join("source"), scratch.join("target"));
    make_noise(&source, 73, 8 * MIB);
    let running = copy(&scratch, &source, &target)
        .arg("--verify")
        .env("BLOCKPRINT_DEBUG_STOP_AT", "copied")
        .spawn();
    until_stopped(&running);
    running.signal("INT");
    running.signal("CONT");
    let partial = partial_of(&target).display().to_string();
    let outcome = running.wait_at_most(Duration::from_secs(10));
    assert_refused(outcome, 130, &["interrupted", &partial, "--resume goes on"]);
    let result = copy(&scratch, &source, &target).args(["--resume", "--verify", "--json"]).run();
    let result = result.expect_ok().result();
    assert_eq!(result["resumed_bytes"], 8 * MIB);
    assert_same(&source, &target);
    assert_eq!(names(scratch.path()), ["source", "target"]);
}

#[test]
fn an_interrupted_copy_in_place_says_that_old_and_new_are_mixed() {
    let scratch = TempDir::new("faults");
    let (source, target) = (scratch.join("source"), scratch.join("target"));
    make_mixed(&source, 74, 2);
    make_noise(&target, 75, 8 * MIB);
    let call = || copy(&scratch, &source, &target).args(["--force", "--in-place"]);
    let running = call().args(["--limit", "6M"]).spawn();
    thread::sleep(Duration::from_millis(400));
    running.signal("INT");
    let outcome = running.wait_at_most(Duration::from_secs(5));
    assert_refused(outcome, 130, &["mixture of old and new", "--resume goes on"]);
    let result = call().args(["--resume", "--json"]).run().expect_ok().result();
    assert!(result["resumed_bytes"].as_u64().unwrap() > 0, "{result}");
    assert_same(&source, &target);
    assert_eq!(names(scratch.path()), ["source", "target"]);
}
