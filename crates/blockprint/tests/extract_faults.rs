//! `blockprint extract` when something goes wrong: bad stores, kills, full disks, targets in use, lying media.

use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::Duration;

use testkit::host::{
    Filesystem, LoopDevice, LoopOptions, Program, TempDir, drop_caches, fill_disk, make_image,
    require, run, tool,
};

use crate::extract::{Made, bytes, casync, casync_as_root, chunks, result};
use crate::support::{
    KIB, MIB, Part, assert_refused, assert_same, copy, journal_of, make, make_mixed, make_noise,
    names, overwrite, partial_of, until, until_stopped,
};

/// Slow enough to be hit in the middle.
fn slowly(program: Program) -> Program {
    program.args(["--limit", "24M"])
}

#[test]
fn a_missing_chunk_is_named_and_what_is_there_is_kept() {
    let Some(scratch) = require(&casync()) else { return };
    let made = Made::mixed(scratch.path(), 320, 2);
    let target = scratch.join("target");
    let files = made.chunk_files();
    let lost = &files[files.len() / 2];
    let elsewhere = scratch.join("lost");
    fs::rename(lost, &elsewhere).unwrap();
    let id = lost.file_stem().unwrap().to_str().unwrap();
    let partial = partial_of(&target).display().to_string();
    let store = made.store.display().to_string();
    for _ in 0..2 {
        let outcome = made.extract(&scratch, &target).run();
        let parts = [id, &store, &partial, "the same command goes on from it"];
        assert_refused(outcome, 10, &parts);
        assert!(!target.exists());
    }
    fs::rename(&elsewhere, lost).unwrap();
    let found = result(made.extract(&scratch, &target));
    assert!(bytes(&found, "in_place") > 0, "{found}");
    assert_same(&made.source, &target);
    assert!(!partial_of(&target).exists());
}

#[test]
fn a_flipped_bit_in_any_chunk_is_found_and_a_second_store_heals_it() {
    let Some(scratch) = require(&casync()) else { return };
    let made = Made::mixed(scratch.path(), 321, 1);
    let target = scratch.join("target");
    let second = scratch.join("second");
    run(tool("cp").arg("-r").arg(&made.store).arg(&second));
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for file in made.chunk_files() {
        let good = fs::read(&file).unwrap();
        let mut bad = good.clone();
        let bit = random.usize(..bad.len() * 8);
        bad[bit / 8] ^= 1 << (bit % 8);
        run(tool("chmod").arg("u+w").arg(&file));
        fs::write(&file, &bad).unwrap();
        let id = file.file_stem().unwrap().to_str().unwrap();
        let outcome = made.extract(&scratch, &target).run();
        if outcome.status.success() {
            // A bit that means nothing, such as one of a zstd header that nobody reads.
            assert_same(&made.source, &target);
        } else {
            let shown = file.display().to_string();
            assert_refused(outcome, 18, &[id, &shown]);
            assert!(!target.exists(), "wrong bytes got the name (seed {seed})");
            fs::remove_file(partial_of(&target)).unwrap();
            let healed = result(made.extract(&scratch, &target).arg("-s").arg(&second));
            assert_eq!(healed["damaged"][0]["chunk"], id, "{healed}");
            assert_same(&made.source, &target);
        }
        fs::remove_file(&target).unwrap();
        fs::write(&file, &good).unwrap();
    }
}

#[test]
fn without_a_store_nothing_is_begun() {
    let Some(scratch) = require(&casync()) else { return };
    let made = Made::mixed(scratch.path(), 322, 1);
    let target = scratch.join("target");
    let call = || {
        let call = crate::support::blockprint(&scratch).arg("extract").arg(&made.index);
        call.arg(&target).current_dir(scratch.path())
    };
    assert_refused(call().run(), 10, &["no store was named", "--store"]);
    assert_refused(call().args(["-s", "nowhere"]).run(), 10, &["nowhere"]);
    fs::write(&made.index, "no index").unwrap();
    assert_refused(call().arg("-s").arg(&made.store).run(), 18, &["cannot read the index"]);
    assert_eq!(names(scratch.path()), ["source", "source.caibx", "source.castr"]);
}

