//! `blockprint copy` killed at any moment, and gone on with: nothing twice, nothing missing, nothing too early.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use testkit::host::{
    Filesystem, LoopDevice, LoopOptions, Needs, Program, TempDir, require, run, tool,
};

use crate::support::{
    MIB, Part, assert_refused, assert_same, copy, journal_of, make, make_mixed, make_noise, names,
    overwrite, partial_of,
};

/// Slow enough to be hit in the middle, with a journal every 20 ms.
fn slowly(program: Program) -> Program {
    program.args(["--limit", "24M"]).env("BLOCKPRINT_DEBUG_CHECKPOINT_MS", "20")
}

/// The ranges that a journal calls done.
fn done_of(journal: &Path) -> Vec<(u64, u64)> {
    let text = fs::read_to_string(journal).unwrap_or_default();
    let range = |line: &str| {
        let mut words = line.strip_prefix("done ")?.split(' ').map(|word| word.parse().unwrap());
        Some((words.next()?, words.next()?))
    };
    text.lines().filter_map(range).collect()
}

/// Panics unless `target` holds what `source` holds wherever `journal` says so.
#[track_caller]
fn assert_journal_is_true(journal: &Path, source: &Path, target: &Path) {
    let [source, target] = [source, target].map(|path| fs::File::open(path).unwrap());
    for (start, end) in done_of(journal) {
        let [mut a, mut b] = [0, 1].map(|byte| vec![byte; (end - start) as usize]);
        source.read_exact_at(&mut a, start).unwrap();
        target.read_exact_at(&mut b, start).unwrap();
        assert!(a == b, "the journal claims {start} to {end}, which differ");
    }
}

#[test]
fn killed_at_each_step_the_target_is_absent_or_complete_and_the_copy_goes_on() {
    let scratch = TempDir::new("resume");
    let source = scratch.join("source");
    make_mixed(&source, 80, 2);
    for step in ["created", "checkpoint:3", "copied", "flushed", "renamed", "published", "done"] {
        let target = scratch.join(step);
        let killed =
            slowly(copy(&scratch, &source, &target)).env("BLOCKPRINT_DEBUG_KILL_AT", step).run();
        assert_eq!(killed.signal(), Some(9), "{step} never came:\n{killed}");
        let published = ["renamed", "published", "done"].contains(&step);
        assert_eq!(target.exists(), published, "{step}");
        if published {
            assert_same(&source, &target);
            assert!(!partial_of(&target).exists(), "{step}");
            let again = copy(&scratch, &source, &target).arg("--resume");
            if step == "done" {
                // The journal is gone: a new copy has to be asked for.
                assert_refused(again.run(), 11, &["exists already"]);
            } else {
                let again = again.arg("--json").run();
                let result = again.expect_ok().result();
                assert_eq!(result["resumed_bytes"], fs::metadata(&source).unwrap().len(), "{step}");
                assert_eq!(result["written_bytes"], 0, "{step}");
            }
            copy(&scratch, &source, &target).arg("--force").run().expect_ok();
        } else {
            if journal_of(&target).exists() {
                assert_journal_is_true(&journal_of(&target), &source, &partial_of(&target));
            }
            let again = copy(&scratch, &source, &target).args(["--resume", "--json"]).run();
            let result = again.expect_ok().result();
            let resumed = result["resumed_bytes"].as_u64().unwrap();
            let written = result["written_bytes"].as_u64().unwrap();
            assert_eq!(resumed > 0, step != "created", "{step}: {result}");
            assert!(resumed + written <= 8 * MIB, "{step}: copied twice: {result}");
        }
        assert_same(&source, &target);
        fs::remove_file(&target).unwrap();
        assert_eq!(names(scratch.path()), ["source"], "{step}: something is left");
    }
}

