//! On real XFS and Btrfs: all that differs is found, and what nobody touched is not.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use sys::PhysicalMap;
use testkit::host::{Filesystem, Needs, require, run, tool};

use super::*;

const BLOCK: u64 = 4096;
const MIB: u64 = 1 << 20;

fn write(path: &Path, offset: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

fn random_bytes(random: &mut fastrand::Rng, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    random.fill(&mut bytes);
    bytes
}

/// A file with data, holes, written zeroes and preallocated ranges, and a clone of it.
fn pair(folder: &Path, random: &mut fastrand::Rng) -> (PathBuf, PathBuf) {
    let [now, then] = ["now", "then"].map(|name| folder.join(name));
    let _ = [&now, &then].map(fs::remove_file);
    let file = File::create(&now).unwrap();
    for unit in 0..6 {
        file.write_all_at(&random_bytes(random, MIB), unit * 2 * MIB).unwrap();
        file.write_all_at(&vec![0; MIB as usize / 2], (unit * 2 + 1) * MIB).unwrap();
    }
    file.set_len(14 * MIB + 77).unwrap();
    drop(file);
    run(tool("fallocate").args(["--offset", "12M", "--length", "1M"]).arg(&now));
    clone(&now, &then);
    (now, then)
}

fn clone(now: &Path, then: &Path) {
    sys::clone_whole(File::open(now).unwrap(), File::create(then).unwrap()).unwrap();
}

/// One thing that a program may do to a file. Returns what it touched.
fn touch(path: &Path, random: &mut fastrand::Rng) -> Range<u64> {
    let len = fs::metadata(path).unwrap().len();
    let start = random.u64(0..len);
    let range = start..(start + random.u64(1..200_000)).min(len);
    let number = |value: u64| value.to_string();
    let fallocate = |action: &str| {
        let mut command = tool("fallocate");
        command.args([action, "--keep-size", "--offset", &number(range.start)]);
        run(command.args(["--length", &number(range.end - range.start)]).arg(path));
    };
    match random.u32(0..8) {
        0..=2 => write(path, range.start, &random_bytes(random, range.end - range.start)),
        3 => write(path, range.start, &vec![0; (range.end - range.start) as usize]),
        4 => fallocate("--punch-hole"),
        5 => fallocate("--zero-range"),
        6 => {
            let grown = len + random.u64(1..3 * MIB);
            OpenOptions::new().write(true).open(path).unwrap().set_len(grown).unwrap();
            return len.min(grown)..grown;
        }
        _ => {
            let added = random_bytes(random, 70_000);
            write(path, len, &added);
            return len..len + 70_000;
        }
    }
    range
}

fn assert_covers_all_that_differs(now: &Path, then: &Path, changed: &RangeSet) {
    let (now, then) = (fs::read(now).unwrap(), fs::read(then).unwrap());
    for (number, block) in now.chunks(512).enumerate() {
        let at = number * 512;
        let old = then.get(at..).unwrap_or_default();
        let common = old.len().min(block.len());
        let [start, middle, end] = [at, at + common, at + block.len()].map(|at| at as u64);
        let is_same = block[..common] == old[..common];
        assert!(is_same || changed.contains(&(start..middle)), "{start}..{middle} differs");
        assert!(changed.contains(&(middle..end)), "{middle}..{end} is not there in the clone");
    }
    assert!(changed.iter().all(|range| range.end <= now.len() as u64), "past the end");
}

#[test]
fn all_that_differs_is_found_whatever_was_done_to_the_file_or_its_clone() {
    let Some(_scratch) = require(&Needs::root().filesystems(&["xfs", "btrfs"])) else { return };
    for (outer, seed) in [(Filesystem::xfs(512 * MIB), 1), (Filesystem::btrfs(512 * MIB), 2)] {
        let mut random = fastrand::Rng::with_seed(seed);
        for round in 0..25 {
            let (now, then) = pair(outer.path(), &mut random);
            let untouched = changed(&now, &then, &Task::silent()).unwrap();
            assert!(untouched.is_empty(), "nothing was done: {untouched:?}");
            let mut touched = RangeSet::new();
            for _ in 0..random.u32(1..12) {
                let which = if random.u32(0..5) == 0 { &then } else { &now };
                let range = touch(which, &mut random);
                // Blocks as a whole, and Btrfs may move what lies beside.
                let around = 4 * BLOCK;
                touched.insert(range.start.saturating_sub(around)..range.end + around);
            }
            let found = changed(&now, &then, &Task::silent()).unwrap();
            assert_covers_all_that_differs(&now, &then, &found);
            let lengths = [&now, &then].map(|path| fs::metadata(path).unwrap().len());
            let shorter = lengths.into_iter().min().unwrap();
            for range in found.iter().filter(|range| range.end <= shorter) {
                assert!(touched.contains(&range), "round {round}: {range:?} was not touched");
            }
        }
    }
}

#[test]
fn on_xfs_exactly_the_blocks_that_were_written_are_found() {
    let Some(_scratch) = require(&Needs::root().filesystems(&["xfs"])) else { return };
    let outer = Filesystem::xfs(512 * MIB);
    let mut random = fastrand::Rng::with_seed(3);
    let [now, then] = ["now", "then"].map(|name| outer.path().join(name));
    fs::write(&now, random_bytes(&mut random, 64 * MIB)).unwrap();
    clone(&now, &then);
    let mut touched = RangeSet::new();
    for _ in 0..300 {
        let offset = random.u64(0..64 * MIB - 1);
        write(&now, offset, b"x");
        touched.insert(offset / BLOCK * BLOCK..(offset / BLOCK + 1) * BLOCK);
    }
    assert_eq!(changed(&now, &then, &Task::silent()).unwrap(), touched);

    // A clone that is cut says nothing of what lies past its end.
    OpenOptions::new().write(true).open(&then).unwrap().set_len(10 * MIB + 1).unwrap();
    touched.insert(10 * MIB + 1..64 * MIB);
    let found = changed(&now, &then, &Task::silent()).unwrap();
    assert!(touched.iter().all(|range| found.contains(&range)));
    assert!(found.total_bytes() <= touched.total_bytes() + BLOCK);
    // A source that is cut has nothing there that could have changed.
    OpenOptions::new().write(true).open(&now).unwrap().set_len(MIB).unwrap();
    let found = changed(&now, &then, &Task::silent()).unwrap();
    assert!(found.iter().all(|range| range.end <= MIB));
}

#[test]
fn blocks_that_were_freed_and_given_out_again_are_not_taken_for_the_old_ones() {
    let Some(_scratch) = require(&Needs::root().filesystems(&["xfs"])) else { return };
    // So small that freed blocks are soon used again.
    let outer = Filesystem::xfs(320 * MIB);
    let mut random = fastrand::Rng::with_seed(4);
    let [now, then] = ["now", "then"].map(|name| outer.path().join(name));
    fs::write(&now, random_bytes(&mut random, 40 * MIB)).unwrap();
    clone(&now, &then);
    for round in 0..8 {
        // Anew, and past one another: many of the blocks come from where others were.
        fs::remove_file(&now).unwrap();
        fs::write(&now, random_bytes(&mut random, 40 * MIB)).unwrap();
        let found = changed(&now, &then, &Task::silent()).unwrap();
        assert_eq!(found.total_bytes(), 40 * MIB, "round {round}");
    }
}

#[test]
fn compressed_extents_of_btrfs_count_as_changed_and_others_beside_them_do_not() {
    let Some(_scratch) = require(&Needs::root().filesystems(&["btrfs"])) else { return };
    let outer = Filesystem::btrfs(512 * MIB);
    run(tool("mount").args(["-o", "remount,compress-force=zstd"]).arg(outer.path()));
    let [now, then] = ["now", "then"].map(|name| outer.path().join(name));
    fs::write(&now, "text that can be compressed\n".repeat(100_000)).unwrap();
    clone(&now, &then);
    let map = PhysicalMap::read(File::open(&now).unwrap()).unwrap();
    assert!(map.extents().iter().all(|extent| extent.physical.is_none()), "{map:?}");
    let all = fs::metadata(&now).unwrap().len();
    assert_eq!(changed(&now, &then, &Task::silent()).unwrap().total_bytes(), all);
}

#[test]
fn a_clone_in_another_subvolume_is_one_and_a_file_of_another_filesystem_is_none() {
    let Some(_scratch) = require(&Needs::root().tools(&["btrfs"]).filesystems(&["xfs", "btrfs"]))
    else {
        return;
    };
    let outer = Filesystem::btrfs(512 * MIB);
    let now = outer.path().join("now");
    let mut random = fastrand::Rng::with_seed(5);
    fs::write(&now, random_bytes(&mut random, 8 * MIB)).unwrap();
    let snapshot = outer.path().join("snapshot");
    run(tool("btrfs").args(["subvolume", "snapshot", "-r"]).arg(outer.path()).arg(&snapshot));
    write(&now, 3 * MIB, b"changed");
    let found = changed(&now, &snapshot.join("now"), &Task::silent()).unwrap();
    assert!(found.iter().eq(std::iter::once(3 * MIB..3 * MIB + BLOCK)), "{found:?}");

    let other = Filesystem::xfs(320 * MIB);
    let elsewhere = other.path().join("then");
    fs::copy(&now, &elsewhere).unwrap();
    let error = changed(&now, &elsewhere, &Task::silent()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
}

proptest! {
    #[test]
    fn however_many_ranges_are_found_all_of_them_are_covered_by_few(
        gaps in prop::collection::vec((0u64..9, 1u64..9), 0..80), max in 1usize..20,
    ) {
        let mut ranges = Ranges { found: Vec::new(), max };
        let mut pushed = Vec::new();
        let mut at = 0;
        for (gap, len) in gaps {
            at += gap;
            pushed.push(at..at + len);
            ranges.push(at..at + len);
            at += len;
            prop_assert!(ranges.found.len() <= 2 * max);
        }
        let all: RangeSet = pushed.iter().cloned().collect();
        let found = ranges.finish();
        prop_assert!(found.count() <= max);
        prop_assert!(pushed.iter().all(|range| found.contains(range)));
        if all.count() <= max {
            prop_assert_eq!(found, all);
        }
    }
}

#[test]
fn the_nearest_are_joined_first() {
    let mut ranges = Ranges { found: Vec::new(), max: 2 };
    for range in [0..1, 5..6, 7..8, 100..101] {
        ranges.push(range);
    }
    assert!(ranges.finish().iter().eq([0..8, 100..101]));
}

#[test]
fn what_is_no_pair_of_files_on_a_filesystem_with_clones_is_refused() {
    let task = Task::silent();
    let folder = testkit::host::TempDir::new("since");
    let [a, b] = ["a", "b"].map(|name| folder.join(name));
    std::fs::write(&a, "a").unwrap();
    std::fs::write(&b, "b").unwrap();
    let refused = |now: &Path, then: &Path| changed(now, then, &task).unwrap_err();
    assert_eq!(refused(&a, folder.path()).kind(), ErrorKind::Invalid);
    assert_eq!(refused(&a, &a).kind(), ErrorKind::Invalid);
    assert_eq!(refused(&a, &folder.join("none")).kind(), ErrorKind::NotFound);
    if BlockSpace::of(File::open(&a).unwrap()).unwrap().is_none() {
        assert_eq!(refused(&a, &b).kind(), ErrorKind::Unsupported);
    }
}
