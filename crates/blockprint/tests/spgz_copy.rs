//! `blockprint copy` to and from containers of spgz, and what else reads them: all that images can be, and all that can
//! go wrong.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use testkit::host::{
    Filesystem, LoopDevice, LoopOptions, Needs, TempDir, fill_disk, require, run, tool,
};

use crate::judges::{ids, make_index};
use crate::support::{
    KIB, MIB, Part, allocated, assert_refused, assert_same, blockprint, copy, journal_of, make,
    make_mixed, make_noise, names, overwrite, partial_of, until,
};

/// The blocks of a container, unless it was made with others.
const BLOCK: u64 = 131_071;
/// What such a block occupies.
const SLOT: u64 = 131_072;
/// Where the slots begin.
const FIRST: u64 = 4096;

/// `FORMAT:PATH`.
fn of(format: &str, path: &Path) -> OsString {
    let mut text = OsString::from(format);
    text.push(":");
    text.push(path);
    text
}

/// Panics unless the file begins as a container does, with slots of so many pages.
#[track_caller]
fn assert_container(path: &Path, pages: u32) {
    let mut head = [0; 12];
    File::open(path).unwrap().read_exact_at(&mut head, 0).unwrap();
    assert_eq!(&head[..8], b"SPGZ0001", "{} is no container", path.display());
    assert_eq!(head[8..], pages.to_le_bytes());
}

/// Lines that can be compressed, which no two images have in common.
fn text(len: u64, seed: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len as usize + 32);
    let mut line = seed << 20;
    while (bytes.len() as u64) < len {
        line += 1;
        writeln!(bytes, "line {line:>12} of a text").unwrap();
    }
    bytes.truncate(len as usize);
    bytes
}

/// An image of text, noise, written zeroes and holes, `len` bytes long and longer than 1 MiB.
fn make_varied(path: &Path, seed: u64, len: u64) {
    let rest = len - 900 * KIB;
    let parts = [Part::Noise(300 * KIB), Part::Zeroes(300 * KIB), Part::Noise(300 * KIB)];
    make(path, seed, &[&parts[..], &[Part::Hole(rest)]].concat());
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&text(rest / 3, seed), 900 * KIB).unwrap();
    file.write_all_at(b"the end", len - 7).unwrap();
    file.sync_all().unwrap();
}

fn info(scratch: &TempDir, image: impl AsRef<std::ffi::OsStr>) -> Value {
    blockprint(scratch).arg("info").arg("--json").arg(image).run().expect_ok().result()
}

#[test]
fn images_of_all_sizes_go_into_a_container_and_come_back() {
    let scratch = TempDir::new("spgz");
    let sizes = [0, 1, 511, 4095, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 10 * MIB + 7, 80 * BLOCK];
    for (number, size) in sizes.into_iter().enumerate() {
        let [raw, container, back] =
            ["raw", "spgz", "back"].map(|end| scratch.join(format!("{size}.{end}")));
        match size {
            _ if size > MIB => make_varied(&raw, 300 + number as u64, size),
            _ => fs::write(&raw, text(size, number as u64)).unwrap(),
        }
        let result = copy(&scratch, &raw, &container)
            .args(["--verify", "--json"])
            .run()
            .expect_ok()
            .result();
        assert_eq!(result["size_bytes"], size);
        assert_container(&container, 32);
        assert_eq!(info(&scratch, &container)["size_bytes"], size);
        assert_eq!(info(&scratch, of("raw", &container))["format"], "raw");
        copy(&scratch, &container, &back).arg("--verify").run().expect_ok();
        assert!(fs::read(&raw).unwrap() == fs::read(&back).unwrap(), "{size} bytes");
        assert!(allocated(&container) <= allocated(&raw) + 8 * KIB, "{size} bytes");
        assert!(allocated(&back) <= allocated(&raw), "{size} bytes");
        for path in [raw, container, back] {
            fs::remove_file(path).unwrap();
        }
    }
    assert!(names(scratch.path()).is_empty());
}

