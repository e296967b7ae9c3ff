//! `blockprint sync` with both ends on this machine: what is read, what is written, and that both are equal then.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use testkit::host::{LoopDevice, LoopOptions, Needs, Program, TempDir, require, run, tool};

use crate::support::{
    KIB, MIB, Part, allocated, assert_same, blockprint, make, make_mixed, make_noise, names,
    overwrite,
};

/// `blockprint sync SOURCE TARGET`, to which options can be added.
pub(crate) fn sync(scratch: &TempDir, source: &Path, target: &Path) -> Program {
    blockprint(scratch).arg("sync").arg(source).arg(target)
}

/// Panics unless the image in `target`, which may be a container, is what `source` holds.
#[track_caller]
pub(crate) fn assert_image(scratch: &TempDir, source: &Path, target: &Path) {
    if target.extension().is_none_or(|end| end != "spgz") {
        return assert_same(source, target);
    }
    let unpacked = scratch.join("unpacked");
    sync(scratch, target, &unpacked).run().expect_ok();
    assert_same(source, &unpacked);
    fs::remove_file(unpacked).unwrap();
}

/// Changes up to `count` places of a file, and sometimes its length.
fn scribble(path: &Path, random: &mut fastrand::Rng, count: u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    let len = file.metadata().unwrap().len();
    for _ in 0..random.u64(0..=count) {
        let mut bytes = vec![0; random.usize(1..200_000)];
        if random.bool() {
            random.fill(&mut bytes);
        }
        let at = random.u64(0..len.max(1));
        bytes.truncate((len.saturating_sub(at)) as usize);
        file.write_all_at(&bytes, at).unwrap();
    }
    match random.u8(0..3) {
        0 => file.set_len(random.u64(0..len + 1)).unwrap(),
        1 => file.set_len(len + random.u64(0..2 * MIB)).unwrap(),
        _ => {}
    }
}

/// An image of random runs, none of which need be whole blocks.
fn make_random(path: &Path, random: &mut fastrand::Rng) {
    let parts: Vec<Part> = (0..random.usize(0..8))
        .map(|_| {
            let len = random.u64(1..900 * KIB);
            let len = if random.bool() { len.next_multiple_of(4 * KIB) } else { len };
            match random.u8(0..3) {
                0 => Part::Hole(len),
                1 => Part::Zeroes(len),
                _ => Part::Noise(len),
            }
        })
        .collect();
    make(path, random.u64(..), &parts);
}

#[test]
fn a_new_file_is_made_like_its_source_and_only_data_takes_space() {
    let scratch = TempDir::new("sync");
    let (source, target) = (scratch.join("source"), scratch.join("target"));
    make_mixed(&source, 1, 3);
    let outcome = sync(&scratch, &source, &target).arg("--json").run().expect_ok();
    let result = outcome.result();
    assert_same(&source, &target);
    assert_eq!(result["way"], "local");
    assert_eq!(result["old_bytes"], 0);
    assert_eq!(result["size_bytes"], 12 * MIB);
    assert!(allocated(&target) < 8 * MIB, "zeroes take {} bytes", allocated(&target));
    assert_eq!(names(scratch.path()), ["source", "target"]);
}

#[test]
fn a_target_that_is_equal_already_is_not_written() {
    let scratch = TempDir::new("sync");
    let source = scratch.join("source");
    make_mixed(&source, 2, 2);
    for name in ["target", "target.spgz"] {
        let target = scratch.join(name);
        sync(&scratch, &source, &target).run().expect_ok();
        let before = fs::metadata(&target).unwrap();
        let result = sync(&scratch, &source, &target).arg("--json").run().expect_ok().result();
        assert_eq!((&result["data_bytes"], &result["zeroed_bytes"]), (&0.into(), &0.into()));
        let after = fs::metadata(&target).unwrap();
        assert_eq!(
            (before.mtime(), before.mtime_nsec(), before.ino()),
            (after.mtime(), after.mtime_nsec(), after.ino()),
            "{name}"
        );
    }
}