#[test]
fn killed_at_each_step_an_old_file_is_there_or_replaced() {
    let scratch = TempDir::new("resume");
    let (source, target) = (scratch.join("source"), scratch.join("target"));
    make_mixed(&source, 81, 1);
    for step in ["created", "checkpoint", "copied", "flushed", "renamed", "published", "done"] {
        fs::write(&target, "old").unwrap();
        let call = || copy(&scratch, &source, &target).arg("--force");
        let killed = slowly(call()).env("BLOCKPRINT_DEBUG_KILL_AT", step).run();
        assert_eq!(killed.signal(), Some(9), "{step} never came:\n{killed}");
        if fs::metadata(&target).unwrap().len() == 3 {
            assert_eq!(fs::read(&target).unwrap(), b"old", "{step}");
            assert!(["created", "checkpoint", "copied", "flushed"].contains(&step), "{step}");
        } else {
            assert_same(&source, &target);
        }
        call().run().expect_ok();
        assert_same(&source, &target);
        assert_eq!(names(scratch.path()), ["source", "target"], "{step}: something is left");
    }
}

#[test]
fn killed_at_random_again_and_again_a_copy_ends_equal() {
    let scratch = TempDir::new("resume");
    let (source, target) = (scratch.join("source"), scratch.join("target"));
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    make_mixed(&source, 82, 4);
    let (mut kills, mut last_resumed) = (0, 0);
    loop {
        assert!(kills < 60, "it does not come to an end (seed {seed})");
        let call = copy(&scratch, &source, &target).args(["--resume", "--json"]);
        let running = slowly(call).spawn();
        thread::sleep(Duration::from_millis(random.u64(20..200)));
        running.signal("KILL");
        let outcome = running.wait();
        if outcome.status.success() {
            last_resumed = outcome.result()["resumed_bytes"].as_u64().unwrap();
            break;
        }
        assert_eq!(outcome.signal(), Some(9), "{outcome} (seed {seed})");
        kills += 1;
        if target.exists() {
            break;
        }
        if journal_of(&target).exists() {
            let done: u64 =
                done_of(&journal_of(&target)).iter().map(|(start, end)| end - start).sum();
            assert!(done >= last_resumed, "the journal went back (seed {seed})");
            last_resumed = done;
            assert_journal_is_true(&journal_of(&target), &source, &partial_of(&target));
        }
    }
    assert!(kills >= 2, "it was too quick to be killed twice (seed {seed})");
    assert!(last_resumed > 0, "it never went on from a journal (seed {seed})");
    assert_same(&source, &target);
}

#[test]
fn a_copy_begun_anew_and_killed_does_not_go_on_from_the_journal_before_it() {
    let Some(scratch) = require(&Needs::root().filesystems(&["ext4", "xfs"])) else { return };
    let source = scratch.join("source");
    make_mixed(&source, 92, 2);
    // The new partial file may well get the number of the old one.
    for filesystem in [Filesystem::ext4(64 * MIB), Filesystem::xfs(320 * MIB)] {
        let target = filesystem.path().join("target");
        let killed_at = |step: &str| {
            let killed = slowly(copy(&scratch, &source, &target))
                .env("BLOCKPRINT_DEBUG_KILL_AT", step)
                .run();
            assert_eq!(killed.signal(), Some(9), "{killed}");
        };
        for is_removed_by_hand in [true, false] {
            killed_at("checkpoint:3");
            if is_removed_by_hand {
                fs::remove_file(partial_of(&target)).unwrap();
            }
            killed_at("created");
            copy(&scratch, &source, &target).arg("--resume").run().expect_ok();
            assert_same(&source, &target);
            fs::remove_file(&target).unwrap();
        }
    }
}

