//! `blockprint make`: the index is casync's, byte for byte; casync extracts what we made; nothing is kept twice.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use testkit::host::{LoopDevice, LoopOptions, Needs, TempDir};

use crate::judges::{
    assert_complete, assert_only_chunks, assert_sound, casync_extract, casync_make, chunk_files,
    folder_for_casync, ids, items, make_index, place, quick_folder,
};
use crate::support::{
    KIB, MIB, Part, assert_same, blockprint, make, make_mixed, make_noise, names, overwrite,
};

/// Data as it lies on disks: noise, text, runs of one byte, parts that come again; holes if `is_sparse`.
fn make_random(path: &Path, rng: &mut fastrand::Rng, size: u64, is_sparse: bool) {
    let file = File::create(path).unwrap();
    let mut before: Vec<u8> = Vec::new();
    let mut at = 0;
    while at < size {
        let longest = (size - at).min(1 << rng.u64(4..21));
        let len = rng.u64(1..=longest) as usize;
        let bytes: Option<Vec<u8>> = match rng.u8(0..6) {
            0 => Some((0..len).map(|_| rng.u8(..)).collect()),
            1 => Some(b"no two disks are alike, ".iter().copied().cycle().take(len).collect()),
            2 => Some(vec![rng.u8(..); len]),
            3 => Some(before.iter().copied().chain([7]).cycle().take(len).collect()),
            4 => Some((0..len).map(|_| rng.choice(*b"01 \n").unwrap()).collect()),
            _ if is_sparse => None,
            _ => Some(vec![0; len]),
        };
        if let Some(bytes) = bytes {
            file.write_all_at(&bytes, at).unwrap();
            before = bytes;
        }
        at += len as u64;
    }
    file.set_len(size).unwrap();
    file.sync_all().unwrap();
}

/// Sizes of chunks that make at most some thousand chunks of so many bytes.
fn random_sizes(rng: &mut fastrand::Rng, size: u64) -> (u64, u64, u64) {
    let avg = rng.u64((size / 3000).max(48)..(size / 4).clamp(400, 1 << 20));
    let min = rng.u64(1..=avg);
    let max = match rng.u8(0..4) {
        0 => avg,
        1 => avg + rng.u64(0..100),
        _ => avg * rng.u64(1..8),
    };
    match rng.u8(0..8) {
        0 => (avg, avg, avg),
        _ => (min, avg, max),
    }
}

#[test]
fn indexes_of_random_disks_are_those_of_casync_and_casync_extracts_them() {
    let Some(scratch) = folder_for_casync() else { return };
    let may_attach = Needs::root().missing().is_empty();
    let mut rng = fastrand::Rng::with_seed(0xB10C);
    for round in 0..30 {
        let image = scratch.join("image");
        let is_device = may_attach && round % 10 == 3;
        let size = match round {
            0 => 0,
            1 => 1,
            2 => 47,
            _ if is_device => rng.u64(1..4096) * 512,
            _ if round % 4 == 0 => rng.u64(0..8 << 20),
            _ => rng.u64(0..2 << 20),
        };
        make_random(&image, &mut rng, size, round % 2 == 0);
        let device = is_device.then(|| LoopDevice::attach(&image, &LoopOptions::default()));
        let source = device.as_ref().map_or(image.as_path(), LoopDevice::path);
        let (min, avg, max) = match round {
            0 | 1 | 4 => (16 << 10, 64 << 10, 256 << 10),
            _ => random_sizes(&mut rng, size),
        };
        for digest in ["sha512-256", "sha256"] {
            let what = format!("round {round}: {size} bytes, {min}:{avg}:{max}, {digest}");
            let (ours, theirs) = (scratch.join("ours.caibx"), scratch.join("theirs.caibx"));
            let store = scratch.join("store");
            make_index(&scratch, &ours, source, &store)
                .args(["-m", &format!("{min}B:{avg}B:{max}B"), "--digest", digest])
                .run()
                .expect_ok();
            let kept = chunk_files(&store);
            let sizes = format!("--chunk-size={min}:{avg}:{max}");
            casync_make(&theirs, source, &store, &[&sizes, &format!("--digest={digest}")]);
            assert!(fs::read(&ours).unwrap() == fs::read(&theirs).unwrap(), "{what}");
            assert_eq!(chunk_files(&store), kept, "casync found something to add; {what}");
            let extracted = scratch.join("extracted");
            casync_extract(&ours, &extracted, &store);
            assert!(fs::read(&extracted).unwrap() == fs::read(&image).unwrap(), "{what}");
            for path in [ours, theirs, extracted] {
                fs::remove_file(path).unwrap();
            }
            fs::remove_dir_all(store).unwrap();
        }
    }
}