#[test]
fn zeroes_are_holes_in_a_container_and_text_is_small() {
    let scratch = TempDir::new("spgz");
    let (raw, container) = (scratch.join("raw"), scratch.join("text.spgz"));
    make(&raw, 0, &[Part::Zeroes(4 * MIB), Part::Hole(12 * MIB)]);
    let file = OpenOptions::new().write(true).open(&raw).unwrap();
    file.write_all_at(&text(4 * MIB, 1), 8 * MIB).unwrap();
    file.sync_all().unwrap();
    copy(&scratch, &raw, &container).run().expect_ok();
    let taken = allocated(&container);
    assert!(taken < MIB, "{taken} bytes for 4 MiB of text");
    let facts = info(&scratch, &container);
    let zero = facts["extents"]["zero"]["bytes"].as_u64().unwrap();
    assert!(zero > 12 * MIB - 4 * BLOCK, "{facts}");
    blockprint(&scratch).arg("compare").arg(&raw).arg(&container).run().expect_ok();
}

#[test]
fn the_number_of_threads_makes_no_difference_to_a_container() {
    let scratch = TempDir::new("spgz");
    let source = scratch.join("source");
    make_varied(&source, 310, 7 * MIB + 1234);
    for threads in ["1", "2", "9"] {
        let target = scratch.join(format!("{threads}.spgz"));
        copy(&scratch, &source, &target).args(["--threads", threads]).run().expect_ok();
        assert_same(&scratch.join("1.spgz"), &target);
        let back = scratch.join(threads);
        copy(&scratch, &target, &back).args(["--threads", threads]).run().expect_ok();
        assert_same(&source, &back);
    }
}

#[test]
fn name_or_prefix_make_a_container_and_a_block_size_can_be_asked_for() {
    let scratch = TempDir::new("spgz");
    let source = scratch.join("source");
    make_varied(&source, 311, 3 * MIB);
    let plain = scratch.join("plain");
    let outcome = copy(&scratch, &source, of("spgz", &plain).as_ref()).run().expect_ok();
    outcome.expect_error("note:").expect_error("write spgz:");
    assert_container(&plain, 32);
    blockprint(&scratch).arg("compare").arg(&source).arg(of("spgz", &plain)).run().expect_ok();
    // By its bytes alone it is taken as raw, with a warning.
    let outcome = blockprint(&scratch).arg("compare").arg(&source).arg(&plain).run().expect_exit(1);
    outcome.expect_error("looks like a spgz file");

    let raw = scratch.join("raw.spgz");
    copy(&scratch, &source, of("raw", &raw).as_ref()).run().expect_ok();
    assert_same(&source, &raw);

    for (asked, pages) in [("12287", 3), ("1", 3), ("16K", 4), ("64K", 16), ("1M", 256)] {
        let target = scratch.join(format!("{asked}.spgz"));
        copy(&scratch, &source, &target)
            .args(["--block-size", asked, "--verify"])
            .run()
            .expect_ok();
        assert_container(&target, pages);
        assert_eq!(info(&scratch, &target)["block_size_bytes"], pages * 4096 - 1);
        blockprint(&scratch).arg("compare").arg(&source).arg(&target).run().expect_ok();
    }
    let target = scratch.join("other.spgz");
    let call = |target: &Path, size| copy(&scratch, &source, target).args(["--block-size", size]);
    assert_refused(call(&target, "2M").run(), 17, &["blocks of 2097152 bytes", "1048575"]);
    assert_refused(call(&scratch.join("x"), "64K").run(), 17, &["for containers", "spgz:"]);
    assert!(!target.exists() && !scratch.join("x").exists());
}

#[test]
fn in_a_folder_a_container_is_called_one_and_an_image_is_not() {
    let scratch = TempDir::new("spgz");
    let (source, folder) = (scratch.join("disk.img"), scratch.join("backup"));
    make_varied(&source, 312, 2 * MIB);
    fs::create_dir(&folder).unwrap();
    copy(&scratch, &source, of("spgz", &folder).as_ref()).run().expect_ok();
    let container = folder.join("disk.img.spgz");
    assert_container(&container, 32);
    copy(&scratch, &container, of("raw", &folder).as_ref()).run().expect_ok();
    assert_same(&source, &folder.join("disk.img"));
    assert_eq!(names(&folder), ["disk.img", "disk.img.spgz"]);
}