#[test]
fn killed_at_each_step_the_target_is_absent_or_complete_and_the_same_command_goes_on() {
    let Some(scratch) = require(&casync()) else { return };
    let made = Made::mixed(scratch.path(), 323, 2);
    let before = names(scratch.path());
    for step in ["created", "copied", "flushed", "renamed", "published", "done"] {
        let target = scratch.join(step);
        let call = made.extract(&scratch, &target).env("BLOCKPRINT_DEBUG_KILL_AT", step);
        let killed = call.run();
        assert_eq!(killed.signal(), Some(9), "{step} never came:\n{killed}");
        let published = ["renamed", "published", "done"].contains(&step);
        assert_eq!(target.exists(), published, "{step}");
        let again = made.extract(&scratch, &target);
        if published {
            assert_same(&made.source, &target);
            assert_refused(again.run(), 11, &["exists already"]);
        } else {
            let found = result(again);
            let fetched = bytes(&found, "stores");
            assert_eq!(fetched > 0, step == "created", "{step}: fetched again: {found}");
            assert_same(&made.source, &target);
        }
        fs::remove_file(&target).unwrap();
        assert_eq!(names(scratch.path()), before, "{step}: something is left");
    }
}

#[test]
fn killed_at_random_again_and_again_an_extract_ends_equal_and_fetches_little_twice() {
    let Some(scratch) = require(&casync()) else { return };
    let made = Made::mixed(scratch.path(), 324, 10);
    for more in [&[][..], &["-k"]] {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        let mut kills = 0;
        while kills < 20 {
            kills += killed_until_it_ends(&scratch, &made, more, 20 - kills, &mut random);
        }
    }
}

/// Kills an extract at random, at most `kills_max` times, and begins it again until it has ended. How often it was
/// killed.
fn killed_until_it_ends(
    scratch: &TempDir,
    made: &Made,
    more: &[&str],
    kills_max: u32,
    random: &mut fastrand::Rng,
) -> u32 {
    let target = scratch.join("target");
    let in_place = !more.is_empty();
    if in_place {
        make_noise(&target, 325, 50 * MIB);
    }
    let seed = random.get_seed();
    let mut kills = 0;
    loop {
        let running = slowly(made.extract(scratch, &target)).args(more).arg("--json").spawn();
        if kills < kills_max {
            thread::sleep(Duration::from_millis(random.u64(50..450)));
            running.signal("KILL");
        }
        let outcome = running.wait();
        if outcome.status.success() {
            let found = outcome.result();
            let went_on = bytes(&found, "in_place") > MIB;
            assert!(went_on || kills < 6, "it never went on (seed {seed}): {found}");
            break;
        }
        assert_eq!(outcome.signal(), Some(9), "{outcome} (seed {seed})");
        kills += 1;
        if !in_place && target.exists() {
            // Killed behind the last step: what has the name is complete, as is checked below.
            break;
        }
    }
    assert_same(&made.source, &target);
    assert!(!partial_of(&target).exists());
    fs::remove_file(&target).unwrap();
    kills
}

#[test]
fn a_partial_file_with_wrong_bytes_in_it_is_put_right() {
    let Some(scratch) = require(&casync()) else { return };
    let made = Made::mixed(scratch.path(), 326, 2);
    let target = scratch.join("target");
    let call = made.extract(&scratch, &target).env("BLOCKPRINT_DEBUG_KILL_AT", "copied");
    assert_eq!(call.run().signal(), Some(9));
    // As a power cut may leave it: a part never got to the disk, another is of something else.
    let partial = partial_of(&target);
    overwrite(&partial, 0, &[0; 8192]);
    overwrite(&partial, 5 * MIB, &[0xAB; 512]);
    overwrite(&partial, 8 * MIB, b"a longer file");
    let found = result(made.extract(&scratch, &target));
    assert_eq!(chunks(&found, "stores"), 2, "{found}");
    assert_same(&made.source, &target);
}

