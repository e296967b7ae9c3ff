//! `blockprint make` when something goes wrong: what is refused, changing sources, full disks, signals.

use std::fs;
use std::os::unix::fs::symlink;
use std::thread;
use std::time::Duration;

use testkit::host::{Filesystem, LoopDevice, LoopOptions, Needs, fill_disk, require};

use crate::judges::{assert_only_chunks, assert_sound, chunk_files, make_index, quick_folder};
use crate::support::{
    MIB, assert_refused, blockprint, make_mixed, make_noise, names, overwrite, until, until_stopped,
};

#[test]
fn an_index_that_is_there_is_replaced_only_by_force() {
    let scratch = quick_folder("make");
    let (image, index, store) =
        (scratch.join("disk.img"), scratch.join("disk.caibx"), scratch.join("store"));
    make_noise(&image, 320, MIB);
    fs::write(&index, "something").unwrap();
    let call = || make_index(&scratch, &index, &image, &store);
    let shown = index.display().to_string();
    assert_refused(call().run(), 11, &[&shown, "--force"]);
    assert_eq!(names(scratch.path()), ["disk.caibx", "disk.img"], "a store for nothing");
    assert_eq!(fs::read(&index).unwrap(), b"something");
    call().arg("--force").run().expect_ok();
    assert!(fs::read(&index).unwrap().len() > 104);
    // One that comes into being meanwhile is somebody else's.
    fs::remove_file(&index).unwrap();
    let running = call().env("BLOCKPRINT_DEBUG_STOP_AT", "flushed").spawn();
    until_stopped(&running);
    fs::write(&index, "somebody else's").unwrap();
    running.signal("CONT");
    assert_refused(running.wait(), 11, &[&shown]);
    assert_eq!(fs::read(&index).unwrap(), b"somebody else's");
}

#[test]
fn an_index_over_its_own_source_is_refused_under_each_of_its_names() {
    let scratch = quick_folder("make");
    let (image, store) = (scratch.join("disk.img"), scratch.join("store"));
    make_noise(&image, 321, MIB);
    let before = fs::read(&image).unwrap();
    fs::hard_link(&image, scratch.join("link")).unwrap();
    symlink("disk.img", scratch.join("symlink")).unwrap();
    for name in ["disk.img", "link", "symlink"] {
        let outcome =
            make_index(&scratch, &scratch.join(name), &image, &store).arg("--force").run();
        assert_refused(outcome, 17, &[name, "the source itself"]);
    }
    assert!(fs::read(&image).unwrap() == before);
    let folder = make_index(&scratch, scratch.path(), &image, &store).arg("--force").run();
    assert_refused(folder, 17, &["no regular file"]);
    assert_eq!(names(scratch.path()), ["disk.img", "link", "symlink"]);
}

#[test]
fn an_index_over_the_file_behind_its_source_is_refused() {
    let Some(scratch) = require(&Needs::root()) else { return };
    let (image, store) = (scratch.join("disk.img"), scratch.join("store"));
    make_noise(&image, 328, MIB);
    let before = fs::read(&image).unwrap();
    let device = LoopDevice::attach(&image, &LoopOptions::default());
    let outcome = make_index(&scratch, &image, device.path(), &store).arg("--force").run();
    let shown = device.path().display().to_string();
    assert_refused(outcome, 13, &["disk.img", &shown]);
    assert!(fs::read(&image).unwrap() == before);
    assert_eq!(names(scratch.path()), ["disk.img"]);
}

#[test]
fn what_cannot_be_made_is_refused_before_anything_is_written() {
    let scratch = quick_folder("make");
    let (image, index, store) =
        (scratch.join("disk.img"), scratch.join("disk.caibx"), scratch.join("store"));
    make_noise(&image, 322, MIB);
    let call = || make_index(&scratch, &index, &image, &store);
    for sizes in
        ["1B:2B:47B", "64:16:256", "0:1:2", "16:64", "16:64:256M", "1:2:99999999999999999999"]
    {
        call().args(["-m", sizes]).run().expect_exit(2).expect_error(sizes);
    }
    let missing = scratch.join("missing");
    assert_refused(make_index(&scratch, &index, &missing, &store).run(), 10, &["missing"]);
    let deep = scratch.join("no/such/store");
    assert_refused(make_index(&scratch, &index, &image, &deep).run(), 10, &["no/such/store"]);
    assert_refused(make_index(&scratch, &index, &image, &image).run(), 20, &["disk.img"]);
    let remote = scratch.join("http://host/store");
    let remote = remote.strip_prefix(scratch.path()).unwrap();
    assert_refused(make_index(&scratch, &index, &image, remote).run(), 16, &["HTTP"]);
    assert_eq!(names(scratch.path()), ["disk.img"]);
}

