//! Backups and restores by the program, ended at random moments and by full disks: what is left is whole, or known to be unfinished
//! and goes with the next backup.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use testkit::host::{LoopDevice, Mount, Needs, Outcome, Program, TempDir, require, run, tool};

use crate::backup::{attach, backed_up, backup};
use crate::support::{MIB, Part, assert_same, blockprint, jobs_folder, make, names};

/// How often something is ended.
pub(crate) const ROUNDS: u32 = 20;

/// Chance that tells where it begins, so that a failure can be had again.
pub(crate) fn chance() -> Rng {
    let seed = fastrand::u64(..);
    println!("the seed is {seed}");
    Rng::with_seed(seed)
}

/// Some moment of what takes `whole` in all, or shortly after it.
pub(crate) fn some_moment(rng: &mut Rng, whole: Duration) {
    thread::sleep(whole.mul_f64(rng.f64() * 1.1));
}

/// A file with an ext4 in it, of which `noise_bytes` are used and cannot be compressed.
#[track_caller]
pub(crate) fn make_noisy_ext4(
    scratch: &TempDir,
    name: &str,
    size_bytes: u64,
    noise_bytes: u64,
) -> PathBuf {
    let (path, content) = (scratch.join(name), scratch.join(format!("{name}.content")));
    fs::create_dir(&content).unwrap();
    make(&content.join("noise"), 11, &[Part::Noise(noise_bytes), Part::Hole(MIB)]);
    File::create(&path).unwrap().set_len(size_bytes).unwrap();
    run(tool("mkfs.ext4").args(["-q", "-d"]).arg(&content).arg(&path));
    fs::remove_dir_all(content).unwrap();
    path
}

pub(crate) fn is_unfinished(name: &str) -> bool {
    name.ends_with(".inprogress")
}

/// Panics unless the image is whole.
#[track_caller]
pub(crate) fn assert_whole(scratch: &TempDir, image: &Path) {
    blockprint(scratch).arg("verify").arg(image).run().expect_ok();
}

/// The processes that were started, directly or not, by a program whose jobs are noted in `scratch`: number and command.
pub(crate) fn descendants(scratch: &TempDir) -> Vec<(u32, String)> {
    let mark = format!("BLOCKPRINT_JOBS={}", jobs_folder(scratch).display());
    let has_mark = |environment: &[u8]| {
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    };
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let (folder, of_test) = (entry.path(), std::process::id());
        if pid == of_test || !has_mark(&fs::read(folder.join("environ")).unwrap_or_default()) {
            continue;
        }
        let command = fs::read(folder.join("cmdline")).unwrap_or_default();
        found.push((pid, String::from_utf8_lossy(&command).replace('\0', " ")));
    }
    found
}

/// Kills one that was found as [`descendants`] does.
pub(crate) fn kill(pid: u32) {
    let _ = tool("sh").args(["-c", "kill -s KILL \"$0\""]).arg(pid.to_string()).output();
}

/// A partition, a folder for its images, and how long an image takes.
struct Scene {
    device: LoopDevice,
    folder: PathBuf,
    whole: Duration,
    rng: Rng,
    scratch: TempDir,
}

