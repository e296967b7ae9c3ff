//! Digests that are kept for the next sync: nothing is read that is known, and whatever changed is found all the same.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use testkit::host::{LoopDevice, LoopOptions, Needs, Program, SshStandIn, TempDir, require};

use crate::far::there;
use crate::support::{MIB, assert_same, blockprint, make_noise, names, overwrite, until_stopped};

const SIZE: u64 = 48 * MIB;

/// A folder in which the other machine is this one.
pub(crate) struct Neighbour {
    pub(crate) scratch: TempDir,
    stand_in: SshStandIn,
    bin: PathBuf,
}

impl Neighbour {
    pub(crate) fn new(scratch: TempDir) -> Self {
        let bin = scratch.join("bin");
        fs::create_dir(&bin).unwrap();
        let program = bin.join("blockprint");
        let own = env!("CARGO_BIN_EXE_blockprint");
        // Only the end that was called is killed or stopped.
        let hooks = "BLOCKPRINT_DEBUG_KILL_AT BLOCKPRINT_DEBUG_STOP_AT";
        fs::write(&program, format!("#!/bin/sh\nunset {hooks}\nexec '{own}' \"$@\"\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Neighbour { scratch, stand_in: SshStandIn::direct(), bin }
    }

    /// `blockprint sync --json` with options, to which two places have to be added.
    pub(crate) fn sync(&self, options: &[&str]) -> Program {
        let program = blockprint(&self.scratch).args(["sync", "--json"]).args(options);
        program.env("PATH", self.stand_in.search_path(&[&self.bin]))
    }

    pub(crate) fn push(&self, options: &[&str], source: &Path, target: &Path) -> Program {
        self.sync(options).arg(source).arg(there(target))
    }

    pub(crate) fn pull(&self, options: &[&str], source: &Path, target: &Path) -> Program {
        self.sync(options).arg(there(source)).arg(target)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }
}

/// What a program read by system calls until all was transferred, in bytes, and what it said. A moment later the system adds
/// what its child has read, the far end.
pub(crate) fn read_bytes(program: Program) -> (u64, serde_json::Value) {
    let running = program.env("BLOCKPRINT_DEBUG_STOP_AT", "transferred").spawn();
    until_stopped(&running);
    let text = fs::read_to_string(format!("/proc/{}/io", running.pid())).unwrap();
    let read = text.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap();
    running.signal("CONT");
    (read.parse().unwrap(), running.wait().expect_ok().result())
}

#[test]
fn the_second_time_neither_end_reads_anything_of_its_image() {
    let Some(scratch) = require(&Needs::none()) else { return };
    let here = Neighbour::new(scratch);
    let (source, target) = (here.path("source"), here.path("target"));
    make_noise(&source, 1, SIZE);
    const KEEP: [&str; 1] = ["--keep-digests"];
    let (read, result) = read_bytes(here.push(&KEEP, &source, &target));
    assert!(read >= SIZE, "{read} bytes read: is this the right count?");
    assert_eq!((&result["known_bytes"], &result["data_bytes"]), (&0.into(), &SIZE.into()));
    // Each end in turn is the one that is looked at.
    for program in [here.push(&KEEP, &source, &target), here.pull(&KEEP, &source, &target)] {
        let (read, result) = read_bytes(program);
        assert!(read < 2 * MIB, "{read} bytes read");
        assert_eq!(result["known_bytes"], SIZE, "{result}");
        assert_eq!(result["data_bytes"], 0, "{result}");
    }
    assert_same(&source, &target);
    let kept = ["source", "source.blockprint-digests", "target", "target.blockprint-digests"];
    assert!(kept.iter().all(|name| here.path(name).exists()), "{:?}", names(here.scratch.path()));
}

#[test]
fn a_byte_that_changed_at_either_end_is_found() {
    let Some(scratch) = require(&Needs::none()) else { return };
    let here = Neighbour::new(scratch);
    let (source, target) = (here.path("source"), here.path("target"));
    make_noise(&source, 2, SIZE);
    let sync = || here.push(&["--keep-digests"], &source, &target).run().expect_ok().result();
    sync();
    for (changed, byte) in [(&source, b"!"), (&target, b"?")] {
        overwrite(changed, 31 * MIB + 7, byte);
        let result = sync();
        assert_same(&source, &target);
        assert!(result["data_bytes"].as_u64().unwrap() > 0, "{result}");
        let known = if changed == &source { 0 } else { SIZE };
        assert_eq!(result["known_bytes"], known, "{result}");
        assert_eq!(sync()["data_bytes"], 0);
    }
}

#[test]
fn digests_are_kept_where_they_are_wished_and_those_of_others_are_left_alone() {
    let Some(scratch) = require(&Needs::none()) else { return };
    let here = Neighbour::new(scratch);
    let (source, target) = (here.path("source"), here.path("target"));
    make_noise(&source, 3, 5 * MIB + 3);
    let folder = here.path("digests of images");
    let option = format!("--keep-digests={}", folder.display());
    here.push(&[&option], &source, &target).run().expect_ok();
    assert_eq!(names(&folder).len(), 2, "{:?}", names(&folder));
    assert!(!here.path("source.blockprint-digests").exists());
    let result = here.push(&[&option], &source, &target).run().expect_ok().result();
    assert_eq!(result["known_bytes"], 5 * MIB + 3, "{result}");
    // Who does not ask for kept digests neither uses nor removes them.
    let result = here.push(&[], &source, &target).run().expect_ok().result();
    assert_eq!(result["known_bytes"], 0, "{result}");
    assert_eq!(names(&folder).len(), 2);
    // Nothing is written in a dry run, and what is known is of use in none.
    let before = fs::read_dir(&folder).unwrap().count();
    here.push(&[&option, "--dry-run"], &source, &target).run().expect_ok();
    assert_eq!(fs::read_dir(&folder).unwrap().count(), before);
}

#[test]
fn a_target_that_was_synced_by_other_means_in_between_is_read_again() {
    let Some(scratch) = require(&Needs::none()) else { return };
    let here = Neighbour::new(scratch);
    let (source, other, target) = (here.path("source"), here.path("other"), here.path("target"));
    make_noise(&source, 4, 6 * MIB);
    make_noise(&other, 5, 6 * MIB);
    let keep = || here.pull(&["--keep-digests"], &source, &target).run().expect_ok().result();
    let between: [&dyn Fn(); 3] = [
        &|| drop(here.sync(&[]).arg(&other).arg(&target).run().expect_ok()),
        &|| drop(here.pull(&[], &other, &target).run().expect_ok()),
        &|| {
            let copy = blockprint(&here.scratch).args(["copy", "--force", "--in-place"]);
            drop(copy.arg(&other).arg(&target).run().expect_ok());
        },
    ];
    for write in between {
        keep();
        assert_eq!(keep()["known_bytes"], 6 * MIB);
        write();
        assert_same(&other, &target);
        let result = keep();
        assert_eq!(result["known_bytes"], 0, "{result}");
        assert_same(&source, &target);
    }
}

#[test]
fn a_device_to_which_anything_was_written_meanwhile_is_read_again() {
    let Some(scratch) = require(&Needs::root().tools(&["losetup"])) else { return };
    let here = Neighbour::new(scratch);
    let (source, disk) = (here.path("source"), here.path("disk"));
    make_noise(&source, 6, 16 * MIB);
    make_noise(&disk, 7, 17 * MIB);
    let device = LoopDevice::attach(&disk, &LoopOptions::default());
    let onto = || here.pull(&["--keep-digests"], &source, device.path()).run().expect_ok().result();
    let from = || {
        let target = here.path("back");
        let program = here.push(&["--keep-digests"], device.path(), &target);
        let result = program.run().expect_ok().result();
        assert_same(device.path(), &target);
        result
    };
    assert_eq!(onto()["known_bytes"], 0);
    let result = onto();
    assert_eq!((&result["known_bytes"], &result["data_bytes"]), (&(16 * MIB).into(), &0.into()));
    overwrite(device.path(), 9 * MIB, &[0; 4096]);
    let result = onto();
    assert_eq!(result["known_bytes"], 0, "{result}");
    assert!(result["data_bytes"].as_u64().unwrap() > 0, "{result}");
    assert!(fs::read(device.path()).unwrap()[..16 << 20] == fs::read(&source).unwrap());
    // As a source it is as large as it is.
    from();
    assert_eq!(from()["known_bytes"], 17 * MIB);
    overwrite(device.path(), 3 * MIB, &[1; 512]);
    assert_eq!(from()["known_bytes"], 0);
}