#[test]
fn what_differs_is_written_in_pages_and_what_is_zero_becomes_a_hole() {
    let scratch = TempDir::new("sync");
    let (source, target) = (scratch.join("source"), scratch.join("target"));
    make_noise(&source, 3, 8 * MIB);
    fs::copy(&source, &target).unwrap();
    overwrite(&source, 5000, b"x");
    overwrite(&source, 4 * MIB - 1, b"xy");
    overwrite(&source, 6 * MIB, &vec![0; MIB as usize]);
    let result = sync(&scratch, &source, &target).arg("--json").run().expect_ok().result();
    assert_same(&source, &target);
    assert_eq!(result["data_bytes"], 3 * 4 * KIB, "{result}");
    assert_eq!(result["zeroed_bytes"], MIB, "{result}");
    assert_eq!(result["compared_bytes"], 8 * MIB, "{result}");
    assert!(allocated(&target) <= 7 * MIB, "{} bytes", allocated(&target));
}

#[test]
fn a_target_grows_and_shrinks_with_its_source() {
    let scratch = TempDir::new("sync");
    let source = scratch.join("source");
    for name in ["target", "target.spgz"] {
        let target = scratch.join(name);
        for (seed, len) in [
            (4, 3 * MIB),
            (4, 5 * MIB + 77),
            (5, 131_071),
            (5, 131_072),
            (6, 0),
            (6, 4095),
            (7, 9 * MIB),
        ] {
            make(
                &source,
                seed,
                &[Part::Noise(len / 2), Part::Hole(len / 4), Part::Noise(len - len / 2 - len / 4)],
            );
            sync(&scratch, &source, &target).run().expect_ok();
            assert_image(&scratch, &source, &target);
        }
    }
}

#[test]
fn twenty_random_pairs_of_files_end_equal() {
    let scratch = TempDir::new("sync");
    let (source, target) = (scratch.join("source"), scratch.join("target"));
    let container = scratch.join("target.spgz");
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        make_random(&source, &mut random);
        if random.bool() {
            fs::copy(&source, &target).unwrap();
        } else {
            make_random(&target, &mut random);
        }
        scribble(&target, &mut random, 12);
        // A container is kept from round to round, or made anew.
        if random.u8(0..4) == 0 {
            let _ = fs::remove_file(&container);
        }
        let threads = random.usize(1..5).to_string();
        for target in [&target, &container] {
            let told = sync(&scratch, &source, target).args(["--dry-run", "--json"]).run();
            let told = told.expect_ok().result();
            let call = sync(&scratch, &source, target).args(["--threads", &threads, "--json"]);
            let result = call.run().expect_ok().result();
            assert_image(&scratch, &source, target);
            for name in ["size_bytes", "old_bytes", "compared_bytes", "data_bytes", "zeroed_bytes"]
            {
                assert_eq!(told[name], result[name], "pair {seed}: {name} of {target:?}");
            }
        }
    }
    assert_eq!(names(scratch.path()), ["source", "target", "target.spgz"]);
}