#[test]
fn info_says_what_a_container_is() {
    let scratch = TempDir::new("spgz");
    let (source, container) = (scratch.join("source"), scratch.join("disk.spgz"));
    make_varied(&source, 313, 2 * MIB);
    copy(&scratch, &source, &container).run().expect_ok();
    let said = blockprint(&scratch).arg("info").arg(&container).run().expect_ok().stdout;
    for part in ["format       spgz (file)", "size         2 MiB", "128.0 KiB (131071 bytes)"] {
        assert!(said.contains(part), "{said}");
    }
    let facts = info(&scratch, &container);
    assert_eq!(facts["format"], "spgz");
    assert_eq!(facts["size_bytes"], 2 * MIB);
    assert_eq!(facts["block_size_bytes"], BLOCK);
    assert_eq!(facts["allocated_bytes"], allocated(&container));
    assert_eq!(facts["looks_like"], Value::Null);
}

#[test]
fn an_index_of_a_container_is_that_of_its_image() {
    let scratch = TempDir::new("spgz");
    let (raw, container) = (scratch.join("raw"), scratch.join("disk.spgz"));
    make_varied(&raw, 314, 4 * MIB);
    copy(&scratch, &raw, &container).run().expect_ok();
    let store = scratch.join("store");
    let [of_raw, of_container] = ["raw.caibx", "spgz.caibx"].map(|name| scratch.join(name));
    make_index(&scratch, &of_raw, &raw, &store).run().expect_ok();
    make_index(&scratch, &of_container, &container, &store).run().expect_ok();
    assert_same(&of_raw, &of_container);
    assert!(ids(&of_raw).len() > 10);
    let verify = || blockprint(&scratch).arg("verify").arg(&of_raw).arg(&container);
    verify().run().expect_ok();
    // What is damaged is found, and made anew within the container.
    overwrite(&container, FIRST + 1000, b"not what it was");
    let outcome = verify().run();
    assert!(matches!(outcome.status.code(), Some(1 | 18)), "{outcome}");
    let other = scratch.join("other");
    make_noise(&other, 315, 4 * MIB);
    copy(&scratch, &other, &container).arg("--force").run().expect_ok();
    verify().args(["--repair", "--store"]).arg(&store).run().expect_ok();
    assert_container(&container, 32);
    blockprint(&scratch).arg("compare").arg(&raw).arg(&container).run().expect_ok();
}

#[test]
fn a_damaged_block_ends_the_copy_with_its_range_or_becomes_zeroes() {
    let scratch = TempDir::new("spgz");
    let (raw, container) = (scratch.join("raw"), scratch.join("disk.spgz"));
    let mut content = text(10 * BLOCK + 500, 7);
    fs::write(&raw, &content).unwrap();
    copy(&scratch, &raw, &container).run().expect_ok();
    overwrite(&container, FIRST + 3 * SLOT + 100, b"?????????");
    let out = scratch.join("out");
    let outcome = copy(&scratch, &container, &out).arg("--json").run().expect_exit(18);
    let error = outcome.events("error").remove(0);
    assert_eq!(error["kind"], "damaged");
    assert_eq!(error["location"]["name"], container.display().to_string());
    assert_eq!(error["location"]["offset"], 3 * BLOCK);
    assert_eq!(error["location"]["len_bytes"], BLOCK);
    let outcome = copy(&scratch, &container, &out).run();
    assert_refused(outcome, 18, &[container.to_str().unwrap(), "nothing was left behind"]);
    assert_eq!(names(scratch.path()), ["disk.spgz", "raw"]);
    let compare = blockprint(&scratch).arg("compare").arg(&raw).arg(&container).run();
    assert_refused(compare, 18, &[container.to_str().unwrap()]);

    let zero = ["--on-read-error", "zero", "--verify", "--json"];
    let result = copy(&scratch, &container, &out).args(zero).run().expect_exit(3).result();
    assert_eq!(result["unreadable"].as_array().unwrap().len(), 1, "{result}");
    assert_eq!(result["unreadable"][0]["offset"], 3 * BLOCK);
    assert_eq!(result["unreadable"][0]["len_bytes"], BLOCK);
    assert_eq!(result["lost_end"], false);
    content[3 * BLOCK as usize..4 * BLOCK as usize].fill(0);
    assert!(fs::read(&out).unwrap() == content, "wrong bytes around what is damaged");
    // Also into another container, whose blocks are others.
    let again = scratch.join("again.spgz");
    let more = ["--block-size", "64K"];
    copy(&scratch, &container, &again).args(zero).args(more).run().expect_exit(3);
    blockprint(&scratch).arg("compare").arg(&out).arg(&again).run().expect_ok();
    assert_eq!(names(scratch.path()), ["again.spgz", "disk.spgz", "out", "raw"]);
}