/// An image of 8 MiB with data, zeroes and holes in it, and where its index and its store belong.
fn prepare(seed: u64) -> (TempDir, PathBuf, PathBuf, PathBuf) {
    let scratch = quick_folder("make");
    let image = scratch.join("disk.img");
    make_mixed(&image, seed, 2);
    let (index, store) = (scratch.join("disk.caibx"), scratch.join("store"));
    (scratch, image, index, store)
}

#[test]
fn an_index_alone_is_the_same_as_one_with_a_store() {
    let (scratch, image, index, store) = prepare(300);
    make_index(&scratch, &index, &image, &store).run().expect_ok();
    let alone = scratch.join("alone.caibx");
    let said = blockprint(&scratch).arg("make").arg(&alone).arg(&image).run().expect_ok().stdout;
    assert!(said.contains("8 MiB in") && !said.contains("store"), "{said}");
    assert!(fs::read(&alone).unwrap() == fs::read(&index).unwrap());
    assert_eq!(names(scratch.path()), ["alone.caibx", "disk.caibx", "disk.img", "store"]);
}

#[test]
fn a_store_that_has_all_chunks_stays_as_it_is() {
    let (scratch, image, index, store) = prepare(301);
    let result = make_index(&scratch, &index, &image, &store).arg("--json").run().expect_ok();
    let first = &result.result()["store"];
    let (kept, distinct) = (chunk_files(&store), ids(&index).len());
    assert_eq!((kept.len(), &first["new_chunks"]), (distinct, &distinct.into()));
    assert_eq!(first["reused_chunks"], 0);
    let packed: u64 = kept.iter().map(|name| fs::metadata(store.join(name)).unwrap().len()).sum();
    assert_eq!(first["packed_bytes"], packed);
    let other = scratch.join("other.caibx");
    let again = make_index(&scratch, &other, &image, &store).arg("--json").run().expect_ok();
    let again = &again.result()["store"];
    assert_eq!((&again["new_chunks"], &again["packed_bytes"]), (&0.into(), &0.into()));
    assert_eq!(
        (&again["reused_chunks"], &again["reused_bytes"]),
        (&distinct.into(), &first["new_bytes"])
    );
    assert_eq!(chunk_files(&store), kept);
    assert!(fs::read(&other).unwrap() == fs::read(&index).unwrap());
    assert_only_chunks(&store);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let (scratch, image, index, store) = prepare(302);
    make_index(&scratch, &index, &image, &store).args(["-n", "1"]).run().expect_ok();
    for threads in ["2", "5"] {
        let (other, others) = (scratch.join(threads), scratch.join(format!("store-{threads}")));
        let call = make_index(&scratch, &other, &image, &others).args(["-n", threads]);
        call.run().expect_ok();
        assert!(fs::read(&other).unwrap() == fs::read(&index).unwrap(), "-n {threads}");
        assert_eq!(chunk_files(&others), chunk_files(&store));
        for name in chunk_files(&store) {
            assert_same(&store.join(&name), &others.join(&name));
        }
    }
}

#[test]
fn damaged_chunks_are_believed_unless_they_are_to_be_read() {
    let (scratch, image, index, store) = prepare(303);
    make_index(&scratch, &index, &image, &store).run().expect_ok();
    let all: Vec<String> = ids(&index).into_iter().collect();
    let (flipped, emptied, shortened) =
        (place(&store, &all[1]), place(&store, &all[3]), place(&store, &all[5]));
    let len = fs::metadata(&flipped).unwrap().len();
    let old = fs::read(&flipped).unwrap()[len as usize / 2];
    overwrite(&flipped, len / 2, &[old ^ 1]);
    let shorter = fs::read(&shortened).unwrap();
    fs::remove_file(&shortened).unwrap();
    fs::write(&shortened, &shorter[..shorter.len() - 1]).unwrap();
    fs::remove_file(&emptied).unwrap();
    fs::write(&emptied, "").unwrap();

    // What is empty, as after a power cut, is never believed.
    let force = || make_index(&scratch, &index, &image, &store).args(["--force", "--json"]);
    let kept = force().run().expect_ok().result()["store"].clone();
    assert_eq!((&kept["new_chunks"], &kept["repaired_chunks"]), (&1.into(), &0.into()));
    let verified = crate::judges::store(&scratch, "verify", &store).arg("--json").run();
    assert_eq!(verified.expect_exit(1).result()["damaged_count"], 2);

    let kept = force().arg("--verify-existing").run().expect_ok().result()["store"].clone();
    assert_eq!((&kept["new_chunks"], &kept["repaired_chunks"]), (&2.into(), &2.into()));
    assert_sound(&scratch, &store);
    assert_complete(&index, &store, "repaired");
    let kept = force().arg("--verify-existing").run().expect_ok().result()["store"].clone();
    assert_eq!((&kept["new_chunks"], &kept["repaired_chunks"]), (&0.into(), &0.into()));
}

