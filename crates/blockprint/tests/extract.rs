//! `blockprint extract` of what the real casync made: onto files and devices, from stores, seeds, and what is there.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::Value;
use testkit::host::{
    Filesystem, LoopDevice, LoopOptions, Needs, Program, TempDir, require, run, tool,
};

use crate::support::{
    KIB, MIB, Part, allocated, assert_refused, assert_same, blockprint, make, make_mixed,
    make_noise, names, overwrite,
};

/// An image, its index, and a store with its chunks, made by casync.
pub(crate) struct Made {
    pub(crate) source: PathBuf,
    pub(crate) index: PathBuf,
    pub(crate) store: PathBuf,
}

impl Made {
    /// Has casync make the index `source`.caibx, and a store of its own beside it.
    #[track_caller]
    pub(crate) fn of(source: &Path) -> Self {
        Made::with(source, &[])
    }

    /// The same with more options.
    #[track_caller]
    pub(crate) fn with(source: &Path, options: &[&str]) -> Self {
        let beside = |suffix: &str| {
            let mut path = source.as_os_str().to_owned();
            path.push(suffix);
            PathBuf::from(path)
        };
        let (index, store) = (beside(".caibx"), beside(".castr"));
        let mut command = tool("casync");
        command.arg("make").args(options).arg(format!("--store={}", store.display()));
        run(command.arg(&index).arg(source));
        Made { source: source.to_path_buf(), index, store }
    }

    /// A mixed image of `units` times 4 MiB in `folder`.
    #[track_caller]
    pub(crate) fn mixed(folder: &Path, seed: u64, units: usize) -> Self {
        let source = folder.join("source");
        make_mixed(&source, seed, units);
        Made::of(&source)
    }

    /// `blockprint extract` of it to `target`.
    pub(crate) fn extract(&self, scratch: &TempDir, target: &Path) -> Program {
        blockprint(scratch).arg("extract").arg(&self.index).arg(target).arg("-s").arg(&self.store)
    }

    /// The files of the chunks in the store, in the order of their names.
    pub(crate) fn chunk_files(&self) -> Vec<PathBuf> {
        let folders = names(&self.store).into_iter().map(|name| self.store.join(name));
        folders
            .flat_map(|folder| names(&folder).into_iter().map(move |name| folder.join(name)))
            .collect()
    }
}

pub(crate) fn casync() -> Needs {
    Needs::none().tools(&["casync"])
}

pub(crate) fn casync_as_root() -> Needs {
    Needs::root().tools(&["casync"])
}

/// The result of an extract that is to succeed, whose parts cover all of it.
#[track_caller]
pub(crate) fn result(call: Program) -> Value {
    let result = call.arg("--json").run().expect_ok().result();
    let parts = ["zero", "in_place", "seeds", "self", "cache", "stores"];
    let sum: u64 = parts.iter().map(|part| bytes(&result, part)).sum();
    assert_eq!(sum, result["size_bytes"].as_u64().unwrap(), "{result}");
    result
}

pub(crate) fn bytes(result: &Value, part: &str) -> u64 {
    result[part]["bytes"].as_u64().unwrap()
}

pub(crate) fn chunks(result: &Value, part: &str) -> u64 {
    result[part]["chunks"].as_u64().unwrap()
}

#[test]
fn what_casync_made_is_extracted_equal_and_takes_no_more_space() {
    let Some(scratch) = require(&casync()) else { return };
    let made = Made::mixed(scratch.path(), 300, 3);
    let target = scratch.join("target");
    let found = result(made.extract(&scratch, &target).arg("--verify"));
    assert_same(&made.source, &target);
    assert!(allocated(&target) <= allocated(&made.source), "{} bytes", allocated(&target));
    assert_eq!(found["verified"], true);
    assert!(bytes(&found, "zero") > 0 && found["fetched_bytes"].as_u64().unwrap() > 6 * MIB);
    let umask = u32::from_str_radix(run(tool("sh").args(["-c", "umask"])).trim(), 8).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&target), 0o666 & !umask);
    assert_eq!(names(scratch.path()), ["source", "source.caibx", "source.castr", "target"]);

    assert_refused(made.extract(&scratch, &target).run(), 11, &["exists already", "--force"]);
    fs::write(&target, "old").unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
    made.extract(&scratch, &target).arg("--force").run().expect_ok();
    assert_same(&made.source, &target);
    assert_eq!(mode(&target), 0o600);
}

