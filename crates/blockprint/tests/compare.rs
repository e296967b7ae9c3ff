//! `blockprint compare`: exit codes, ranges and sizes, judged by `cmp`.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use testkit::host::{LoopDevice, LoopOptions, Needs, Outcome, TempDir, require, tool};

use crate::support::{
    KIB, MIB, Part, assert_refused, blockprint, make, make_mixed, make_noise, overwrite,
};

fn compare(scratch: &TempDir, a: &Path, b: &Path, more: &[&str]) -> Outcome {
    blockprint(scratch).arg("compare").args(more).arg(a).arg(b).run()
}

/// Whether `cmp` finds them equal, and the offset of the first difference that it tells.
fn cmp(a: &Path, b: &Path) -> (bool, Option<u64>) {
    let output = tool("cmp").arg(a).arg(b).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // "differ: char 5, line 1" where no language is set.
    let byte = text.split("differ: ").nth(1).and_then(|rest| rest.split([' ', ',']).nth(1));
    (output.status.success(), byte.map(|number| number.parse::<u64>().unwrap() - 1))
}

#[test]
fn equal_images_are_equal_however_their_zeroes_are_kept() {
    let scratch = TempDir::new("compare");
    let (a, b) = (scratch.join("a"), scratch.join("b"));
    make(&a, 140, &[Part::Noise(MIB), Part::Hole(MIB), Part::Zeroes(MIB), Part::Hole(MIB)]);
    make(&b, 140, &[Part::Noise(MIB), Part::Zeroes(MIB), Part::Hole(2 * MIB)]);
    let said = compare(&scratch, &a, &b, &[]).expect_ok();
    assert!(said.stdout.starts_with("equal: 4 MiB"), "{said}");
    let result = compare(&scratch, &a, &b, &["--json"]).expect_ok().result();
    assert_eq!(result["equal"], true);
    assert_eq!(result["first_difference"], json!(null));
    assert_eq!(result["zero_bytes"], MIB, "a hole in both was read");
    assert_eq!(result["compared_bytes"], 3 * MIB);
    assert_eq!(compare(&scratch, &a, &b, &["--quiet"]).expect_ok().stdout, "");
}

#[test]
fn differing_ranges_are_told_with_their_number_and_the_first_byte() {
    let scratch = TempDir::new("compare");
    let (a, b) = (scratch.join("a"), scratch.join("b"));
    make_noise(&a, 141, 3 * MIB);
    fs::copy(&a, &b).unwrap();
    let flip = |offset: u64| {
        let mut byte = [0];
        File::open(&a).unwrap().read_exact_at(&mut byte, offset).unwrap();
        overwrite(&b, offset, &[!byte[0]]);
    };
    for offset in [700_001, 700_500, 2 * MIB - 1, 2 * MIB, 3 * MIB - 1] {
        flip(offset);
    }
    let result = compare(&scratch, &a, &b, &["--json"]).expect_exit(1).result();
    assert_eq!(result["first_difference"], 700_001);
    assert_eq!(result["first_difference"].as_u64(), cmp(&a, &b).1);
    let range = |offset: u64, len: u64| json!({ "offset": offset, "len_bytes": len });
    let expected =
        json!([range(699_904, 1024), range(2 * MIB - 512, 1024), range(3 * MIB - 512, 512),]);
    assert_eq!(result["differing"], expected);
    assert_eq!(result["differing_count"], 3);
    assert_eq!(result["differing_bytes"], 2560);
    assert_eq!(result["granule_bytes"], 512);
    let said = compare(&scratch, &a, &b, &["--list", "1"]).expect_exit(1);
    let expected = "first difference at offset 700001, 2.5 KiB in 3 ranges";
    assert!(said.stdout.contains(expected), "{said}");
    assert!(said.stdout.contains("and 2 more ranges"), "{said}");
    let first = compare(&scratch, &a, &b, &["--first", "--json"]).expect_exit(1).result();
    assert_eq!(first["first_difference"], 700_001);
    assert_eq!(first["stopped_at_first"], true);
    assert!(first["compared_bytes"].as_u64().unwrap() < 3 * MIB, "it did not stop: {first}");
}