#[test]
fn a_dry_run_counts_right_and_writes_nothing() {
    let (scratch, image, index, store) = prepare(304);
    let plan = |name: &str| {
        let call = make_index(&scratch, &scratch.join(name), &image, &store);
        let outcome = call.args(["--dry-run", "--json"]).run().expect_ok();
        outcome.events("plan").remove(0)
    };
    let before = plan("disk.caibx");
    assert_eq!(names(scratch.path()), ["disk.img"], "a dry run wrote something");
    let made = make_index(&scratch, &index, &image, &store).arg("--json").run().expect_ok();
    let made = made.result();
    for field in ["new_chunks", "new_bytes", "reused_chunks", "reused_bytes"] {
        assert_eq!(before["store"][field], made["store"][field], "{field}");
    }
    for field in ["size_bytes", "chunks", "digest", "chunk_sizes"] {
        assert_eq!(before[field], made[field], "{field}");
    }
    // Half of it is there.
    let all = chunk_files(&store);
    for name in all.iter().step_by(2) {
        fs::remove_file(store.join(name)).unwrap();
    }
    let half = chunk_files(&store);
    let after = plan("other.caibx");
    assert_eq!(after["store"]["reused_chunks"], half.len());
    assert_eq!(after["store"]["new_chunks"], all.len() - half.len());
    assert_eq!(chunk_files(&store), half, "a dry run wrote something");
    let said = make_index(&scratch, &scratch.join("no.caibx"), &image, &store).arg("--dry-run");
    assert!(said.run().expect_ok().stdout.contains("would make"));
    assert_eq!(names(scratch.path()), ["disk.caibx", "disk.img", "store"]);
}

#[test]
fn plain_chunks_and_other_levels_are_extracted_by_casync_too() {
    let Some(scratch) = folder_for_casync() else { return };
    let image = scratch.join("disk.img");
    make_random(&image, &mut fastrand::Rng::with_seed(305), 3 * MIB + 7, true);
    let mut sizes = Vec::new();
    for (name, options) in [
        ("plain", &["--uncompressed"][..]),
        ("fast", &["--level", "1"]),
        ("default", &[]),
        ("small", &["--level", "19"]),
        ("negative", &["--level", "-5"]),
    ] {
        let (index, store) = (scratch.join(format!("{name}.caibx")), scratch.join(name));
        let result = make_index(&scratch, &index, &image, &store).args(options).arg("--json");
        let result = result.run().expect_ok().result();
        let files = chunk_files(&store);
        assert!(files.iter().all(|file| file.ends_with(".cacnk") != (name == "plain")));
        let len: u64 = files.iter().map(|f| fs::metadata(store.join(f)).unwrap().len()).sum();
        assert_eq!(result["store"]["packed_bytes"], len, "{name}");
        sizes.push(len);
        let extracted = scratch.join("extracted");
        casync_extract(&index, &extracted, &store);
        assert_same(&extracted, &image);
        fs::remove_file(extracted).unwrap();
    }
    assert!(sizes[0] > sizes[1] && sizes[1] > sizes[3], "{sizes:?}");
    for level in ["23", "-200000"] {
        let outcome = make_index(&scratch, &scratch.join("no"), &image, &scratch.join("none"));
        outcome.args(["--level", level]).run().expect_exit(17).expect_error(level);
        assert!(!scratch.join("none").exists());
    }
}

#[test]
fn the_rule_of_older_desync_never_cuts_at_the_smallest_size() {
    let scratch = quick_folder("make");
    let image = scratch.join("disk.img");
    make_noise(&image, 306, MIB);
    // The divisor is small, so that many chunks end at the first test.
    let [new, old] = ["casync", "desync-classic"].map(|rule| {
        let index = scratch.join(format!("{rule}.caibx"));
        let call = blockprint(&scratch).arg("make").arg(&index).arg(&image);
        call.args(["-m", "48B:64B:1000B", "--chunker", rule]).run().expect_ok();
        let mut start = 0;
        let lens =
            items(&index).into_iter().map(|(end, _)| end - std::mem::replace(&mut start, end));
        lens.collect::<Vec<_>>()
    });
    let smallest = |lens: &[u64]| lens[..lens.len() - 1].iter().min().copied();
    assert_eq!((smallest(&new), smallest(&old)), (Some(48), Some(49)));
    // The divisor lies below the smallest size here, which casync does not permit.
    let average = |lens: &[u64]| lens.iter().sum::<u64>() / lens.len() as u64;
    assert!(average(&old) < average(&new) + 5, "{} {}", average(&old), average(&new));
}