impl Scene {
    #[track_caller]
    fn new(tools: &[&'static str]) -> Option<Self> {
        let scratch = require(&Needs::root().tools(&["mkfs.ext4", "partclone.ext4"]).tools(tools))?;
        let device = attach(&make_noisy_ext4(&scratch, "disk", 64 * MIB, 30 * MIB));
        let folder = scratch.join("images");
        fs::create_dir(&folder).unwrap();
        let (rng, whole) = (chance(), Duration::ZERO);
        let mut scene = Scene { device, folder, whole, rng, scratch };
        scene.whole = scene.backup().run().expect_ok().elapsed;
        scene.take_images();
        Some(scene)
    }

    fn backup(&self) -> Program {
        backup(&self.scratch, self.device.path(), &self.folder).args(["--name", "n"])
    }

    /// Removes the images, each of which has to be whole, and says how many there were.
    #[track_caller]
    fn take_images(&self) -> usize {
        let names = names(&self.folder);
        for name in &names {
            assert!(!is_unfinished(name), "{name} is left");
            assert_whole(&self.scratch, &self.folder.join(name));
            fs::remove_file(self.folder.join(name)).unwrap();
        }
        names.len()
    }

    /// Starts `program`, ends it with a signal at some moment, and says how it ended.
    fn ended(&mut self, program: Program, signal: &str) -> Outcome {
        let running = program.spawn();
        some_moment(&mut self.rng, self.whole);
        running.signal(signal);
        let outcome = running.wait_at_most(Duration::from_secs(20));
        self.assert_alone();
        outcome
    }

    #[track_caller]
    fn assert_alone(&self) {
        crate::support::until("no helper is left", || descendants(&self.scratch).is_empty());
    }
}

/// Whether it was told to end, and did. Before it listens to signals, they end it as they end everybody.
#[track_caller]
fn was_terminated(outcome: &Outcome) -> bool {
    let is_ended = outcome.status.code() == Some(143) || outcome.signal() == Some(15);
    assert!(is_ended || outcome.status.success(), "{outcome}");
    is_ended
}

#[test]
fn what_a_killed_backup_leaves_is_listed_as_unfinished_and_goes_with_the_next() {
    let Some(mut scene) = Scene::new(&[]) else { return };
    let mut in_time = 0;
    for _ in 0..ROUNDS {
        let outcome = scene.ended(scene.backup(), "KILL");
        assert!(outcome.status.success() || outcome.signal() == Some(9), "{outcome}");
        let left = names(&scene.folder);
        assert!(left.len() <= 1, "{left:?}");
        if !left.iter().any(|name| is_unfinished(name)) {
            let images = scene.take_images();
            assert!(images == 1 || !outcome.status.success(), "{outcome}");
            continue;
        }
        assert!(!outcome.status.success(), "{outcome}");
        in_time += 1;
        let list = blockprint(&scene.scratch).args(["backups", "--json"]).arg(&scene.folder).run();
        let listed = list.expect_ok().result()["backups"][0].clone();
        assert_eq!(listed["unfinished"], true, "{listed}");
        // In the same minute, too.
        let next = scene.backup().run().expect_ok();
        let notes = next.events("note");
        let says = |note: &serde_json::Value| note["message"].to_string().contains(&left[0]);
        assert!(notes.iter().any(says), "it does not say that it removed {left:?}:\n{next}");
        assert_eq!(scene.take_images(), 1);
    }
    assert!(in_time >= 2, "only {in_time} of {ROUNDS} were killed while they wrote");
    assert_eq!(names(&jobs_folder(&scene.scratch)), [""; 0]);
}

#[test]
fn what_another_program_left_unfinished_is_its_own() {
    let Some(scene) = Scene::new(&[]) else { return };
    let running = scene.backup().env("BLOCKPRINT_DEBUG_STOP_AT", "copied").spawn();
    crate::support::until_stopped(&running);
    // Of one that lives, too.
    let other = scene.folder.join("m-2026-03-04T0506.apt.ext4.zst.inprogress");
    fs::write(&other, "precious").unwrap();
    let before = names(&scene.folder);
    let disk = make_noisy_ext4(&scene.scratch, "small", 8 * MIB, MIB);
    backup(&scene.scratch, &disk, scene.scratch.path()).run().expect_ok();
    assert_eq!(names(&scene.folder), before);
    running.signal("CONT");
    running.wait().expect_ok();
    fs::remove_file(other).unwrap();
    assert_eq!(scene.take_images(), 1);
}

#[test]
fn a_backup_or_a_restore_that_is_told_to_end_leaves_nothing() {
    let Some(mut scene) = Scene::new(&["blkdiscard"]) else { return };
    let image = backed_up(&scene.scratch, scene.device.path(), &[]);
    let [file, expected] = ["target", "expected"].map(|name| scene.scratch.join(name));
    File::create(&file).unwrap().set_len(64 * MIB).unwrap();
    let target = attach(&file);
    let restore = |scratch: &TempDir| {
        blockprint(scratch).args(["restore", "--yes"]).arg(&image).arg(target.path())
    };
    let backup_takes = scene.whole;
    let restore_takes = restore(&scene.scratch).run().expect_ok().elapsed;
    // A device is no file that `fs::copy` takes.
    fs::write(&expected, fs::read(target.path()).unwrap()).unwrap();
    let mut in_time = [0; 2];
    for _ in 0..ROUNDS {
        scene.whole = backup_takes;
        let is_ended = was_terminated(&scene.ended(scene.backup(), "TERM"));
        assert_eq!(scene.take_images(), usize::from(!is_ended));
        in_time[0] += u32::from(is_ended);
        scene.whole = restore_takes;
        run(tool("blkdiscard").arg(target.path()));
        let is_ended = was_terminated(&scene.ended(restore(&scene.scratch), "TERM"));
        if !is_ended {
            assert_same(target.path(), &expected);
        }
        in_time[1] += u32::from(is_ended);
    }
    assert!(in_time.iter().all(|in_time| *in_time >= 2), "only {in_time:?} of {ROUNDS} each");
    restore(&scene.scratch).run().expect_ok();
    assert_same(target.path(), &expected);
}

#[test]
fn a_partclone_that_is_killed_while_it_is_asked_for_the_map_makes_no_wrong_image() {
    let Some(mut scene) = Scene::new(&["zstd"]) else { return };
    let used_bytes = {
        let result = scene.backup().run().expect_ok().result();
        scene.take_images();
        result["used_bytes"].clone()
    };
    let mut in_time = 0;
    for _ in 0..ROUNDS {
        let running = scene.backup().spawn();
        let start = Instant::now();
        // It may be over before it was seen.
        let found = loop {
            let found = descendants(&scene.scratch);
            let helper = found.into_iter().find(|(_, command)| command.contains("partclone"));
            if helper.is_some() || start.elapsed() > scene.whole {
                break helper;
            }
        };
        if let Some((pid, _)) = found {
            thread::sleep(Duration::from_micros(scene.rng.u64(0..8000)));
            kill(pid);
        }
        let outcome = running.wait().expect_ok();
        scene.assert_alone();
        let result = outcome.result();
        let image = PathBuf::from(result["destination"].as_str().unwrap());
        if result["variant"] == "dd" {
            in_time += 1;
            let warnings = outcome.events("warning");
            let says =
                |event: &serde_json::Value| event["message"].to_string().contains("raw bytes");
            assert!(warnings.iter().any(says), "{outcome}");
            let unpacked = scene.scratch.join("unpacked");
            run(tool("zstd").args(["-dqf", "-o"]).arg(&unpacked).arg(&image));
            assert_same(&unpacked, scene.device.path());
        } else {
            assert_eq!(result["used_bytes"], used_bytes, "{outcome}");
        }
        assert_eq!(scene.take_images(), 1);
    }
    println!("{in_time} of {ROUNDS} were killed before the map was there");
}

#[test]
fn a_disk_that_fills_up_is_named_and_nothing_else_is_changed() {
    let Some(scratch) = require(&Needs::root().tools(&["partclone.ext4"]).filesystems(&["ext4"]))
    else {
        return;
    };
    let mut rng = chance();
    let source = attach(&make_noisy_ext4(&scratch, "disk", 24 * MIB, 12 * MIB));
    let (small, folder) = (scratch.join("small"), scratch.join("images"));
    fs::create_dir(&folder).unwrap();
    File::create(&small).unwrap().set_len(24 * MIB).unwrap();
    run(tool("mkfs.ext4").args(["-q", "-O", "^has_journal"]).arg(&small));
    let small = attach(&small);
    let _mounted = Mount::at(small.path(), &folder, "rw");
    let (filler, precious) = (folder.join("filler"), folder.join("precious"));
    make(&precious, 5, &[Part::Noise(MIB)]);
    let content = fs::read(&precious).unwrap();
    let mut full = 0;
    for round in 0..ROUNDS {
        let fill = rng.u64(MIB..20 * MIB);
        run(tool("fallocate").arg("-l").arg(fill.to_string()).arg(&filler));
        let compression = ["zst", "gz", "lz4", "uncompressed"][round as usize % 4];
        let call = backup(&scratch, source.path(), &folder).args(["--compression", compression]);
        let outcome = call.run();
        let left: Vec<_> = names(&folder);
        if outcome.status.success() {
            let image = PathBuf::from(outcome.result()["destination"].as_str().unwrap());
            assert_eq!(left.len(), 3, "{left:?}");
            assert_whole(&scratch, &image);
            fs::remove_file(image).unwrap();
        } else {
            let message = outcome.clone().expect_exit(15).events("error")[0]["message"].to_string();
            assert!(message.contains("no space") && message.contains("images"), "{outcome}");
            assert_eq!(left, ["filler", "precious"]);
            full += 1;
        }
        assert_eq!(fs::metadata(&filler).unwrap().size(), fill);
        assert!(fs::read(&precious).unwrap() == content);
        fs::remove_file(&filler).unwrap();
    }
    assert!((2..ROUNDS).contains(&full), "{full} of {ROUNDS} disks were full");
}