#[test]
fn a_copy_onto_a_device_goes_on_from_its_journal_elsewhere() {
    let Some(scratch) = require(&Needs::root()) else { return };
    let (source, disk) = (scratch.join("source"), scratch.join("disk"));
    make_mixed(&source, 83, 3);
    make_noise(&disk, 84, 12 * MIB);
    let device = LoopDevice::attach(&disk, &LoopOptions::default());
    let killed = slowly(copy(&scratch, &source, device.path()))
        .env("BLOCKPRINT_DEBUG_KILL_AT", "checkpoint:5")
        .run();
    assert_eq!(killed.signal(), Some(9), "{killed}");
    let state = scratch.join("state/blockprint");
    let journal = state.join(&names(&state)[0]);
    assert_journal_is_true(&journal, &source, device.path());
    // What is done is not touched again: a mark in the middle of it stays.
    let (start, end) = done_of(&journal)[0];
    let mark = (start + end) / 2 / 4096 * 4096;
    overwrite(device.path(), mark, &[0x5A; 4096]);
    let call = || copy(&scratch, &source, device.path()).args(["--resume", "--json"]);
    let result = call().run().expect_ok().result();
    assert!(result["resumed_bytes"].as_u64().unwrap() >= end - start, "{result}");
    let mut found = vec![0; 4096];
    fs::File::open(device.path()).unwrap().read_exact_at(&mut found, mark).unwrap();
    assert!(found == [0x5A; 4096], "a range was copied again that was done");
    let mut expected = vec![0; 4096];
    fs::File::open(&source).unwrap().read_exact_at(&mut expected, mark).unwrap();
    overwrite(device.path(), mark, &expected);
    assert_same(&source, device.path());
    assert!(names(&state).is_empty(), "a journal is left: {:?}", names(&state));
}

#[test]
fn a_file_in_place_goes_on_where_it_was_left() {
    let scratch = TempDir::new("resume");
    let (source, target) = (scratch.join("source"), scratch.join("target"));
    make_mixed(&source, 85, 3);
    make_noise(&target, 86, 13 * MIB);
    let call = || copy(&scratch, &source, &target).args(["--force", "--in-place"]);
    let killed = slowly(call()).env("BLOCKPRINT_DEBUG_KILL_AT", "checkpoint:5").run();
    assert_eq!(killed.signal(), Some(9), "{killed}");
    assert_journal_is_true(&journal_of(&target), &source, &target);
    let result = call().args(["--resume", "--json", "--verify"]).run().expect_ok().result();
    assert!(result["resumed_bytes"].as_u64().unwrap() > 0, "{result}");
    assert_same(&source, &target);
    assert_eq!(names(scratch.path()), ["source", "target"]);
}

#[test]
fn a_changed_source_or_target_is_not_gone_on_with() {
    let scratch = TempDir::new("resume");
    let (source, target) = (scratch.join("source"), scratch.join("target"));
    make_mixed(&source, 87, 2);
    let interrupt = || {
        let killed = slowly(copy(&scratch, &source, &target))
            .env("BLOCKPRINT_DEBUG_KILL_AT", "checkpoint:3")
            .run();
        assert_eq!(killed.signal(), Some(9), "{killed}");
    };
    let resume = || copy(&scratch, &source, &target).arg("--resume");
    interrupt();
    overwrite(&source, 7 * MIB, b"changed");
    assert_refused(resume().run(), 19, &["cannot resume", "is not what it was then"]);
    assert!(!target.exists() && partial_of(&target).exists(), "a refusal changed something");

    interrupt();
    fs::remove_file(partial_of(&target)).unwrap();
    assert_refused(resume().run(), 19, &["cannot resume", "its partial file is gone"]);
    fs::write(partial_of(&target), "of somebody else").unwrap();
    assert_refused(resume().run(), 19, &["cannot resume", "the target is another one"]);

    interrupt();
    let journal = fs::read(journal_of(&target)).unwrap();
    fs::write(journal_of(&target), &journal[..journal.len() - 5]).unwrap();
    assert_refused(resume().run(), 18, &["no journal of a copy, or damaged"]);
    copy(&scratch, &source, &target).run().expect_ok();
    assert_same(&source, &target);
    assert_eq!(names(scratch.path()), ["source", "target"]);
}

#[test]
fn resuming_without_a_journal_begins_at_the_beginning_and_says_so() {
    let scratch = TempDir::new("resume");
    let (source, target) = (scratch.join("source"), scratch.join("target"));
    make_noise(&source, 88, MIB);
    let outcome = copy(&scratch, &source, &target).arg("--resume").run().expect_ok();
    outcome.expect_error("note: no interrupted copy was found");
    assert_same(&source, &target);
}

