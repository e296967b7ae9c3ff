//! `--used-only`: free blocks of the source stay behind, files arrive, and what cannot be known is read as a whole.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use testkit::host::{
    self, Filesystem, LoopDevice, LoopOptions, Needs, Outcome, Program, TempDir, fsck,
};

const SIZE: u64 = 96 << 20;

/// What stands in the blocks of a file that was deleted.
const SECRET: &[u8] = b"these words were deleted and are in free blocks now: ";

fn blockprint() -> Program {
    Program::new(env!("CARGO_BIN_EXE_blockprint")).arg("--json")
}

fn needs() -> Needs {
    Needs::root().tools(&["partclone.dd", "e2fsck", "blkid"]).filesystems(&["ext4"])
}

/// An unmounted ext4 with files in it, of which one was deleted.
fn source(folder: &TempDir) -> PathBuf {
    let path = folder.join("source.img");
    host::make_image("ext4", &path, SIZE);
    let mounted = Filesystem::mount(&path);
    let mut noise = vec![0; 3 << 20];
    fastrand::Rng::with_seed(1).fill(&mut noise);
    fs::write(mounted.path().join("kept"), noise).unwrap();
    let secret = mounted.path().join("secret");
    fs::write(&secret, SECRET.repeat(100_000)).unwrap();
    File::open(&secret).unwrap().sync_all().unwrap();
    fs::remove_file(&secret).unwrap();
    drop(mounted);
    assert!(holds_secret(&path), "the deleted words are still on the source");
    path
}

fn holds_secret(path: &Path) -> bool {
    fs::read(path).unwrap().windows(SECRET.len()).any(|window| window == SECRET)
}

/// A file of the source's size, full of noise.
fn noise(folder: &TempDir, name: &str) -> PathBuf {
    let path = folder.join(name);
    let mut bytes = vec![0; SIZE as usize];
    fastrand::Rng::with_seed(2).fill(&mut bytes);
    fs::write(&path, bytes).unwrap();
    path
}

/// The filesystem is clean, and its file is that of the source.
#[track_caller]
fn is_like(copy: &Path, source: &Path) {
    fsck::ext4(copy);
    let (copy, source) = (Filesystem::mount_read_only(copy), Filesystem::mount_read_only(source));
    let kept = |mounted: &Filesystem| fs::read(mounted.path().join("kept")).unwrap();
    assert!(kept(&copy) == kept(&source));
    assert!(!copy.path().join("secret").exists());
}

#[track_caller]
fn warns(outcome: &Outcome, part: &str) {
    let warnings = outcome.events("warning");
    assert!(warnings.iter().any(|event| event.to_string().contains(part)), "{part}:\n{outcome}");
}

#[test]
fn a_copy_of_used_blocks_has_the_files_and_nothing_that_was_deleted() {
    let Some(scratch) = host::require(&needs()) else { return };
    let source = source(&scratch);
    let copy = scratch.join("copy.img");
    let outcome =
        blockprint().args(["copy", "--used-only", "--verify"]).arg(&source).arg(&copy).run();
    let result = outcome.expect_ok().result();
    assert!(result["written_bytes"].as_u64().unwrap() < 20 << 20, "{result}");
    assert!(!holds_secret(&copy));
    is_like(&copy, &source);

    let device = LoopDevice::attach(&noise(&scratch, "disk.img"), &LoopOptions::default());
    blockprint()
        .args(["copy", "--used-only", "--verify"])
        .arg(&source)
        .arg(device.path())
        .run()
        .expect_ok();
    drop(device);
    assert!(!holds_secret(&scratch.join("disk.img")));
    is_like(&scratch.join("disk.img"), &source);
    let exact = scratch.join("exact.img");
    blockprint().arg("copy").arg(&source).arg(&exact).run().expect_ok();
    assert!(holds_secret(&exact), "without the option all is copied");
}

#[test]
fn a_sync_of_used_blocks_leaves_the_free_ones_of_the_target_alone() {
    let Some(scratch) = host::require(&needs()) else { return };
    let source = source(&scratch);
    let target = noise(&scratch, "target.img");
    let before = fs::read(&target).unwrap();
    blockprint().args(["sync", "--used-only"]).arg(&source).arg(&target).run().expect_ok();
    assert!(!holds_secret(&target));
    // The middle of the last block group is free.
    let (at, mut now) = ((SIZE - (4 << 20)) as usize, vec![0; 1 << 20]);
    File::open(&target).unwrap().read_exact_at(&mut now, at as u64).unwrap();
    assert!(now == before[at..at + now.len()]);
    is_like(&target, &source);
    let compare = |option: &[&str]| {
        blockprint().arg("compare").args(option).arg(&source).arg(&target).run().status.code()
    };
    // Mounting it to look has changed nothing that is used.
    assert_eq!(compare(&["--used-only"]), Some(0));
    assert_eq!(compare(&[]), Some(1));
}

#[test]
fn an_index_of_used_blocks_is_the_same_whatever_was_deleted() {
    let Some(scratch) = host::require(&needs()) else { return };
    let source = source(&scratch);
    let other = scratch.join("other.img");
    blockprint().args(["copy", "--used-only"]).arg(&source).arg(&other).run().expect_ok();
    let index = |image: &Path, name: &str, options: &[&str]| {
        let index = scratch.join(name);
        blockprint().arg("make").args(options).arg(&index).arg(image).run().expect_ok();
        fs::read(index).unwrap()
    };
    let used = index(&source, "a.caibx", &["--used-only"]);
    assert!(used == index(&other, "b.caibx", &["--used-only"]));
    assert!(used != index(&source, "c.caibx", &[]));
}

#[test]
fn what_cannot_be_known_is_read_as_a_whole_and_said() {
    let Some(scratch) = host::require(&needs()) else { return };
    let source = source(&scratch);
    let copy = |source: &Path| {
        let line = blockprint().args(["copy", "--used-only", "--force"]).arg(source);
        line.arg(scratch.join("copy.img")).run().expect_ok()
    };
    let mounted = Filesystem::mount(&source);
    warns(&copy(&source), "is mounted at");
    warns(&copy(mounted.device()), "is mounted at");
    assert!(holds_secret(&scratch.join("copy.img")));
    drop(mounted);
    let unknown = noise(&scratch, "unknown.img");
    warns(&copy(&unknown), "no filesystem is recognised");
    host::run(host::tool("mkswap").arg(&unknown).stderr(std::process::Stdio::null()));
    warns(&copy(&unknown), "partclone does not know swap");
    assert!(fs::read(&unknown).unwrap() == fs::read(scratch.join("copy.img")).unwrap());
}