#[test]
fn an_interrupted_extract_says_what_is_left() {
    let Some(scratch) = require(&casync()) else { return };
    let made = Made::mixed(scratch.path(), 327, 4);
    let (target, old) = (scratch.join("target"), scratch.join("old"));
    make_noise(&old, 328, MIB);
    let partial = partial_of(&target).display().to_string();
    let old_shown = old.display().to_string();
    for (path, options, parts) in [
        (&target, &[][..], ["interrupted", &*partial, "the same command goes on from it"]),
        (
            &old,
            &["-k"],
            ["mixture of old and new", &*old_shown, "the same command goes on from it"],
        ),
    ] {
        let call = made.extract(&scratch, path).args(options).args(["--limit", "8M"]);
        let running = call.spawn();
        let at_work = if options.is_empty() { partial_of(path) } else { path.clone() };
        until("it writes", || fs::metadata(&at_work).is_ok_and(|now| now.len() == 16 * MIB));
        thread::sleep(Duration::from_millis(300));
        running.signal("INT");
        assert_refused(running.wait_at_most(Duration::from_secs(20)), 130, &parts);
        result(made.extract(&scratch, path).args(options));
        assert_same(&made.source, path);
    }
}

#[test]
fn an_image_that_does_not_fit_is_refused_before_the_first_write() {
    let Some(scratch) = require(&casync_as_root().filesystems(&["ext4"])) else { return };
    let source = scratch.join("source");
    make(&source, 329, &[Part::Noise(24 * MIB), Part::Hole(100 * MIB)]);
    let made = Made::of(&source);
    let outer = Filesystem::ext4(24 * MIB);
    let target = outer.path().join("target");
    let refused = assert_refused(made.extract(&scratch, &target).run(), 15, &["does not fit"]);
    assert!(refused.stderr.contains("bytes") && refused.stderr.contains("left"), "{refused}");
    assert!(names(outer.path()).is_empty());
    // Where it is noticed on the way, what is there is kept.
    File::create(&target).unwrap();
    let outcome = made.extract(&scratch, &target).arg("--in-place").run();
    assert_refused(outcome, 15, &["No space left", "mixture of old and new"]);
}

#[test]
fn a_disk_that_is_full_on_the_way_keeps_what_was_extracted() {
    let Some(scratch) = require(&casync_as_root().filesystems(&["ext4"])) else { return };
    let source = scratch.join("source");
    make_noise(&source, 330, 12 * MIB);
    let made = Made::of(&source);
    let outer = Filesystem::ext4(32 * MIB);
    let target = outer.path().join("target");
    let call = made.extract(&scratch, &target).env("BLOCKPRINT_DEBUG_STOP_AT", "created");
    let running = call.spawn();
    until_stopped(&running);
    let room = outer.path().join("room");
    make_noise(&room, 331, 6 * MIB);
    let filler = fill_disk(outer.path());
    fs::remove_file(&room).unwrap();
    run(tool("sync").arg("--file-system").arg(outer.path()));
    running.signal("CONT");
    let partial = partial_of(&target).display().to_string();
    assert_refused(running.wait(), 15, &["No space left on device", &partial]);
    assert!(!target.exists());
    fs::remove_file(filler).unwrap();
    run(tool("sync").arg("--file-system").arg(outer.path()));
    let found = result(made.extract(&scratch, &target));
    assert!(bytes(&found, "in_place") > MIB, "{found}");
    assert_same(&source, &target);
}