#[test]
fn the_journal_may_lie_elsewhere_and_a_dry_run_tells_what_is_done() {
    let scratch = TempDir::new("resume");
    let (source, target) = (scratch.join("source"), scratch.join("target"));
    let journal = scratch.join("elsewhere/journal");
    make(&source, 89, &[Part::Noise(6 * MIB), Part::Hole(2 * MIB)]);
    let call = || copy(&scratch, &source, &target).arg("--journal").arg(&journal);
    let killed = slowly(call()).env("BLOCKPRINT_DEBUG_KILL_AT", "checkpoint:4").run();
    assert_eq!(killed.signal(), Some(9), "{killed}");
    assert!(!journal_of(&target).exists());
    let done: u64 = done_of(&journal).iter().map(|(start, end)| end - start).sum();
    let plan = call().args(["--resume", "--dry-run", "--json"]).run().expect_ok();
    let plan = plan.events("plan").remove(0);
    assert_eq!(plan["resumed_bytes"], done);
    let bytes = |name: &str| plan[name].as_u64().unwrap();
    assert_eq!(done + bytes("data_bytes") + bytes("zero_bytes"), 8 * MIB);
    call().arg("--resume").run().expect_ok();
    assert_same(&source, &target);
    assert!(names(&scratch.join("elsewhere")).is_empty());
}

#[test]
fn unreadable_ranges_of_an_interrupted_copy_are_in_the_map_at_the_end() {
    let Some(scratch) = require(&Needs::root().tools(&["ddrescuelog"])) else { return };
    let (disk, target) = (scratch.join("disk"), scratch.join("target"));
    make_noise(&disk, 90, 8 * MIB);
    let device = LoopDevice::attach(&disk, &LoopOptions::default());
    fs::OpenOptions::new().write(true).open(&disk).unwrap().set_len(MIB).unwrap();
    let call = || copy(&scratch, device.path(), &target).args(["--on-read-error", "zero"]);
    let killed = call()
        .env("BLOCKPRINT_DEBUG_CHECKPOINT_MS", "20")
        .env("BLOCKPRINT_DEBUG_KILL_AT", "copied")
        .args(["--limit", "40M"])
        .run();
    assert_eq!(killed.signal(), Some(9), "{killed}");
    let text = fs::read_to_string(journal_of(&target)).unwrap();
    assert!(text.contains("unreadable 1048576 "), "{text}");
    let result = call().args(["--resume", "--json"]).run().expect_exit(3).result();
    assert!(result["resumed_bytes"].as_u64().unwrap() > MIB, "{result}");
    assert_eq!(result["unreadable_bytes"], 7 * MIB);
    let map = scratch.join("target.map");
    let bad = run(tool("ddrescuelog").arg("--list-blocks=-").arg(map));
    assert_eq!(bad.lines().count() as u64, 7 * MIB / 512);
}

#[test]
fn an_ordinary_user_goes_on_with_the_copy_of_a_read_only_file() {
    let Some(scratch) = require(&Needs::root().tools(&["setpriv"])) else { return };
    let (source, home) = (scratch.join("source"), scratch.join("home"));
    let program = scratch.join("blockprint");
    make_mixed(&source, 91, 1);
    fs::copy(env!("CARGO_BIN_EXE_blockprint"), &program).unwrap();
    fs::create_dir(&home).unwrap();
    run(tool("chown").arg("65534:65534").arg(&home));
    run(tool("chmod").arg("444").arg(&source));
    let target = home.join("target");
    let call = || {
        Program::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program)
            .arg("copy")
            .arg(&source)
            .arg(&target)
    };
    let killed = slowly(call()).env("BLOCKPRINT_DEBUG_KILL_AT", "checkpoint:2").run();
    assert_eq!(killed.signal(), Some(9), "{killed}");
    call().arg("--resume").run().expect_ok();
    assert_same(&source, &target);
    assert_eq!(names(&home), ["target"]);
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&target).unwrap());
    assert_eq!(mode & 0o777, 0o444);
}