#[test]
fn every_digest_chunk_size_and_compression_of_casync_is_read() {
    let Some(scratch) = require(&casync()) else { return };
    let source = scratch.join("source");
    make(
        &source,
        301,
        &[
            Part::Noise(700 * KIB),
            Part::Hole(MIB),
            Part::Noise(33 * KIB + 7),
            Part::Zeroes(500 * KIB),
        ],
    );
    for options in [
        &["--digest=sha256"][..],
        &["--compression=xz", "--chunk-size=4096"],
        &["--compression=gzip", "--chunk-size=4096:4096:4096"],
        &["--chunk-size=1M"],
        &["--chunk-size=64:100:200"],
        &["--chunk-size=128M:128M:128M"],
    ] {
        let made = Made::with(&source, options);
        let target = scratch.join("target");
        result(made.extract(&scratch, &target));
        assert_same(&source, &target);
        assert!(allocated(&target) <= allocated(&source), "{options:?}: {}", allocated(&target));
        fs::remove_file(&target).unwrap();
        fs::remove_dir_all(&made.store).unwrap();
    }
}

#[test]
fn an_empty_blob_is_an_empty_file() {
    let Some(scratch) = require(&casync()) else { return };
    let (source, target) = (scratch.join("source"), scratch.join("target"));
    File::create(&source).unwrap();
    let made = Made::of(&source);
    fs::create_dir_all(&made.store).unwrap();
    result(made.extract(&scratch, &target));
    assert_eq!(fs::metadata(&target).unwrap().len(), 0);
    fs::write(&target, "old").unwrap();
    result(made.extract(&scratch, &target).arg("-k"));
    assert_eq!(fs::metadata(&target).unwrap().len(), 0);
}

#[test]
fn an_old_file_in_place_becomes_the_image_whatever_it_was() {
    let Some(scratch) = require(&casync()) else { return };
    let made = Made::mixed(scratch.path(), 302, 3);
    let target = scratch.join("target");
    let image = fs::read(&made.source).unwrap();
    let mut moved = vec![7; 100_000];
    moved.extend(&image);
    let backwards: Vec<u8> = image.chunks(777_777).rev().flatten().copied().collect();
    // The second and the third share chunks with the image in other places: casync fails there with "Stale file
    // handle", and leaves the tail of what is longer.
    for (old, more) in [
        (vec![9; 20 << 20], "longer"),
        (moved, "moved"),
        (backwards, "backwards"),
        (image[..5 << 20].to_vec(), "shorter"),
        (Vec::new(), "empty"),
    ] {
        fs::write(&target, &old).unwrap();
        let link = scratch.join("link");
        fs::hard_link(&target, &link).unwrap();
        let found = result(made.extract(&scratch, &target).args(["--in-place", "--verify"]));
        assert_same(&made.source, &target);
        assert_same(&made.source, &link);
        assert!(allocated(&target) <= allocated(&made.source), "{more}");
        assert_eq!(bytes(&found, "in_place") > 3 * MIB, more == "shorter", "{more}: {found}");
        fs::remove_file(&link).unwrap();
    }
    // Only what differs is fetched.
    overwrite(&target, 4 * MIB + 77, b"changed");
    let found = result(made.extract(&scratch, &target).arg("-k"));
    assert_eq!(chunks(&found, "stores"), 1, "{found}");
    assert_same(&made.source, &target);
}

#[test]
fn a_device_gets_the_image_and_keeps_its_tail() {
    let Some(scratch) = require(&casync_as_root()) else { return };
    let made = Made::mixed(scratch.path(), 303, 2);
    let disk = scratch.join("disk");
    make_noise(&disk, 304, 9 * MIB);
    let tail = fs::read(&disk).unwrap()[8 << 20..].to_vec();
    let device = LoopDevice::attach(&disk, &LoopOptions::default());
    let outcome = made.extract(&scratch, device.path()).arg("--verify").run().expect_ok();
    outcome.expect_error("1048576 bytes larger than the image; the rest of it stays");
    let mut found = fs::read(device.path()).unwrap();
    assert!(found.split_off(8 << 20) == tail, "the tail was written to");
    assert!(found == fs::read(&made.source).unwrap());
    overwrite(device.path(), 700_000, b"changed");
    let again = result(made.extract(&scratch, device.path()));
    assert_eq!(chunks(&again, "stores"), 1, "{again}");
    assert_same_front(&made.source, device.path());
}

#[track_caller]
fn assert_same_front(image: &Path, device: &Path) {
    let len = fs::metadata(image).unwrap().len();
    run(tool("cmp").arg(format!("--bytes={len}")).arg(image).arg(device));
}

#[test]
fn a_dry_run_tells_how_much_would_be_fetched_and_writes_nothing() {
    let Some(scratch) = require(&casync()) else { return };
    let made = Made::mixed(scratch.path(), 305, 2);
    let target = scratch.join("target");
    let before = names(scratch.path());
    let outcome = made.extract(&scratch, &target).args(["--dry-run", "--json"]).run().expect_ok();
    let plan = outcome.events("plan").remove(0);
    assert_eq!(names(scratch.path()), before);
    let found = result(made.extract(&scratch, &target));
    assert_eq!(plan["fetch"], found["stores"]);
    assert_eq!((&plan["zero"], &plan["chunks"]), (&found["zero"], &found["chunks"]));
    let seeded = blockprint(&scratch).arg("extract").arg(&made.index).arg(scratch.join("other"));
    let seeded = seeded.arg("-s").arg(&made.store).arg("--seed").arg(&made.index);
    let said = seeded.arg("--dry-run").run().expect_ok().stdout;
    assert!(said.contains("would make the file") && said.contains("0 bytes to fetch"), "{said}");
}