#[test]
fn a_damaged_last_block_takes_the_end_of_the_image_with_it() {
    let scratch = TempDir::new("spgz");
    let (raw, container) = (scratch.join("raw"), scratch.join("disk.spgz"));
    let content = text(4 * BLOCK + 50_000, 8);
    fs::write(&raw, &content).unwrap();
    copy(&scratch, &raw, &container).run().expect_ok();
    overwrite(&container, FIRST + 4 * SLOT + 100, b"?????????");
    let out = scratch.join("out");
    assert_refused(
        copy(&scratch, &container, &out).run(),
        18,
        &[container.to_str().unwrap(), &(4 * BLOCK).to_string()],
    );
    let zero = ["--on-read-error", "zero"];
    let outcome = copy(&scratch, &container, &out).args(zero).arg("--json").run().expect_exit(3);
    assert_eq!(outcome.result()["lost_end"], true);
    assert_eq!(outcome.events("warning").len(), 1, "{outcome}");
    assert!(fs::read(&out).unwrap() == content[..4 * BLOCK as usize]);
}

#[test]
fn a_header_that_a_guest_wrote_makes_no_container() {
    let scratch = TempDir::new("spgz");
    let [source, container, target] =
        ["disk.img", "true.spgz", "target"].map(|name| scratch.join(name));
    make_varied(&target, 316, 2 * MIB);
    copy(&scratch, &target, &container).run().expect_ok();
    fs::remove_file(&target).unwrap();
    // The disk of a guest that holds the bytes of a container from its first to its last.
    fs::rename(&container, &source).unwrap();
    let outcome = copy(&scratch, &source, &target).run().expect_ok();
    outcome.expect_error("warning:").expect_error("looks like a spgz file");
    assert_same(&source, &target);
    assert_eq!(info(&scratch, &source)["format"], "raw");
    assert_eq!(info(&scratch, &source)["looks_like"], "spgz");
    // A container by its name alone is none either, and that is said.
    let named = scratch.join("named.spgz");
    make_noise(&named, 317, 10_000);
    assert_eq!(info(&scratch, &named)["format"], "raw");
    assert_eq!(info(&scratch, &named)["looks_like"], "spgz");
    let refused = blockprint(&scratch).arg("info").arg(of("spgz", &named)).run();
    assert!(matches!(refused.status.code(), Some(17 | 18)), "{refused}");
}

#[test]
fn a_container_is_replaced_with_force_and_not_without() {
    let scratch = TempDir::new("spgz");
    let [source, target, link] = ["source", "disk.spgz", "link"].map(|name| scratch.join(name));
    make_varied(&source, 318, 2 * MIB);
    make_noise(&target, 319, 3 * MIB);
    fs::hard_link(&target, &link).unwrap();
    assert_refused(copy(&scratch, &source, &target).run(), 11, &["exists already", "--force"]);
    let said = copy(&scratch, &source, &target).args(["--force", "--dry-run"]).run().expect_ok();
    assert!(said.stdout.contains("would REPLACE the file"), "{said}");
    assert!(said.stdout.contains("by a container"), "{said}");
    assert_same(&target, &link);
    copy(&scratch, &source, &target).arg("--force").run().expect_ok();
    assert_container(&target, 32);
    assert_eq!(fs::metadata(&link).unwrap().len(), 3 * MIB, "the old one was written to");
    blockprint(&scratch).arg("compare").arg(&source).arg(&target).run().expect_ok();
    let outcome = copy(&scratch, &target, &target).arg("--force").run();
    assert_refused(outcome, 17, &["are the same"]);
}

