//! `blockprint verify` of files and devices against indexes that the real casync made, and its repairs.

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use testkit::host::{
    Filesystem, LoopDevice, LoopOptions, Program, TempDir, drop_caches, make_image, require, run,
    tool,
};

use crate::extract::{Made, bytes, casync, casync_as_root};
use crate::support::{
    KIB, MIB, Part, assert_refused, assert_same, blockprint, make, make_mixed, names, overwrite,
};

fn verify(scratch: &TempDir, index: &Path, target: &Path) -> Program {
    blockprint(scratch).arg("verify").arg(index).arg(target)
}

#[track_caller]
fn result(call: Program, code: i32) -> Value {
    call.arg("--json").run().expect_exit(code).result()
}

#[test]
fn a_right_file_is_right_without_any_store() {
    let Some(scratch) = require(&casync()) else { return };
    let made = Made::mixed(scratch.path(), 350, 3);
    fs::remove_dir_all(&made.store).unwrap();
    let found = result(verify(&scratch, &made.index, &made.source), 0);
    assert_eq!((&found["right"], &found["bad_chunks"]), (&Value::from(true), &Value::from(0)));
    assert_eq!(found["bad"], Value::Array(Vec::new()));
    let said = verify(&scratch, &made.index, &made.source).run().expect_ok().stdout;
    assert!(said.contains("is what") && said.contains("12 MiB in"), "{said}");
}

#[test]
fn a_flipped_byte_is_found_and_its_range_named() {
    let Some(scratch) = require(&casync()) else { return };
    let made = Made::mixed(scratch.path(), 351, 3);
    // In data, in a written zero, in a hole, and in the last byte.
    let places = [300 * KIB + 1, 4 * MIB + 800 * KIB, 9 * MIB + 900 * KIB, 12 * MIB - 1];
    for place in places {
        let good = fs::read(&made.source).unwrap();
        overwrite(&made.source, place, &[good[place as usize] ^ 1]);
        let found = result(verify(&scratch, &made.index, &made.source), 1);
        assert_eq!((&found["bad_chunks"], &found["bad_count"]), (&1.into(), &1.into()), "{found}");
        let (offset, len) =
            (found["bad"][0]["offset"].as_u64(), found["bad"][0]["len_bytes"].as_u64());
        let (offset, len) = (offset.unwrap(), len.unwrap());
        assert!(offset <= place && place < offset + len && len <= 256 * KIB, "{found}");
        let said = verify(&scratch, &made.index, &made.source).run().expect_exit(1).stdout;
        assert!(said.contains("1 chunk of") && said.contains(&offset.to_string()), "{said}");
        overwrite(&made.source, place, &good[place as usize..][..1]);
    }
    result(verify(&scratch, &made.index, &made.source), 0);
}

#[test]
fn data_that_became_a_hole_and_a_file_of_another_size_are_found() {
    let Some(scratch) = require(&casync()) else { return };
    let made = Made::mixed(scratch.path(), 352, 2);
    run(tool("fallocate")
        .args(["--punch-hole", "--offset=0", "--length=600KiB"])
        .arg(&made.source));
    let found = result(verify(&scratch, &made.index, &made.source), 1);
    assert!(found["bad_bytes"].as_u64().unwrap() >= 600 * KIB, "{found}");

    make_mixed(&made.source, 352, 2);
    let file = OpenOptions::new().write(true).open(&made.source).unwrap();
    file.set_len(8 * MIB + 1).unwrap();
    let found = result(verify(&scratch, &made.index, &made.source), 1);
    assert_eq!((&found["right"], &found["bad_chunks"]), (&false.into(), &0.into()), "{found}");
    let said = verify(&scratch, &made.index, &made.source).run().expect_exit(1).stdout;
    assert!(said.contains("8388609 bytes, the image has 8388608"), "{said}");
    file.set_len(5 * MIB).unwrap();
    let found = result(verify(&scratch, &made.index, &made.source), 1);
    assert!(found["bad_bytes"].as_u64().unwrap() >= 3 * MIB, "{found}");
    let repair = verify(&scratch, &made.index, &made.source).arg("--repair");
    result(repair.arg("-s").arg(&made.store), 0);
    result(verify(&scratch, &made.index, &made.source), 0);
}