/// An old image with its index, and a new one of which a quarter is new.
fn old_and_new(folder: &Path) -> (Made, Made) {
    let (old, new) = (folder.join("old"), folder.join("new"));
    make_mixed(&old, 306, 3);
    fs::copy(&old, &new).unwrap();
    let mut noise = vec![0; 3 << 20];
    fastrand::Rng::with_seed(307).fill(&mut noise);
    overwrite(&new, 4 * MIB + 4096, &noise);
    (Made::of(&old), Made::of(&new))
}

#[test]
fn what_a_seed_has_is_not_fetched() {
    let Some(scratch) = require(&casync()) else { return };
    let (old, new) = old_and_new(scratch.path());
    let target = scratch.join("target");
    // Without the old store: what is missing can only come from the seed.
    for (number, options) in [
        vec!["--seed".into(), old.index.display().to_string()],
        vec!["--seed".into(), format!("{}:{}", old.index.display(), old.source.display())],
        vec!["--seed-dir".into(), scratch.path().display().to_string()],
    ]
    .into_iter()
    .enumerate()
    {
        let found = result(new.extract(&scratch, &target).args(&options));
        assert_same(&new.source, &target);
        let fetched = bytes(&found, "stores");
        assert!((2 * MIB..5 * MIB).contains(&fetched), "{number}: {found}");
        assert!(bytes(&found, "seeds") > 3 * MIB, "{number}: {found}");
        fs::remove_file(&target).unwrap();
    }
    let nameless = scratch.join("index");
    fs::copy(&old.index, &nameless).unwrap();
    let refused = new.extract(&scratch, &target).arg("--seed").arg(&nameless).run();
    assert_refused(refused, 17, &["names no file", "INDEX:FILE"]);
    let refused = new.extract(&scratch, &target).arg("--seed").arg(scratch.join("no.caibx")).run();
    assert_refused(refused, 10, &["no.caibx"]);
}

#[test]
fn a_seed_without_an_index_is_cut_first() {
    let Some(scratch) = require(&casync_as_root()) else { return };
    let (old, new) = old_and_new(scratch.path());
    let target = scratch.join("target");
    let alone = scratch.join("alone.img");
    fs::copy(&old.source, &alone).unwrap();
    let device = LoopDevice::attach(&alone, &LoopOptions::default());
    for seed in [alone.as_path(), device.path()] {
        let found = result(new.extract(&scratch, &target).arg("--seed").arg(seed));
        assert!(bytes(&found, "seeds") > 3 * MIB, "{found}");
        assert_same(&new.source, &target);
        fs::remove_file(&target).unwrap();
    }
}

#[test]
fn a_seed_on_a_device_is_read() {
    let Some(scratch) = require(&casync_as_root()) else { return };
    let (old, new) = old_and_new(scratch.path());
    let device = LoopDevice::attach(&old.source, &LoopOptions::default());
    let target = scratch.join("target");
    let seed = format!("{}:{}", old.index.display(), device.path().display());
    let found = result(new.extract(&scratch, &target).args(["--seed", &seed]));
    assert!(bytes(&found, "seeds") > 3 * MIB, "{found}");
    assert_same(&new.source, &target);
}

#[test]
fn a_damaged_or_foreign_seed_is_said_and_what_is_wrong_in_it_not_used() {
    let Some(scratch) = require(&casync()) else { return };
    let (old, new) = old_and_new(scratch.path());
    let target = scratch.join("target");
    overwrite(&old.source, 100_001, b"!");
    overwrite(&old.source, 9 * MIB, b"!");
    let call = || new.extract(&scratch, &target).arg("--seed").arg(&old.index);
    let said = call().run().expect_ok();
    assert_eq!(said.stderr.matches("does not hold what its index says").count(), 1, "{said}");
    assert_same(&new.source, &target);
    // All of it is another file, and shorter.
    make_noise(&old.source, 308, 5 * MIB);
    fs::remove_file(&target).unwrap();
    let found = result(call());
    assert_same(&new.source, &target);
    assert_eq!(bytes(&found, "seeds"), 0, "{found}");
}

