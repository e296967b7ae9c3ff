//! `--since CLONE`: only what changed since the clone was made is read.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use testkit::host::{Filesystem, Needs, require, run, tool};

use crate::support::{MIB, assert_same, make_noise, overwrite};
use crate::sync_digests::{Neighbour, read_bytes};

fn reflink(source: &Path, clone: &Path) {
    run(tool("cp").arg("--reflink=always").arg(source).arg(clone));
}

/// An image of `size_bytes`, an eighth of it data, the rest holes and preallocated.
fn make_large(path: &Path, size_bytes: u64) {
    let file = File::create(path).unwrap();
    file.set_len(size_bytes).unwrap();
    let mut bytes = vec![0; MIB as usize];
    let mut random = fastrand::Rng::with_seed(1);
    for at in (0..size_bytes).step_by(16 * MIB as usize) {
        random.fill(&mut bytes);
        file.write_all_at(&bytes, at).unwrap();
    }
    let preallocate = ["--keep-size", "--offset", "1G", "--length", "512M"];
    run(tool("fallocate").args(preallocate).arg(path));
    file.sync_all().unwrap();
}

/// Changes so much of it, 64 KiB at each of many places, written and unwritten ones.
fn change(path: &Path, size_bytes: u64, changed_bytes: u64) {
    const PIECE: u64 = 64 << 10;
    let file = File::options().write(true).open(path).unwrap();
    let mut random = fastrand::Rng::with_seed(2);
    let mut bytes = vec![0; PIECE as usize];
    let mut places: Vec<u64> = (0..size_bytes / PIECE).collect();
    random.shuffle(&mut places);
    for place in &places[..(changed_bytes / PIECE) as usize] {
        random.fill(&mut bytes);
        file.write_all_at(&bytes, place * PIECE).unwrap();
    }
    file.sync_all().unwrap();
}

#[test]
fn of_eight_gibibytes_only_the_hundred_mebibytes_that_changed_are_read() {
    const SIZE: u64 = 8 << 30;
    const CHANGED: u64 = 100 * MIB;
    let Some(scratch) = require(&Needs::root().filesystems(&["xfs"])) else { return };
    let here = Neighbour::new(scratch);
    let outer = Filesystem::xfs(10 << 30);
    let [source, clone, target] = ["source", "clone", "target"].map(|name| outer.path().join(name));
    make_large(&source, SIZE);
    here.push(&[], &source, &target).run().expect_ok();
    reflink(&source, &clone);
    change(&source, SIZE, CHANGED);
    let since = clone.display().to_string();
    let (read, result) = read_bytes(here.push(&["--since", &since], &source, &target));
    assert_eq!(result["compared_bytes"], CHANGED, "{result}");
    assert_eq!(result["assumed_bytes"], SIZE - CHANGED, "{result}");
    eprintln!(
        "of {} MiB, {} MiB changed: {:.1} MiB read from the source's machine, all told",
        SIZE / MIB,
        CHANGED / MIB,
        read as f64 / MIB as f64
    );
    assert!(read <= CHANGED * 11 / 10, "{read} bytes read");
    assert_same(&source, &target);
}

#[test]
fn a_target_that_is_not_what_the_clone_was_synced_to_is_found_where_digests_are_kept() {
    let Some(scratch) = require(&Needs::root().filesystems(&["xfs"])) else { return };
    let here = Neighbour::new(scratch);
    let outer = Filesystem::xfs(512 * MIB);
    let [source, clone, target] = ["source", "clone", "target"].map(|name| outer.path().join(name));
    make_noise(&source, 3, 20 * MIB);
    reflink(&source, &clone);
    overwrite(&source, 5 * MIB, b"newer");
    here.push(&["--keep-digests"], &clone, &target).run().expect_ok();
    let since = clone.display().to_string();
    let options = ["--keep-digests", "--since", &since];
    here.push(&options, &source, &target).run().expect_ok();
    assert_same(&source, &target);

    // Another image was synced there meanwhile.
    let other = outer.path().join("other");
    make_noise(&other, 4, 20 * MIB);
    here.push(&["--keep-digests"], &other, &target).run().expect_ok();
    let outcome = here.push(&options, &source, &target).run();
    assert!(outcome.stdout.contains("the target is not what it was"), "{outcome}");
    outcome.expect_exit(19);
    assert_same(&other, &target);
}

#[test]
fn what_can_be_no_clone_of_the_source_is_refused() {
    let Some(scratch) = require(&Needs::root().filesystems(&["xfs", "ext4"])) else { return };
    let here = Neighbour::new(scratch);
    let (xfs, ext4) = (Filesystem::xfs(320 * MIB), Filesystem::ext4(64 * MIB));
    let (source, plain) = (xfs.path().join("source"), ext4.path().join("source"));
    make_noise(&source, 5, 4 * MIB);
    fs::copy(&source, &plain).unwrap();
    let target = here.path("target");
    fs::copy(&source, &target).unwrap();
    let refused = |source: &Path, since: &Path, code: i32, part: &str| {
        let since = since.display().to_string();
        let outcome = here.push(&["--since", &since], source, &target).run();
        assert!(outcome.stdout.contains(part), "{outcome}");
        outcome.expect_exit(code);
    };
    refused(&source, &source, 17, "is the source itself");
    refused(&source, xfs.path(), 17, "is no regular file");
    refused(&source, &plain, 16, "does not lie on XFS or Btrfs");
    refused(&source, &xfs.path().join("none"), 10, "No such file");
    let clone = ext4.path().join("clone");
    fs::copy(&plain, &clone).unwrap();
    refused(&plain, &clone, 16, "does not lie on XFS or Btrfs");
}