#[test]
fn a_repair_that_is_killed_at_random_goes_on_and_ends_right() {
    let Some(scratch) = require(&casync()) else { return };
    let made = Made::mixed(scratch.path(), 356, 8);
    let target = scratch.join("target");
    let size = fs::metadata(&made.source).unwrap().len();
    fs::write(&target, vec![7; size as usize]).unwrap();
    let bad = || {
        let call = verify(&scratch, &made.index, &target).arg("--json");
        call.run().result()["bad_bytes"].as_u64().unwrap()
    };
    let repair = || {
        let call =
            verify(&scratch, &made.index, &target).arg("--repair").arg("-s").arg(&made.store);
        call.args(["--limit", "64M"])
    };
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    // How long it takes undisturbed, on this machine and now.
    let whole = repair().run().expect_ok().elapsed.as_millis() as u64;
    assert_same(&made.source, &target);
    fs::write(&target, vec![7; size as usize]).unwrap();
    let (mut before, mut halves) = (bad(), 0);
    for _ in 0..20 {
        let running = repair().spawn();
        thread::sleep(Duration::from_millis(random.u64(50..whole.max(100))));
        running.signal("KILL");
        running.wait();
        let now = bad();
        // What was written before stays right: it is never worse than it was.
        assert!(now <= before, "{now} bytes are bad, after {before} (seed {seed})");
        halves += u32::from(now > 0 && now < before);
        before = now;
        if now == 0 {
            assert_same(&made.source, &target);
            fs::write(&target, vec![7; size as usize]).unwrap();
            before = size;
        }
    }
    repair().run().expect_ok();
    assert_same(&made.source, &target);
    println!("{halves} of 20 were killed while they wrote (seed {seed})");
}

#[test]
fn a_device_may_be_larger() {
    let Some(scratch) = require(&casync_as_root()) else { return };
    let made = Made::mixed(scratch.path(), 353, 1);
    let disk = scratch.join("disk");
    fs::copy(&made.source, &disk).unwrap();
    OpenOptions::new().write(true).open(&disk).unwrap().set_len(5 * MIB).unwrap();
    let device = LoopDevice::attach(&disk, &LoopOptions::default());
    let outcome = verify(&scratch, &made.index, device.path()).run().expect_ok();
    outcome.expect_error("1048576 bytes larger than the image; the rest of it is not looked at");
}

/// Sectors of 512 bytes that were written to a device since it was attached.
fn sectors_written(device: &Path) -> u64 {
    let name = device.file_name().unwrap().to_str().unwrap();
    let stat = fs::read_to_string(format!("/sys/block/{name}/stat")).unwrap();
    stat.split_whitespace().nth(6).unwrap().parse().unwrap()
}

#[test]
fn a_repair_fetches_and_writes_what_is_bad_and_nothing_else() {
    let Some(scratch) = require(&casync_as_root()) else { return };
    let made = Made::mixed(scratch.path(), 354, 4);
    let disk = scratch.join("disk");
    fs::copy(&made.source, &disk).unwrap();
    for place in [100, 5 * MIB + 5, 13 * MIB] {
        overwrite(&disk, place, b"damaged");
    }
    let damaged = fs::read(&disk).unwrap();
    let device = LoopDevice::attach(&disk, &LoopOptions::default());
    let found = result(verify(&scratch, &made.index, device.path()), 1);
    let bad_bytes = found["bad_bytes"].as_u64().unwrap();
    let ranges: Vec<(u64, u64)> = found["bad"]
        .as_array()
        .unwrap()
        .iter()
        .map(|range| (range["offset"].as_u64().unwrap(), range["len_bytes"].as_u64().unwrap()))
        .collect();
    assert_eq!(ranges.len(), 3, "{found}");

    let call = || {
        let call = verify(&scratch, &made.index, device.path()).arg("--repair");
        call.arg("-s").arg(&made.store)
    };
    let before = sectors_written(device.path());
    let dry = result(call().arg("--dry-run"), 1);
    assert_eq!((&dry["repair"]["dry_run"], &dry["bad_bytes"]), (&true.into(), &bad_bytes.into()));
    assert_eq!(sectors_written(device.path()), before, "a dry run wrote");

    let repaired = result(call(), 0);
    assert_eq!(bytes(&repaired["repair"], "fetched"), bad_bytes, "{repaired}");
    assert_eq!(bytes(&repaired["repair"], "written"), bad_bytes, "{repaired}");
    let written = (sectors_written(device.path()) - before) * 512;
    // The blocks at both ends of each range are written whole.
    assert!(written <= bad_bytes + 3 * 2 * 4096, "{written} bytes written for {bad_bytes}");
    assert_same(&made.source, device.path());
    drop_caches();
    let now = fs::read(&disk).unwrap();
    let mut expected = damaged;
    for (offset, len) in ranges {
        let range = offset as usize..(offset + len) as usize;
        expected[range.clone()].copy_from_slice(&now[range]);
    }
    assert!(now == expected, "something else was written to");
    let again = result(call(), 0);
    assert_eq!(bytes(&again["repair"], "fetched"), 0, "{again}");
}