#[test]
fn blocks_of_a_seed_are_shared_where_the_filesystem_can() {
    let Some(scratch) = require(&casync_as_root().filesystems(&["xfs", "btrfs"])) else { return };
    for outer in [Filesystem::xfs(512 * MIB), Filesystem::btrfs(512 * MIB)] {
        let (old, new) = old_and_new(outer.path());
        let target = outer.path().join("target");
        let call = || new.extract(&scratch, &target).arg("--seed").arg(&old.index);
        let found = result(call().arg("--verify"));
        assert_same(&new.source, &target);
        let (seeds, cloned) =
            (bytes(&found, "seeds"), found["seeds_cloned_bytes"].as_u64().unwrap());
        assert!(cloned > seeds * 9 / 10, "{found}");
        let map = run(tool("filefrag").arg("-v").arg(&target));
        assert!(map.contains("shared"), "{map}");
        // They share blocks, not fate.
        overwrite(&old.source, 100_000, &[0; 65536]);
        assert_same(&new.source, &target);
        fs::remove_file(&target).unwrap();
        let never = result(call().args(["--reflink", "never"]));
        assert_eq!(never["seeds_cloned_bytes"], 0, "{never}");
        assert_same(&new.source, &target);
    }
}

#[test]
fn sharing_that_is_asked_for_and_impossible_fails() {
    let Some(scratch) = require(&casync_as_root().filesystems(&["ext4"])) else { return };
    let outer = Filesystem::ext4(128 * MIB);
    let (old, new) = old_and_new(outer.path());
    let target = outer.path().join("target");
    let call = || new.extract(&scratch, &target).arg("--seed").arg(&old.index);
    assert_refused(call().args(["--reflink", "always"]).run(), 16, &["cannot share blocks"]);
    assert!(!target.exists());
    assert_eq!(result(call())["seeds_cloned_bytes"], 0);
    assert_same(&new.source, &target);
}

#[test]
fn what_stands_in_the_image_twice_is_fetched_once() {
    let Some(scratch) = require(&casync_as_root().filesystems(&["xfs"])) else { return };
    let part = scratch.join("part");
    make_noise(&part, 309, 3 * MIB);
    let noise = fs::read(&part).unwrap();
    let outer = Filesystem::xfs(320 * MIB);
    for folder in [scratch.path(), outer.path()] {
        let (source, target) = (folder.join("source"), folder.join("target"));
        let file = File::create(&source).unwrap();
        for offset in [0, 4 * MIB, 7 * MIB] {
            file.write_all_at(&noise, offset).unwrap();
        }
        let made = Made::of(&source);
        let found = result(made.extract(&scratch, &target));
        assert_same(&source, &target);
        assert!(bytes(&found, "self") > 4 * MIB && bytes(&found, "stores") < 5 * MIB, "{found}");
        if folder == outer.path() {
            let shared = found["self_cloned_bytes"].as_u64().unwrap();
            assert!(shared > 4 * MIB, "{found}");
        }
        // And again in place, where the first of them is gone.
        overwrite(&target, 0, &vec![1; 3 << 20]);
        result(made.extract(&scratch, &target).arg("-k"));
        assert_same(&source, &target);
    }
}

#[test]
fn a_cache_is_filled_and_used() {
    let Some(scratch) = require(&casync()) else { return };
    let made = Made::mixed(scratch.path(), 310, 1);
    let (target, cache) = (scratch.join("target"), scratch.join("cache"));
    let call = || made.extract(&scratch, &target).arg("--cache").arg(&cache);
    let first = result(call());
    assert_eq!(bytes(&first, "cache"), 0);
    fs::remove_file(&target).unwrap();
    let second = result(call());
    assert_eq!((bytes(&second, "stores"), &second["cache"]), (0, &first["stores"]));
    assert_same(&made.source, &target);
}

#[test]
fn blocks_of_uncompressed_chunks_are_shared_with_the_target() {
    let Some(scratch) = require(&casync_as_root().filesystems(&["xfs"])) else { return };
    let outer = Filesystem::xfs(512 * MIB);
    let [source, index, store, target] =
        ["source", "source.caibx", "store", "target"].map(|name| outer.path().join(name));
    make_mixed(&source, 311, 3);
    let make = blockprint(&scratch).arg("make").arg(&index).arg(&source).arg("-s").arg(&store);
    make.args(["--uncompressed", "-m", "64:64:64"]).run().expect_ok();
    let made = Made { source, index, store };
    let found = result(made.extract(&scratch, &target).arg("--verify"));
    assert_same(&made.source, &target);
    let shared = found["stores_cloned_bytes"].as_u64().unwrap();
    assert_eq!(shared, bytes(&found, "stores"), "{found}");
    // They share blocks, not fate.
    overwrite(&target, 10, b"changed");
    fs::remove_file(&target).unwrap();
    let never = result(made.extract(&scratch, &target).args(["--reflink", "never"]));
    assert_eq!(never["stores_cloned_bytes"], 0, "{never}");
    assert_same(&made.source, &target);
}