#[test]
fn a_container_in_place_stays_the_same_file_with_the_same_blocks() {
    let scratch = TempDir::new("spgz");
    let [source, target] = ["source", "disk.spgz"].map(|name| scratch.join(name));
    let in_place = ["--force", "--in-place", "--verify"];
    for (number, old) in [5 * MIB + 3, 100, 0, 2 * MIB].into_iter().enumerate() {
        make_noise(&source, 320 + number as u64, old);
        let small = ["--block-size", "16383"];
        copy(&scratch, &source, &target).arg("--force").args(small).run().expect_ok();
        if number == 3 {
            // Whatever was wrong in it is written anew.
            overwrite(&target, FIRST + 16_384 * 4, &[9]);
            overwrite(&target, fs::metadata(&target).unwrap().len() - 20, &[9; 20]);
        }
        let inode = fs::metadata(&target).unwrap().ino();
        make_varied(&source, 330 + number as u64, 2 * MIB + 77);
        copy(&scratch, &source, &target).args(in_place).run().expect_ok();
        assert_eq!(fs::metadata(&target).unwrap().ino(), inode);
        assert_container(&target, 4);
        blockprint(&scratch).arg("compare").arg(&source).arg(&target).run().expect_ok();
    }
    let other = copy(&scratch, &source, &target).args(in_place).args(["--block-size", "64K"]).run();
    assert_refused(other, 17, &["blocks of 16383 bytes", "65535 were asked for"]);
    // A file that has only the name of one.
    make_noise(&target, 340, 10_000);
    let before = fs::read(&target).unwrap();
    let outcome = copy(&scratch, &source, &target).args(in_place).run();
    assert_refused(outcome, 17, &["no spgz container", "raw:"]);
    assert!(fs::read(&target).unwrap() == before);
    copy(&scratch, &source, of("raw", &target).as_ref()).args(in_place).run().expect_ok();
    assert_same(&source, &target);
}

#[test]
fn killed_at_each_step_a_container_is_absent_or_complete_and_the_copy_goes_on() {
    let scratch = TempDir::new("spgz");
    let source = scratch.join("source");
    make_varied(&source, 350, 6 * MIB + 5);
    for step in ["created", "checkpoint:3", "copied", "flushed", "renamed", "published"] {
        let target = scratch.join(format!("{step}.spgz"));
        let call = || copy(&scratch, &source, &target);
        let killed = call()
            .args(["--limit", "24M"])
            .env("BLOCKPRINT_DEBUG_CHECKPOINT_MS", "20")
            .env("BLOCKPRINT_DEBUG_KILL_AT", step)
            .run();
        assert_eq!(killed.signal(), Some(9), "{step} never came:\n{killed}");
        let published = ["renamed", "published"].contains(&step);
        assert_eq!(target.exists(), published, "{step}");
        let result = call().args(["--resume", "--verify", "--json"]).run().expect_ok().result();
        let resumed = result["resumed_bytes"].as_u64().unwrap();
        assert_eq!(resumed > 0, step != "created", "{step}: {result}");
        assert!(!published || resumed == 6 * MIB + 5, "{step}: {result}");
        blockprint(&scratch).arg("compare").arg(&source).arg(&target).run().expect_ok();
        fs::remove_file(&target).unwrap();
        assert_eq!(names(scratch.path()), ["source"], "{step}");
    }
}

#[test]
fn killed_at_any_moment_the_copy_to_a_container_goes_on_to_an_equal_one() {
    let scratch = TempDir::new("spgz");
    let source = scratch.join("source");
    make_varied(&source, 351, 8 * MIB + 99);
    let target = scratch.join("disk.spgz");
    let call = || copy(&scratch, &source, &target).env("BLOCKPRINT_DEBUG_CHECKPOINT_MS", "20");
    let mut resumed = 0;
    for moment in 0..8 {
        // Slow enough to be hit in the middle: all of it takes two seconds.
        let running = call().args(["--limit", "1700K"]).spawn();
        std::thread::sleep(Duration::from_millis(30 + 130 * moment));
        running.signal("KILL");
        let killed = running.wait();
        assert_eq!(killed.signal(), Some(9), "it was too quick:\n{killed}");
        assert!(!target.exists(), "half a container has the name");
        let result = call().args(["--resume", "--verify", "--json"]).run().expect_ok().result();
        resumed += result["resumed_bytes"].as_u64().unwrap();
        blockprint(&scratch).arg("compare").arg(&source).arg(&target).run().expect_ok();
        fs::remove_file(&target).unwrap();
    }
    assert!(resumed > MIB, "only {resumed} bytes were ever gone on from");
}