#[test]
fn a_repair_of_a_file_makes_it_right_and_fails_aloud_without_a_chunk() {
    let Some(scratch) = require(&casync()) else { return };
    let made = Made::mixed(scratch.path(), 355, 1);
    let target = scratch.join("target");
    fs::copy(&made.source, &target).unwrap();
    overwrite(&target, 2 * MIB, &[3; 100_000]);
    let before = fs::read(&target).unwrap();
    let call = || verify(&scratch, &made.index, &target).arg("--repair");
    assert_refused(call().current_dir(scratch.path()).run(), 10, &["no store was named"]);
    let empty = scratch.join("empty");
    fs::create_dir(&empty).unwrap();
    // What is bad here is mostly zero, which no store has to have; noise is not.
    overwrite(&target, 100 * KIB, &[3; 1000]);
    let refused = call().arg("-s").arg(&empty).run();
    assert_refused(refused, 10, &["empty", "what is bad still is written anew"]);
    assert!(fs::read(&target).unwrap().len() == before.len());
    result(call().arg("-s").arg(&made.store), 0);
    assert_same(&made.source, &target);
    assert_eq!(
        names(scratch.path()),
        ["empty", "source", "source.caibx", "source.castr", "target"]
    );
}

#[test]
fn a_repair_of_what_is_mounted_is_refused() {
    let Some(scratch) = require(&casync_as_root().filesystems(&["ext4"])) else { return };
    let image = scratch.join("image");
    make_image("ext4", &image, 8 * MIB);
    let made = Made::of(&image);
    let filesystem = Filesystem::mount_read_only(&image);
    for target in [filesystem.device(), &image] {
        result(verify(&scratch, &made.index, target), 0);
        let call = verify(&scratch, &made.index, target).arg("--repair").arg("-s").arg(&made.store);
        assert_refused(call.run(), 13, &["mounted at"]);
    }
}

#[test]
fn a_sparse_terabyte_is_verified_at_once() {
    let Some(scratch) = require(&casync()) else { return };
    let small = scratch.join("small");
    make(&small, 356, &[Part::Hole(128 * MIB), Part::Noise(MIB)]);
    let made = Made::with(&small, &["--chunk-size=64M:64M:64M"]);
    // The index of a terabyte of such chunks: as many items of the first kind, and the tail says how many.
    let bytes = fs::read(&made.index).unwrap();
    let (head, zero_id) = (&bytes[..64], &bytes[72..104]);
    let count = (1u64 << 40) / (64 * MIB);
    let mut large = head.to_vec();
    for number in 1..=count {
        large.extend((number * 64 * MIB).to_le_bytes());
        large.extend(zero_id);
    }
    let mut tail = bytes[bytes.len() - 40..].to_vec();
    tail[24..32].copy_from_slice(&(16 + 40 * count + 40).to_le_bytes());
    large.extend(tail);
    let (index, target) = (scratch.join("large.caibx"), scratch.join("large"));
    fs::write(&index, large).unwrap();
    File::create(&target).unwrap().set_len(1 << 40).unwrap();
    let outcome = verify(&scratch, &index, &target).run().expect_ok();
    // The digest of 64 MiB of zeroes is taken once, which takes longer without optimisation.
    assert!(outcome.elapsed < Duration::from_secs(20), "{:?}", outcome.elapsed);
    let extracted = scratch.join("extracted");
    blockprint(&scratch).arg("extract").arg(&index).arg(&extracted).run().expect_ok();
    assert_eq!(fs::metadata(&extracted).unwrap().len(), 1 << 40);
}