#[test]
fn targets_that_are_in_use_or_too_small_are_refused() {
    let Some(scratch) = require(&casync_as_root().filesystems(&["ext4"])) else { return };
    let made = Made::mixed(scratch.path(), 332, 2);
    let image = scratch.join("image");
    make_image("ext4", &image, 8 * MIB);
    let before = fs::read(&image).unwrap();
    {
        let filesystem = Filesystem::mount_read_only(&image);
        let place = format!("mounted at {}", filesystem.path().display());
        for target in [filesystem.device(), &image] {
            for more in [&["-k"][..], &["--force"], &["--force", "--dry-run"]] {
                let outcome = made.extract(&scratch, target).args(more).run();
                assert_refused(outcome, 13, &[&place, &target.display().to_string()]);
            }
        }
    }
    assert!(fs::read(&image).unwrap() == before, "it was written to");
    let small = scratch.join("small");
    make_noise(&small, 333, 8 * MIB - 512);
    let device = LoopDevice::attach(&small, &LoopOptions::default());
    let sizes = [8 * MIB - 512, 8 * MIB].map(|bytes| bytes.to_string());
    let outcome = made.extract(&scratch, device.path()).run();
    assert_refused(outcome, 14, &["too small", &sizes[0], &sizes[1], "which is 512 bytes"]);
    let misspelt = Path::new("/dev/nosuch-blockprint");
    assert_refused(made.extract(&scratch, misspelt).run(), 10, &["there is no device"]);
    let outcome = made.extract(&scratch, &made.index).arg("--force").run();
    assert_refused(outcome, 17, &["are the same"]);
}

#[test]
fn the_second_of_two_extracts_to_one_target_is_refused() {
    let Some(scratch) = require(&casync()) else { return };
    let made = Made::mixed(scratch.path(), 334, 1);
    let target = scratch.join("target");
    let call = made.extract(&scratch, &target).env("BLOCKPRINT_DEBUG_STOP_AT", "copied");
    let first = call.spawn();
    until_stopped(&first);
    let outcome = made.extract(&scratch, &target).run();
    assert_refused(outcome, 13, &["is being written by another program"]);
    first.signal("CONT");
    first.wait().expect_ok();
    assert_same(&made.source, &target);
}

#[test]
fn an_interrupted_copy_does_not_go_on_from_what_an_extract_wrote_since() {
    let Some(scratch) = require(&casync_as_root()) else { return };
    let made = Made::mixed(scratch.path(), 335, 2);
    let other = scratch.join("other");
    make_mixed(&other, 336, 2);
    let disk = scratch.join("disk");
    make_noise(&disk, 337, 8 * MIB);
    let device = LoopDevice::attach(&disk, &LoopOptions::default());
    for target in [scratch.join("target").as_path(), device.path()] {
        let interrupted = slowly(copy(&scratch, &other, target))
            .env("BLOCKPRINT_DEBUG_CHECKPOINT_MS", "20")
            .env("BLOCKPRINT_DEBUG_KILL_AT", "checkpoint:4");
        assert_eq!(interrupted.run().signal(), Some(9));
        let call = made.extract(&scratch, target).env("BLOCKPRINT_DEBUG_KILL_AT", "copied");
        assert_eq!(call.run().signal(), Some(9));
        assert!(!journal_of(target).exists());
        let resumed = copy(&scratch, &other, target).arg("--resume").run().expect_ok();
        resumed.expect_error("no interrupted copy was found");
        assert_same(&other, target);
    }
}

#[test]
fn reading_back_finds_a_device_that_lies() {
    let Some(scratch) = require(&casync_as_root()) else { return };
    let made = Made::mixed(scratch.path(), 338, 2);
    let disk = scratch.join("disk");
    make_noise(&disk, 339, 8 * MIB);
    let device = LoopDevice::attach(&disk, &LoopOptions::default());
    let call = made.extract(&scratch, device.path()).arg("--verify");
    let running = call.env("BLOCKPRINT_DEBUG_STOP_AT", "copied").spawn();
    until_stopped(&running);
    overwrite(&disk, 300 * KIB + 1, b"?");
    running.signal("CONT");
    assert_refused(running.wait(), 18, &["does not hold what was extracted to it", "1 chunks"]);
    drop_caches();
    let again = result(made.extract(&scratch, device.path()).arg("--verify"));
    assert_eq!(chunks(&again, "stores"), 1, "{again}");
    assert_same(&made.source, device.path());
}
