//! What the tests of the program share: the call of it, images to work on, and independent judges.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use testkit::host::{
    LoopDevice, LoopOptions, Outcome, Program, Running, TempDir, partition_image, run, tool,
};

pub(crate) const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;

/// A call of the program that keeps what it has to keep of devices and of packed files in `scratch`.
pub(crate) fn blockprint(scratch: &TempDir) -> Program {
    Program::new(env!("CARGO_BIN_EXE_blockprint"))
        .env("XDG_STATE_HOME", scratch.join("state"))
        .env("BLOCKPRINT_CACHE", scratch.join("cache"))
        .env("BLOCKPRINT_JOBS", jobs_folder(scratch))
}

/// Where jobs of this test are noted. What processes of others leave, and others of this one, is none of theirs.
pub(crate) fn jobs_folder(scratch: &TempDir) -> PathBuf {
    scratch.join("state/jobs")
}

/// `blockprint copy SOURCE TARGET`, to which options can be added.
pub(crate) fn copy(scratch: &TempDir, source: &Path, target: &Path) -> Program {
    blockprint(scratch).arg("copy").arg(source).arg(target)
}

/// A run of an image that is being made.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// Random bytes.
    Noise(u64),
    /// Zeroes that are written.
    Zeroes(u64),
    /// Zeroes that are not.
    Hole(u64),
}

/// Makes a file of `parts`, one behind the other; the same bytes for the same `seed`.
#[track_caller]
pub(crate) fn make(path: &Path, seed: u64, parts: &[Part]) {
    let file = File::create(path).unwrap();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut at = 0;
    for part in parts {
        let (bytes, len) = match *part {
            Part::Noise(len) => {
                let mut bytes = vec![0; len as usize];
                random.fill(&mut bytes);
                (Some(bytes), len)
            }
            Part::Zeroes(len) => (Some(vec![0; len as usize]), len),
            Part::Hole(len) => (None, len),
        };
        if let Some(bytes) = bytes {
            file.write_all_at(&bytes, at).unwrap();
        }
        at += len;
    }
    file.set_len(at).unwrap();
    file.sync_all().unwrap();
}

/// An image with everything in it that a copier may trip over, `units` times 4 MiB.
#[track_caller]
pub(crate) fn make_mixed(path: &Path, seed: u64, units: usize) {
    let unit = [
        Part::Noise(700 * KIB),
        Part::Hole(300 * KIB),
        Part::Noise(5 * KIB),
        Part::Zeroes(59 * KIB),
        Part::Hole(512),
        Part::Noise(512),
        Part::Zeroes(1535 * KIB),
        Part::Noise(1496 * KIB),
    ];
    make(path, seed, &unit.repeat(units));
    assert_eq!(fs::metadata(path).unwrap().len(), units as u64 * 4 * MIB);
}

/// Random bytes only.
#[track_caller]
pub(crate) fn make_noise(path: &Path, seed: u64, len: u64) {
    make(path, seed, &[Part::Noise(len)]);
}

/// Panics unless both hold the same bytes, as far as the shorter one goes where one is a device.
#[track_caller]
pub(crate) fn assert_same(a: &Path, b: &Path) {
    let len = |path: &Path| fs::metadata(path).map(|metadata| metadata.len()).unwrap();
    let mut command = tool("cmp");
    // A device has no length for stat.
    let bytes = len(a).max(len(b));
    if bytes > 0 && len(a).min(len(b)) == 0 {
        command.arg(format!("--bytes={bytes}"));
    }
    run(command.arg(a).arg(b));
}

/// Space that a file takes, in bytes.
#[track_caller]
pub(crate) fn allocated(path: &Path) -> u64 {
    File::open(path).and_then(|file| file.sync_all()).unwrap();
    fs::metadata(path).unwrap().blocks() * 512
}

/// The names in a folder, in order.
#[track_caller]
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name != "lost+found")
        .collect();
    names.sort();
    names
}

/// The file that a copy to `target` writes before it is complete.
pub(crate) fn partial_of(target: &Path) -> PathBuf {
    with_suffix(target, ".blockprint-partial")
}

/// The journal of a copy to the file `target`.
pub(crate) fn journal_of(target: &Path) -> PathBuf {
    with_suffix(target, ".blockprint-journal")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Overwrites a part of what is at `path`, and makes it durable there.
#[track_caller]
pub(crate) fn overwrite(path: &Path, offset: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
    file.sync_all().unwrap();
}

/// Waits until `is_so`, at most 20 seconds.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(20), "in vain for 20 seconds: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until the program has stopped itself at the step that it was told to stop at.
#[track_caller]
pub(crate) fn until_stopped(running: &Running) {
    let stat = format!("/proc/{}/stat", running.pid());
    until("the program stops at its step", || {
        let text = fs::read_to_string(&stat).unwrap_or_default();
        let state = text.rsplit(") ").next().and_then(|rest| rest.chars().next());
        assert!(state != Some('Z'), "it ended before that step and said:\n{}", running.stderr());
        state == Some('T')
    });
}

/// Panics unless it ended with that code and one line on standard error that has each of `parts`.
#[track_caller]
pub(crate) fn assert_refused(outcome: Outcome, code: i32, parts: &[&str]) -> Outcome {
    let outcome =
        parts.iter().fold(outcome.expect_exit(code), |outcome, part| outcome.expect_error(part));
    let errors = outcome.stderr.lines().filter(|line| line.starts_with("blockprint:")).count();
    assert_eq!(errors, 1, "an error is one line:\n{outcome}");
    outcome
}

/// Makes `disk` with two partitions, an ext4 in the second, and attaches it.
#[track_caller]
pub(crate) fn attach_two_partitions(disk: &Path) -> LoopDevice {
    partition_image(disk, 24 * MIB, "label: gpt\nsize=8M\nsize=8M\n");
    let options = LoopOptions { partitions: true, ..LoopOptions::default() };
    let device = LoopDevice::attach(disk, &options);
    run(tool("mkfs.ext4").arg("-q").arg(device.partition(2)));
    device
}