#[test]
fn an_interrupted_copy_goes_on_only_with_the_blocks_it_began_with() {
    let scratch = TempDir::new("spgz");
    let (source, target) = (scratch.join("source"), scratch.join("disk.spgz"));
    make_noise(&source, 352, 8 * MIB);
    let call = || copy(&scratch, &source, &target);
    let running = call().args(["--limit", "8M"]).spawn();
    until("some of it is written", || {
        fs::metadata(partial_of(&target)).is_ok_and(|now| now.blocks() > 100)
    });
    running.signal("INT");
    let outcome = running.wait_at_most(Duration::from_secs(20));
    assert_refused(outcome, 130, &["interrupted", "--resume goes on"]);
    assert!(!target.exists() && journal_of(&target).exists());
    let other = call().args(["--resume", "--block-size", "64K"]).run();
    assert_refused(other, 17, &["blocks of 131071 bytes"]);
    // As another format it is another target.
    let raw = copy(&scratch, &source, of("raw", &target).as_ref()).arg("--resume").run();
    assert_refused(raw, 19, &["the target is another one"]);
    let result = call().args(["--resume", "--json"]).run().expect_ok().result();
    assert!(result["resumed_bytes"].as_u64().unwrap() > 0, "{result}");
    blockprint(&scratch).arg("compare").arg(&source).arg(&target).run().expect_ok();
    assert_eq!(names(scratch.path()), ["disk.spgz", "source"]);
}

#[test]
fn a_device_goes_into_a_container_and_back_onto_a_device() {
    let Some(scratch) = require(&Needs::root()) else { return };
    let [one, other, container] = ["one", "other", "disk.spgz"].map(|name| scratch.join(name));
    make_mixed(&one, 353, 3);
    make_noise(&other, 354, 12 * MIB);
    let first = LoopDevice::attach(&one, &LoopOptions::default());
    let second = LoopDevice::attach(&other, &LoopOptions::default());
    copy(&scratch, first.path(), &container).arg("--verify").run().expect_ok();
    assert!(allocated(&container) < allocated(&one), "zeroes were stored");
    assert_eq!(fs::metadata(&container).unwrap().mode() & 0o7777, 0o600);
    copy(&scratch, &container, second.path()).arg("--verify").run().expect_ok();
    assert_same(first.path(), second.path());
    let refused = copy(&scratch, &one, of("spgz", second.path()).as_ref()).run();
    assert_refused(refused, 17, &["is a device", "a container is a file"]);
    let refused = blockprint(&scratch).arg("info").arg(of("spgz", first.path())).run();
    assert_refused(refused, 17, &["is a device"]);
    // Whatever a device begins with, it is raw.
    overwrite(second.path(), 0, &fs::read(&container).unwrap()[..FIRST as usize]);
    assert_eq!(info(&scratch, second.path())["format"], "raw");
}

#[test]
fn a_container_on_a_full_disk_says_what_is_kept_and_goes_on_when_there_is_space() {
    let Some(scratch) = require(&Needs::root().filesystems(&["ext4", "xfs"])) else { return };
    let source = scratch.join("source");
    make_noise(&source, 355, 12 * MIB);
    for filesystem in [Filesystem::ext4(32 * MIB), Filesystem::xfs(320 * MIB)] {
        let room = filesystem.path().join("room");
        make_noise(&room, 356, 6 * MIB);
        let filler = fill_disk(filesystem.path());
        fs::remove_file(&room).unwrap();
        run(tool("sync").arg("--file-system").arg(filesystem.path()));
        let target = filesystem.path().join("disk.spgz");
        let outcome = copy(&scratch, &source, &target).run();
        assert_refused(outcome, 15, &["No space left on device"]);
        assert!(!target.exists(), "an incomplete container was published");
        fs::remove_file(filler).unwrap();
        run(tool("sync").arg("--file-system").arg(filesystem.path()));
        copy(&scratch, &source, &target).args(["--resume", "--verify"]).run().expect_ok();
        blockprint(&scratch).arg("compare").arg(&source).arg(&target).run().expect_ok();
        assert_eq!(names(filesystem.path()), ["disk.spgz"]);
    }
}
