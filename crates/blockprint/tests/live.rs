//! What the tests of `clone` share: an image in use on a filesystem with reflinks, and judges of what a clone left.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use testkit::host::{
    self, Filesystem, Load, Needs, Outcome, Program, Running, TempDir, Writer, fsck, read_records,
    run, tool,
};

use crate::support::{MIB, names, until};

/// Within this time a filesystem takes writes again, whatever happened to the program.
pub(crate) const THAWED_WITHIN: Duration = Duration::from_secs(2);

/// A filesystem with reflinks that images lie on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outer {
    Xfs,
    Btrfs,
}

impl Outer {
    pub(crate) const BOTH: [Outer; 2] = [Outer::Xfs, Outer::Btrfs];

    #[track_caller]
    pub(crate) fn make(self) -> Filesystem {
        match self {
            Outer::Xfs => Filesystem::xfs(512 * MIB),
            Outer::Btrfs => Filesystem::btrfs(1024 * MIB),
        }
    }
}

/// Root, loop devices, and all filesystems that these tests work with.
pub(crate) fn needs() -> Needs {
    Needs::root()
        .filesystems(&["ext4", "xfs", "btrfs"])
        .tools(&["e2fsck", "fsfreeze", "losetup", "xfs_io", "cmp"])
}

/// An ext4 image, mounted and written to. Dropped from the top down: the writer first.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) writer: Writer,
    pub(crate) inner: Filesystem,
    pub(crate) outer: Filesystem,
    pub(crate) image: PathBuf,
}

impl Live {
    /// With a writer that syncs after each record.
    #[track_caller]
    pub(crate) fn start(outer: Outer) -> Self {
        Live::on(outer.make(), |image| host::make_image("ext4", image, 64 * MIB))
    }

    /// The same on a filesystem that stands already, with an image that `make` makes.
    #[track_caller]
    pub(crate) fn on(outer: Filesystem, make: impl FnOnce(&Path)) -> Self {
        let image = outer.path().join("disk.img");
        make(&image);
        let inner = Filesystem::mount(&image);
        let writer = Writer::start(inner.path(), &Load::default());
        Live { writer, inner, outer, image }
    }

    /// A path beside the image.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.outer.path().join(name)
    }

    /// `blockprint clone --json IMAGE TARGET`.
    pub(crate) fn clone_to(&self, target: &Path) -> Program {
        clone(&[&self.image], target)
    }

    /// Panics unless the writer goes on within two seconds.
    #[track_caller]
    pub(crate) fn assert_writable(&self, when: &str) {
        let start = Instant::now();
        assert!(self.writer.goes_on(THAWED_WITHIN), "no write within 2 s: {when}");
        assert!(start.elapsed() < THAWED_WITHIN, "a write took {:?}: {when}", start.elapsed());
    }

    /// Panics unless the folder holds the image, and of `allowed` what there is, and nothing else.
    #[track_caller]
    pub(crate) fn assert_nothing_but(&self, allowed: &[&str]) {
        let mut found = names(self.outer.path());
        found.retain(|name| name != "disk.img" && !allowed.contains(&name.as_str()));
        assert!(found.is_empty(), "left behind: {found:?}");
    }
}

/// `blockprint clone --json SOURCE... TARGET`.
pub(crate) fn clone(sources: &[&Path], target: &Path) -> Program {
    Program::new(env!("CARGO_BIN_EXE_blockprint"))
        .args(["clone", "--json"])
        .args(sources)
        .arg(target)
}

/// Starts it so that it stops itself at `step`, and waits until it has.
#[track_caller]
pub(crate) fn stopped_at(program: Program, step: &str) -> Running {
    let running = program.env("BLOCKPRINT_DEBUG_STOP_AT", step).spawn();
    crate::support::until_stopped(&running);
    running
}

/// For how long the filesystems were frozen, in milliseconds.
#[track_caller]
pub(crate) fn frozen_ms(outcome: &Outcome) -> f64 {
    outcome.result()["frozen_ms"].as_f64().unwrap_or_else(|| panic!("it froze nothing: {outcome}"))
}

/// Panics unless the clone is a clean ext4 that holds the writer's records up to `at_least`. Returns the last one.
#[track_caller]
pub(crate) fn judge(clone: &Path, at_least: u64) -> u64 {
    fsck::ext4(clone);
    let mounted = Filesystem::mount_read_only(clone);
    let last = read_records(mounted.path())
        .unwrap_or_else(|sentence| panic!("{}: {sentence}", clone.display()));
    assert!(last >= at_least, "{}: {last} of {at_least} records", clone.display());
    last
}

/// Panics unless a new file in `folder` can be written and flushed within two seconds. If it cannot, the
/// filesystem is thawed, so that the test can end.
#[track_caller]
pub(crate) fn assert_takes_a_write(folder: &Path) {
    let (sender, receiver) = mpsc::channel();
    let path = folder.join("probe");
    let point = folder.to_path_buf();
    thread::spawn(move || {
        let written = File::create(&path)
            .and_then(|mut file| file.write_all(b"probe").and_then(|()| file.sync_all()))
            .and_then(|()| fs::remove_file(&path));
        let _ = sender.send(written);
    });
    match receiver.recv_timeout(THAWED_WITHIN) {
        Ok(written) => written.unwrap(),
        Err(_) => {
            host::thaw(&point);
            let _ = receiver.recv_timeout(THAWED_WITHIN);
            panic!("{} takes no write within 2 s", folder.display());
        }
    }
}

/// Waits until no process is left that was started with `path` among its arguments: neither the program nor its
/// watchdog.
#[track_caller]
pub(crate) fn until_no_process_names(path: &Path) {
    until("the watchdog ends", || processes_naming(path).is_empty());
}

/// The processes that were started with `path` among their arguments.
pub(crate) fn processes_naming(path: &Path) -> Vec<u32> {
    let wanted = path.to_string_lossy().into_owned();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            line.split('\0').any(|argument| argument == wanted)
        })
        .collect()
}

/// Says something in the log of a test that passes, which the harness would swallow.
pub(crate) fn announce(sentence: &str) {
    let _ = std::io::stderr().write_all(format!("{sentence}\n").as_bytes());
}

/// `cp --reflink=always`.
#[track_caller]
pub(crate) fn reflink(source: &Path, target: &Path) {
    run(tool("cp").arg("--reflink=always").arg(source).arg(target));
}

/// A folder for the test, or none where something is missing.
#[track_caller]
pub(crate) fn scratch() -> Option<TempDir> {
    host::require(&needs())
}
