//! Power cuts on real filesystems: killed at a step, the filesystem is shut down without its log being written.
//!
//! What the kernel still held in memory is lost then, as it would be without power.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use testkit::host::{
    Filesystem, LoopDevice, LoopOptions, Needs, TempDir, make_image, require, run, tool, try_run,
};

use crate::support::{
    MIB, assert_same, blockprint, copy, journal_of, make_mixed, names, partial_of,
};

const STEPS: [&str; 7] =
    ["created", "checkpoint:2", "copied", "flushed", "renamed", "published", "done"];

/// Cuts the power of a filesystem: it writes nothing any more, not even its log.
#[track_caller]
fn cut(mount: &Path) {
    run(tool("xfs_io").args(["-F", "-x", "-c", "shutdown"]).arg(mount));
    let touched = try_run(tool("touch").arg(mount.join("after the cut")));
    assert!(touched.is_err(), "{} still works after its power was cut", mount.display());
}

/// Runs a copy into the filesystem in `image`, kills it at `step`, cuts the power, and mounts it again.
#[track_caller]
fn copy_and_cut(
    scratch: &TempDir,
    image: &Path,
    source: &Path,
    old: bool,
    step: &str,
) -> Filesystem {
    let filesystem = Filesystem::mount_with(image, &LoopOptions::default(), "");
    let target = filesystem.path().join("target");
    if old {
        fs::write(&target, "old").unwrap();
    }
    run(tool("sync").arg("--file-system").arg(filesystem.path()));
    let killed = copy(scratch, source, &target)
        .args(["--force", "--limit", "40M"])
        .env("BLOCKPRINT_DEBUG_CHECKPOINT_MS", "20")
        .env("BLOCKPRINT_DEBUG_KILL_AT", step)
        .run();
    assert_eq!(killed.signal(), Some(9), "{step} never came:\n{killed}");
    cut(filesystem.path());
    drop(filesystem);
    // The number that the disk had is another's now, as after a real power cut.
    let options = LoopOptions { read_only: true, ..LoopOptions::default() };
    let _other = LoopDevice::attach(source, &options);
    Filesystem::mount_with(image, &LoopOptions::default(), "")
}

#[track_caller]
fn check(kind: &str, size_bytes: u64) {
    let needs = Needs::root().filesystems(&["xfs", "ext4"]).tools(&["xfs_io"]);
    let Some(scratch) = require(&needs) else { return };
    let (source, image) = (scratch.join("source"), scratch.join("image"));
    make_mixed(&source, 100, 1);
    make_image(kind, &image, size_bytes);
    for (step, old) in STEPS.into_iter().flat_map(|step| [(step, false), (step, true)]) {
        let what = format!("{kind}, cut at {step}, {}", if old { "replacing" } else { "new" });
        let filesystem = copy_and_cut(&scratch, &image, &source, old, step);
        let target = filesystem.path().join("target");
        let promised = ["published", "done"].contains(&step);
        match fs::metadata(&target) {
            Ok(found) if found.len() == 3 => {
                assert!(old && !promised, "{what}: the old file");
                assert_eq!(fs::read(&target).unwrap(), b"old", "{what}");
            }
            Ok(_) => {
                assert!(["renamed", "published", "done"].contains(&step), "{what}: too early");
                assert_same(&source, &target);
            }
            Err(_) => assert!(!old && !promised, "{what}: nothing is there"),
        }
        if !promised {
            go_on(&scratch, &source, &target, step, &what);
        }
        assert_same(&source, &target);
        for name in names(filesystem.path()) {
            fs::remove_file(filesystem.path().join(name)).unwrap();
        }
    }
}

/// What the journal calls done is there, and the copy goes on from it, or begins again where it cannot.
#[track_caller]
fn go_on(scratch: &TempDir, source: &Path, target: &Path, step: &str, what: &str) {
    let text = fs::read_to_string(journal_of(target)).ok();
    let partial = fs::File::open(partial_of(target)).ok();
    // Before the first journal is written there is none, and behind the rename no partial file.
    assert!(text.is_some() || step == "created", "{what}: the journal is lost");
    assert!(partial.is_some() || ["created", "renamed"].contains(&step), "{what}: all is lost");
    let source_bytes = fs::read(source).unwrap();
    let done =
        text.iter().flat_map(|text| text.lines()).filter_map(|line| line.strip_prefix("done "));
    for line in done {
        let Some(partial) = &partial else { break };
        let (start, end) = line.split_once(' ').unwrap();
        let (start, end): (usize, usize) = (start.parse().unwrap(), end.parse().unwrap());
        let mut found = vec![1; end - start];
        partial.read_exact_at(&mut found, start as u64).unwrap();
        assert!(
            found == source_bytes[start..end],
            "{what}: the journal claims what was lost: {line}"
        );
    }
    let outcome = copy(scratch, source, target).args(["--force", "--resume", "--json"]).run();
    if text.is_some() && partial.is_none() {
        outcome.expect_exit(19);
        copy(scratch, source, target).arg("--force").run().expect_ok();
    } else {
        let resumed = outcome.expect_ok().result()["resumed_bytes"].as_u64().unwrap();
        assert_eq!(resumed > 0, text.is_some(), "{what}: {resumed} bytes were kept");
    }
    blockprint(scratch).arg("compare").arg(source).arg(target).run().expect_ok();
}

#[test]
fn after_a_power_cut_a_target_on_xfs_is_old_or_complete() {
    check("xfs", 320 * MIB);
}

#[test]
fn after_a_power_cut_a_target_on_ext4_is_old_or_complete() {
    check("ext4", 64 * MIB);
}