#[test]
fn a_source_that_changes_while_it_is_cut_is_refused() {
    let scratch = quick_folder("make");
    let (image, index, store) =
        (scratch.join("disk.img"), scratch.join("disk.caibx"), scratch.join("store"));
    make_mixed(&image, 323, 1);
    for has_store in [true, false] {
        let call = match has_store {
            true => make_index(&scratch, &index, &image, &store),
            false => blockprint(&scratch).arg("make").arg(&index).arg(&image),
        };
        let running = call.env("BLOCKPRINT_DEBUG_STOP_AT", "chunked").spawn();
        until_stopped(&running);
        overwrite(&image, 5000, b"one byte is enough");
        running.signal("CONT");
        let shown = image.display().to_string();
        assert_refused(running.wait(), 19, &[&shown, "was written to"]);
        assert!(!index.exists(), "the index of no single moment was published");
    }
    assert_only_chunks(&store);
    assert_eq!(names(scratch.path()), ["disk.img", "store"]);
}

#[test]
fn a_full_disk_leaves_no_index_and_a_sound_store() {
    let Some(scratch) = require(&Needs::root().filesystems(&["ext4"])) else { return };
    let image = scratch.join("disk.img");
    make_noise(&image, 324, 12 * MIB);
    let filesystem = Filesystem::ext4(32 * MIB);
    let (index, store) = (scratch.join("disk.caibx"), filesystem.path().join("store"));
    let room = filesystem.path().join("room");
    make_noise(&room, 325, 6 * MIB);
    let filler = fill_disk(filesystem.path());
    fs::remove_file(&room).unwrap();
    let shown = store.display().to_string();
    let call = || make_index(&scratch, &index, &image, &store).args(["-m", "4:16:64"]);
    assert_refused(call().run(), 15, &["No space left on device", &shown]);
    assert!(!index.exists());
    assert_only_chunks(&store);
    assert_sound(&scratch, &store);
    fs::remove_file(filler).unwrap();
    call().run().expect_ok();
    assert_sound(&scratch, &store);
}

#[test]
fn an_index_on_a_full_disk_is_not_there_and_its_chunks_may_be_used_again() {
    let Some(scratch) = require(&Needs::root().filesystems(&["ext4"])) else { return };
    let image = scratch.join("disk.img");
    make_noise(&image, 326, 4 * MIB);
    let filesystem = Filesystem::ext4(32 * MIB);
    let (index, store) = (filesystem.path().join("disk.caibx"), scratch.join("store"));
    fs::write(&index, "the old index").unwrap();
    let filler = fill_disk(filesystem.path());
    let call = || {
        let call = make_index(&scratch, &index, &image, &store);
        call.args(["--force", "--uncompressed", "-m", "500B:2000B:9000B"])
    };
    let shown = index.display().to_string();
    assert_refused(call().run(), 15, &["No space left on device", &shown]);
    assert_eq!(fs::read(&index).unwrap(), b"the old index");
    assert_eq!(names(filesystem.path()), ["disk.caibx", "fills-the-disk"]);
    fs::remove_file(filler).unwrap();
    call().run().expect_ok();
    assert!(fs::read(&index).unwrap().len() > 40_000);
    assert_sound(&scratch, &store);
}

#[test]
fn an_interrupted_make_leaves_nothing_but_sound_chunks() {
    let scratch = quick_folder("make");
    let (image, index, store) =
        (scratch.join("disk.img"), scratch.join("disk.caibx"), scratch.join("store"));
    make_noise(&image, 327, 8 * MIB);
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let call = make_index(&scratch, &index, &image, &store).args(["--limit", "8M"]);
        let running = call.spawn();
        until("it writes", || store.is_dir() && !chunk_files(&store).is_empty());
        thread::sleep(Duration::from_millis(100));
        running.signal(signal);
        let outcome = running.wait_at_most(Duration::from_secs(20));
        assert_refused(outcome, code, &["interrupted", "disk.caibx was not made", "what was kept"]);
        assert!(!chunk_files(&store).is_empty(), "the next one need not pack them again");
        assert_eq!(names(scratch.path()), ["disk.img", "store"]);
        assert_only_chunks(&store);
        assert_sound(&scratch, &store);
    }
    make_index(&scratch, &index, &image, &store).run().expect_ok();
}