#[test]
fn programs_are_told_in_json() {
    let (scratch, image, index, store) = prepare(307);
    let outcome = make_index(&scratch, &index, &image, &store).arg("--json").run().expect_ok();
    let result = outcome.result();
    let keys = |value: &serde_json::Value| {
        let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys.join(" ")
    };
    assert_eq!(
        keys(&result),
        "blob_digest chunk_sizes chunks command digest elapsed_ms event index size_bytes source store"
    );
    assert_eq!(
        keys(&result["store"]),
        "name new_bytes new_chunks packed_bytes repaired_chunks reused_bytes reused_chunks"
    );
    assert_eq!((&result["command"], &result["digest"]), (&"make".into(), &"sha512-256".into()));
    assert_eq!(
        (&result["size_bytes"], &result["chunks"]),
        (&(8 * MIB).into(), &items(&index).len().into())
    );
    let sizes = &result["chunk_sizes"];
    assert_eq!(sizes["min_bytes"], 16 * KIB, "{sizes}");
    assert_eq!(
        (&sizes["avg_bytes"], &sizes["max_bytes"]),
        (&(64 * KIB).into(), &(256 * KIB).into())
    );
    assert_eq!(result["index"], index.display().to_string());
    assert_eq!(result["source"], image.display().to_string());
}

#[test]
fn a_terabyte_of_holes_takes_seconds_and_is_cut_as_casync_cuts_its_beginning() {
    let Some(scratch) = folder_for_casync() else { return };
    let (image, short) = (scratch.join("disk.img"), scratch.join("short.img"));
    let (index, theirs, store) =
        (scratch.join("disk.caibx"), scratch.join("short.caibx"), scratch.join("store"));
    let begin = [Part::Hole(300 * KIB + 7), Part::Noise(3 * MIB), Part::Hole(5 * MIB)];
    make(&short, 308, &begin);
    make(&image, 308, &begin);
    let file = File::options().write(true).open(&image).unwrap();
    file.set_len(1 << 40).unwrap();
    file.write_all_at(&vec![0xA5; 700_000], (1 << 39) + 12_345).unwrap();
    let made = make_index(&scratch, &index, &image, &store).arg("--json").run().expect_ok();
    assert!(made.elapsed < Duration::from_secs(30), "{:?}", made.elapsed);
    casync_make(&theirs, &short, &scratch.join("other"), &[]);
    let (theirs, ours) = (fs::read(theirs).unwrap(), fs::read(&index).unwrap());
    // The last chunk and the tail belong to the end of the short one.
    let same = theirs.len() - 80;
    assert!(ours[..same] == theirs[..same]);
    let info = blockprint(&scratch).args(["index", "info", "--json"]).arg(&index);
    let info = info.arg("--store").arg(&store).run().expect_ok().result();
    assert_eq!(
        (&info["size_bytes"], &info["all"]["bytes"]),
        (&(1u64 << 40).into(), &(1u64 << 40).into())
    );
    assert_eq!(info["all"]["chunks"], (ours.len() as u64 - 104) / 40);
    assert_eq!(info["distinct"], info["in_stores"]);
    let distinct = chunk_files(&store).len() as u64;
    assert_eq!(info["distinct"]["chunks"], distinct);
    assert!(distinct < 120, "{distinct} chunks for less than 4 MiB");
}

#[test]
fn a_new_index_may_be_read_by_those_who_may_read_the_source() {
    let (scratch, image, index, _) = prepare(309);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let set = |path: &Path, mode| fs::set_permissions(path, PermissionsExt::from_mode(mode));
    let call = || {
        let mut call = blockprint(&scratch);
        // A umask of its own, which the test's process must not change.
        let line = "umask 027; exec \"$0\" \"$@\"";
        let program = call.command().get_program().to_owned();
        testkit::host::Program::new("sh").args(["-c", line]).arg(program).arg("make").arg("--force")
    };
    for (source, expected) in [(0o755, 0o640), (0o600, 0o600), (0o444, 0o440)] {
        set(&image, source).unwrap();
        call().arg(&index).arg(&image).run().expect_ok();
        assert_eq!(mode(&index), expected, "of a source with {source:o}");
        fs::remove_file(&index).unwrap();
    }
    // One that is replaced keeps what somebody gave it.
    fs::write(&index, "old").unwrap();
    set(&index, 0o604).unwrap();
    call().arg(&index).arg(&image).run().expect_ok();
    assert_eq!(mode(&index), 0o604);
}