#[test]
fn ten_random_images_reach_a_device_and_come_back() {
    let Some(scratch) = require(&Needs::root()) else { return };
    let (disk, source, back) = (scratch.join("disk"), scratch.join("source"), scratch.join("back"));
    make_noise(&disk, 8, 10 * MIB);
    let device = LoopDevice::attach(&disk, &LoopOptions::default());
    for seed in 100..110 {
        let mut random = fastrand::Rng::with_seed(seed);
        make_random(&source, &mut random);
        let size = fs::metadata(&source).unwrap().len();
        let tail = |from: u64| {
            let mut bytes = vec![0; (10 * MIB - from) as usize];
            File::open(device.path()).unwrap().read_exact_at(&mut bytes, from).unwrap();
            bytes
        };
        let rest = tail(size);
        let outcome = sync(&scratch, &source, device.path()).arg("--json").run().expect_ok();
        assert_eq!(outcome.result()["old_bytes"], 10 * MIB);
        let note = outcome
            .events("note")
            .iter()
            .any(|note| note["message"].as_str().unwrap().contains("larger"));
        assert!(note, "{outcome}");
        let bytes = format!("--bytes={size}");
        run(tool("cmp").arg(bytes).arg(&source).arg(device.path()));
        assert!(tail(size) == rest, "what lies behind the image was changed");
        let again = sync(&scratch, &source, device.path()).arg("--json").run().expect_ok().result();
        assert_eq!((&again["data_bytes"], &again["zeroed_bytes"]), (&0.into(), &0.into()));
        // From the device to a file that is there, and is larger or smaller.
        scribble(&source, &mut random, 3);
        fs::rename(&source, &back).unwrap();
        sync(&scratch, device.path(), &back).run().expect_ok();
        assert_same(device.path(), &back);
    }
}

#[test]
fn a_dry_run_changes_nothing_and_makes_nothing() {
    let scratch = TempDir::new("sync");
    let source = scratch.join("source");
    make_mixed(&source, 9, 2);
    for name in ["target", "target.spgz"] {
        let target = scratch.join(name);
        for more in [&[][..], &["--atomic"]] {
            let call = || sync(&scratch, &source, &target).arg("--dry-run").args(more);
            let told = call().run().expect_ok();
            assert!(told.stdout.contains("would be written"), "{told}");
            assert!(!target.exists(), "a dry run made a file");
        }
        make_noise(&scratch.join("other"), 10, 5 * MIB);
        sync(&scratch, &scratch.join("other"), &target).run().expect_ok();
        fs::remove_file(scratch.join("other")).unwrap();
        let (bytes, before) = (fs::read(&target).unwrap(), fs::metadata(&target).unwrap());
        for more in [&[][..], &["--atomic"]] {
            sync(&scratch, &source, &target).arg("--dry-run").args(more).run().expect_ok();
            let after = fs::metadata(&target).unwrap();
            assert!(fs::read(&target).unwrap() == bytes, "a dry run changed {name}");
            assert_eq!((before.mtime_nsec(), before.ino()), (after.mtime_nsec(), after.ino()));
        }
        fs::remove_file(&target).unwrap();
        assert_eq!(names(scratch.path()), ["source"]);
    }
}

#[test]
fn an_index_is_a_source_as_any_other() {
    let scratch = TempDir::new("sync");
    let [source, index, store, target] =
        ["source", "disk.caibx", "store", "target"].map(|name| scratch.join(name));
    make_mixed(&source, 11, 2);
    make_noise(&target, 12, 3 * MIB);
    let make = blockprint(&scratch).arg("make").arg(&index).arg(&source).arg("--store").arg(&store);
    make.run().expect_ok();
    sync(&scratch, &index, &target).arg("--store").arg(&store).run().expect_ok();
    assert_same(&source, &target);
    // And it is no target.
    let outcome = sync(&scratch, &source, &index).run();
    crate::support::assert_refused(outcome, 17, &["is a chunk index"]);
}

#[test]
fn a_limit_and_needless_wishes_do_no_harm() {
    let scratch = TempDir::new("sync");
    let (source, target) = (scratch.join("source"), scratch.join("target"));
    make_noise(&source, 13, MIB);
    make_noise(&target, 14, MIB);
    let call = sync(&scratch, &source, &target).args(["--limit", "4M", "--keep-digests", "--json"]);
    let outcome = call.run().expect_ok();
    assert_same(&source, &target);
    assert!(outcome.result()["elapsed_ms"].as_f64().unwrap() > 150.0, "{outcome}");
    let notes = outcome.events("note");
    assert!(notes[0]["message"].as_str().unwrap().contains("no digests to keep"), "{outcome}");
    assert_eq!(names(scratch.path()), ["source", "target"]);
}