#[test]
fn cmp_agrees_on_random_pairs() {
    let scratch = TempDir::new("compare");
    let (a, b) = (scratch.join("a"), scratch.join("b"));
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..40 {
        let mut parts = Vec::new();
        for _ in 0..random.usize(1..12) {
            let len = random.u64(1..300 * KIB);
            let len = if random.bool() { len.next_multiple_of(4096) } else { len };
            parts.push(match random.u8(0..3) {
                0 => Part::Noise(len),
                1 => Part::Zeroes(len),
                _ => Part::Hole(len),
            });
        }
        make(&a, seed, &parts);
        for part in &mut parts {
            *part = match *part {
                Part::Hole(len) if random.bool() => Part::Zeroes(len),
                Part::Zeroes(len) if random.bool() => Part::Hole(len),
                other => other,
            };
        }
        make(&b, seed, &parts);
        let size = fs::metadata(&a).unwrap().len();
        if random.u8(0..3) > 0 {
            overwrite(&b, random.u64(0..size), &[random.u8(1..)]);
        }
        if random.u8(0..5) == 0 {
            File::options().write(true).open(&b).unwrap().set_len(random.u64(0..2 * size)).unwrap();
        }
        let (is_equal, first) = cmp(&a, &b);
        let outcome = compare(&scratch, &a, &b, &["--json"]);
        assert_eq!(outcome.status.code(), Some(i32::from(!is_equal)), "{outcome} (seed {seed})");
        let result = outcome.result();
        assert_eq!(result["equal"], is_equal, "{outcome} (seed {seed})");
        assert_eq!(result["first_difference"].as_u64(), first, "{outcome} (seed {seed})");
    }
}

#[test]
fn different_sizes_are_told_and_the_common_part_is_compared() {
    let scratch = TempDir::new("compare");
    let (a, b) = (scratch.join("a"), scratch.join("b"));
    make_mixed(&a, 142, 1);
    fs::copy(&a, &b).unwrap();
    File::options().write(true).open(&b).unwrap().set_len(5 * MIB).unwrap();
    let said = compare(&scratch, &a, &b, &[]).expect_exit(1);
    for part in ["sizes differ", "4194304 bytes", "5242880 bytes", "1 MiB more", "are equal"] {
        assert!(said.stdout.contains(part), "it does not say {part:?}: {said}");
    }
    let said = compare(&scratch, &b, &a, &[]).expect_exit(1);
    assert!(said.stdout.contains("1 MiB fewer"), "{said}");
    let result = compare(&scratch, &a, &b, &["--json"]).expect_exit(1).result();
    assert_eq!(result["equal"], false);
    assert_eq!(result["differing"], json!([]));
    assert_eq!(result["a"]["size_bytes"], 4 * MIB);
    assert_eq!(result["b"]["size_bytes"], 5 * MIB);
}

#[test]
fn two_huge_sparse_files_are_compared_at_once() {
    let scratch = TempDir::new("compare");
    let (a, b) = (scratch.join("a"), scratch.join("b"));
    for path in [&a, &b] {
        make(path, 143, &[Part::Hole(1 << 39), Part::Noise(64 * KIB), Part::Hole(1 << 39)]);
    }
    let outcome = compare(&scratch, &a, &b, &["--json"]).expect_ok();
    assert!(outcome.elapsed < Duration::from_secs(5), "it took {:?}", outcome.elapsed);
    assert_eq!(outcome.result()["compared_bytes"], 64 * KIB);
    overwrite(&b, 1 << 38, &[1]);
    let outcome = compare(&scratch, &a, &b, &["--json"]).expect_exit(1);
    assert!(outcome.elapsed < Duration::from_secs(5), "it took {:?}", outcome.elapsed);
    assert_eq!(outcome.result()["first_difference"], 1_u64 << 38);
}

#[test]
fn a_file_is_compared_with_a_device() {
    let Some(scratch) = require(&Needs::root()) else { return };
    let (a, disk) = (scratch.join("a"), scratch.join("disk"));
    make_mixed(&a, 144, 1);
    fs::copy(&a, &disk).unwrap();
    let device = LoopDevice::attach(&disk, &LoopOptions::default());
    compare(&scratch, &a, device.path(), &[]).expect_ok();
    overwrite(device.path(), 3 * MIB + 7, b"x");
    let result = compare(&scratch, device.path(), &a, &["--json"]).expect_exit(1).result();
    assert_eq!(result["first_difference"], 3 * MIB + 7);
}

#[test]
fn what_cannot_be_compared_is_no_difference() {
    let scratch = TempDir::new("compare");
    let a = scratch.join("a");
    make_mixed(&a, 145, 1);
    assert_refused(compare(&scratch, &a, &scratch.join("b"), &[]), 10, &["No such file"]);
    assert_refused(compare(&scratch, &a, scratch.path(), &[]), 17, &["is a folder"]);
    if let Some(scratch) = require(&Needs::root()) {
        let disk = scratch.join("disk");
        make_noise(&disk, 146, MIB);
        let device = LoopDevice::attach(&disk, &LoopOptions::default());
        fs::copy(&disk, scratch.join("same")).unwrap();
        File::options().write(true).open(&disk).unwrap().set_len(0).unwrap();
        let outcome = compare(&scratch, device.path(), &scratch.join("same"), &[]);
        assert_refused(outcome, 20, &["Input/output error"]);
    }
}
