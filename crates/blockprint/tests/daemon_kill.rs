//! The daemon at work, killed or told to end at random moments, and its partclone killed: nothing that is left is wrong, nothing
//! that was said is untrue, and what is unfinished goes when a daemon starts again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::Value;
use testkit::host::{LoopDevice, Mount, Needs, Outcome, Running, TempDir, run, tool};

use crate::backup::{attach, backed_up, stream_of_partclone};
use crate::daemon_client::{
    Client, address, apart_core, is_end, require_client, stand_ins_for_partclone, with_stand_ins,
};
use crate::partition_kill::{
    ROUNDS, assert_whole, chance, descendants, is_unfinished, kill, make_noisy_ext4, some_moment,
};
use crate::support::{MIB, jobs_folder, names, until};

/// A client, to which daemons come one after the other, and what they work on.
struct Scene {
    client: Client,
    /// Partitions, if partclone is the real one.
    devices: Option<[LoopDevice; 2]>,
    source: String,
    target: String,
    /// What is restored, and what the target holds then.
    image: PathBuf,
    expected: Vec<u8>,
    folder: PathBuf,
    /// How long a clone and a restore take together.
    whole: Duration,
    rng: Rng,
    scratch: TempDir,
}

/// What one daemon did.
struct Round {
    heard: Vec<Value>,
    /// Images, finished and not.
    left: Vec<String>,
}

impl Scene {
    /// With the real partclone.
    #[track_caller]
    fn real() -> Option<Self> {
        let tools = ["mkfs.ext4", "partclone.ext4", "blkdiscard"];
        let scratch = require_client(&Needs::root().tools(&tools))?;
        let source = attach(&make_noisy_ext4(&scratch, "disk", 64 * MIB, 30 * MIB));
        File::create(scratch.join("target")).unwrap().set_len(64 * MIB).unwrap();
        let target = attach(&scratch.join("target"));
        let image = backed_up(&scratch, source.path(), &[]);
        Some(Scene::new(scratch, Some([source, target]), image))
    }

    /// With stand-ins for it, which have children of their own.
    #[track_caller]
    fn with_stand_ins() -> Option<Self> {
        let tools = ["mkfs.ext4", "partclone.ext4", "gzip"];
        let scratch = require_client(&Needs::root().tools(&tools))?;
        let source = attach(&make_noisy_ext4(&scratch, "disk", 8 * MIB, MIB));
        let content = scratch.join("content");
        stream_of_partclone(source.path(), &content);
        stand_ins_for_partclone(&scratch, "0.03");
        let image = scratch.join("x-2026-03-04T0506.apt.ext2.gz");
        let mut gzip = tool("gzip");
        gzip.arg("-1c")
            .arg(&content)
            .stdout(File::create(&image).unwrap())
            .stderr(Stdio::inherit());
        assert!(gzip.status().unwrap().success());
        Some(Scene::new(scratch, None, image))
    }

    #[track_caller]
    fn new(scratch: TempDir, devices: Option<[LoopDevice; 2]>, image: PathBuf) -> Self {
        let folder = scratch.join("images");
        fs::create_dir(&folder).unwrap();
        let name = |number: usize, stub: &str| match &devices {
            Some(devices) => devices[number].path().display().to_string(),
            None => stub.to_string(),
        };
        let (source, target) = (name(0, "/dev/sdy2"), name(1, "/dev/sdy4"));
        let client = Client::bind(&scratch);
        let (expected, whole, rng) = (Vec::new(), Duration::ZERO, chance());
        let mut scene =
            Scene { client, devices, source, target, image, expected, folder, whole, rng, scratch };
        let core = scene.start();
        scene.prepare();
        let began = Instant::now();
        scene.ask_both();
        for _ in 0..2 {
            let end = scene.next_end();
            assert_eq!(end["complete"], 1.0, "{end}");
        }
        scene.whole = began.elapsed();
        scene.expected = scene.restored();
        scene.client.say("type: kill-request");
        core.wait_at_most(Duration::from_secs(20)).expect_ok();
        scene.judge(&[]);
        scene
    }

    /// Starts a daemon. A PAIR socket never serves one that comes before it has seen that the last one is gone.
    #[track_caller]
    fn start(&mut self) -> Running {
        for _ in 0..10 {
            let program = match self.devices {
                Some(_) => apart_core(&self.scratch),
                None => with_stand_ins(&self.scratch),
            };
            let core = program.arg(address(&self.scratch)).spawn();
            while let Some(message) = self.client.next_within(Duration::from_secs(3)) {
                if message["status"] == "started" {
                    return core;
                }
            }
        }
        panic!("the client serves none of many daemons");
    }

    /// Empties the target.
    fn prepare(&self) {
        match &self.devices {
            Some([_, target]) => drop(run(tool("blkdiscard").arg(target.path()))),
            None => drop(fs::remove_file(self.restored_at())),
        }
    }

    fn restored_at(&self) -> PathBuf {
        match &self.devices {
            Some([_, target]) => target.path().to_owned(),
            None => self.scratch.join("pcl.ext2.restored"),
        }
    }

    fn restored(&self) -> Vec<u8> {
        fs::read(self.restored_at()).unwrap_or_default()
    }

    fn ask_clone(&mut self) {
        let (source, folder) = (&self.source, self.folder.display());
        let request = format!("type: clone\nsource: {source}\ndestination: {folder}\nname: n");
        self.client.say(request);
    }

    fn ask_restore(&mut self) {
        let (image, target) = (self.image.display(), &self.target);
        self.client.say(format!("type: restore\nsource: {image}\ndestination: {target}\n"));
    }

    fn ask_both(&mut self) {
        self.ask_clone();
        self.ask_restore();
    }

    #[track_caller]
    fn next_end(&mut self) -> Value {
        loop {
            let message = self.client.next();
            if is_end(&message) {
                return message;
            }
        }
    }

    /// Has a new daemon work, ends it with a signal at some moment, and starts the next one, which is told to end when it has
    /// cleaned up.
    #[track_caller]
    fn round(&mut self, signal: &str) -> (Round, Outcome) {
        self.prepare();
        let core = self.start();
        self.client.heard.clear();
        self.ask_both();
        some_moment(&mut self.rng, self.whole);
        core.signal(signal);
        let outcome = core.wait_at_most(Duration::from_secs(20));
        let left = names(&self.folder);
        let next = self.start();
        let mut heard = std::mem::take(&mut self.client.heard);
        heard.pop();
        until("no unfinished image is left, and no note of one", || {
            names(&jobs_folder(&self.scratch)).is_empty()
                && !names(&self.folder).iter().any(|name| is_unfinished(name))
        });
        self.client.say("type: kill-request");
        next.wait_at_most(Duration::from_secs(20)).expect_ok();
        while self.client.next()["status"] != "dying" {}
        self.judge(&heard);
        (Round { heard, left }, outcome)
    }

    /// Panics unless what was said is true, each image is whole, and nobody is left. The images are gone then.
    #[track_caller]
    fn judge(&self, heard: &[Value]) {
        until("no helper is left", || descendants(&self.scratch).is_empty());
        for message in heard.iter().filter(|message| is_end(message)) {
            match message["type"].as_str().unwrap() {
                "clone" => assert!(Path::new(message["destination"].as_str().unwrap()).exists()),
                "restore" => assert!(self.restored() == self.expected, "{message}"),
                _ => assert!(message["error"].is_string(), "{message}"),
            }
        }
        for name in names(&self.folder) {
            assert!(!is_unfinished(&name), "{name} is left");
            assert_whole(&self.scratch, &self.folder.join(&name));
            fs::remove_file(self.folder.join(name)).unwrap();
        }
        assert_eq!(names(&jobs_folder(&self.scratch)), [""; 0]);
    }

    fn killed_again_and_again(mut self) {
        let mut in_time = 0;
        for _ in 0..ROUNDS {
            let (round, outcome) = self.round("KILL");
            assert_eq!(outcome.signal(), Some(9), "{outcome}");
            in_time += u32::from(round.left.iter().any(|name| is_unfinished(name)));
        }
        assert!(in_time >= 2, "only {in_time} of {ROUNDS} were killed while they wrote");
    }

    fn told_to_end_again_and_again(mut self) {
        let mut in_time = 0;
        for _ in 0..ROUNDS {
            let (Round { heard, left }, outcome) = self.round("TERM");
            let outcome = outcome.expect_ok();
            assert!(!left.iter().any(|name| is_unfinished(name)), "{left:?} is left:\n{outcome}");
            assert_eq!(heard[heard.len() - 1]["status"], "dying", "{heard:?}");
            // Each job that was spoken of has come to its end, or was cancelled.
            for message in heard.iter().filter(|message| message["id"].is_string()) {
                let is_its_end = |end: &&Value| end["id"] == message["id"] && is_end(end);
                let ends: Vec<&Value> = heard.iter().filter(is_its_end).collect();
                assert_eq!(ends.len(), 1, "{heard:?}");
                assert!(ends[0]["complete"] == 1.0 || ends[0]["error"] == "Cancelled", "{ends:?}");
                in_time += u32::from(ends[0]["error"] == "Cancelled");
            }
        }
        assert!(in_time >= 2, "only {in_time} jobs of {ROUNDS} daemons were cancelled");
    }
}

#[test]
fn killed_at_any_moment_a_daemon_leaves_nothing_wrong() {
    let Some(scene) = Scene::real() else { return };
    scene.killed_again_and_again();
}

#[test]
fn killed_at_any_moment_a_daemon_with_stand_ins_leaves_nothing_wrong() {
    let Some(scene) = Scene::with_stand_ins() else { return };
    scene.killed_again_and_again();
}

#[test]
fn told_to_end_at_any_moment_a_daemon_cancels_its_jobs_and_says_so() {
    let Some(scene) = Scene::real() else { return };
    scene.told_to_end_again_and_again();
}

#[test]
fn told_to_end_at_any_moment_a_daemon_ends_its_stand_ins() {
    let Some(scene) = Scene::with_stand_ins() else { return };
    scene.told_to_end_again_and_again();
}

#[test]
fn a_partclone_that_is_killed_at_any_moment_is_no_success() {
    let Some(mut scene) = Scene::with_stand_ins() else { return };
    let core = scene.start();
    let mut in_time = 0;
    for round in 0..ROUNDS {
        scene.prepare();
        scene.client.heard.clear();
        if round % 2 == 0 {
            scene.ask_clone();
        } else {
            scene.ask_restore();
        }
        let is_stand_in = |(_, command): &(u32, String)| command.contains("pcl.ext2");
        let mut found = None;
        until("partclone is started", || {
            found = descendants(&scene.scratch).into_iter().find(is_stand_in);
            found.is_some()
        });
        some_moment(&mut scene.rng, Duration::from_millis(150));
        kill(found.unwrap().0);
        let end = scene.next_end();
        let is_failure = end["type"].as_str().unwrap().ends_with("-failed");
        assert!(is_failure || end["complete"] == 1.0, "{end}");
        assert!(!is_failure || end["error"] == "Failed", "{end}");
        assert!(!is_failure || end["detail"].as_str().unwrap().contains("SIGKILL"), "{end}");
        in_time += u32::from(is_failure);
        let is_left = |(pid, _): &(u32, String)| *pid != core.pid();
        until("no helper is left", || !descendants(&scene.scratch).iter().any(is_left));
        let images = names(&scene.folder);
        assert_eq!(images.len(), usize::from(end["type"] == "clone"), "{images:?}");
        if end["type"] == "restore" {
            assert!(scene.restored() == scene.expected, "{end}");
        }
        for name in images {
            assert_whole(&scene.scratch, &scene.folder.join(&name));
            fs::remove_file(scene.folder.join(name)).unwrap();
        }
    }
    assert!(in_time >= 2, "only {in_time} of {ROUNDS} were killed while they worked");
    scene.client.say("type: kill-request");
    core.wait_at_most(Duration::from_secs(20)).expect_ok();
}

#[test]
fn a_disk_that_fills_up_is_named_to_the_client_and_nothing_is_left() {
    let tools = ["mkfs.ext4", "partclone.ext4", "fallocate"];
    let Some(scratch) = require_client(&Needs::root().filesystems(&["ext4"]).tools(&tools)) else {
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
    let filler = folder.join("filler");
    let mut client = Client::start(&scratch, apart_core(&scratch));
    let mut full = 0;
    for _ in 0..ROUNDS {
        run(tool("fallocate").arg("-l").arg(rng.u64(MIB..20 * MIB).to_string()).arg(&filler));
        let (from, to) = (source.path().display(), folder.display());
        client.say(format!("type: clone\nsource: {from}\ndestination: {to}\nname: n"));
        let end = client.job().pop().unwrap();
        if end["type"] == "clone" {
            let image = PathBuf::from(end["destination"].as_str().unwrap());
            assert_whole(&scratch, &image);
            fs::remove_file(image).unwrap();
        } else {
            let error = end["error"].as_str().unwrap().to_lowercase();
            assert!(error.starts_with(&format!("no space left in {to}")), "{end}");
            full += 1;
        }
        assert_eq!(names(&folder), ["filler"]);
        fs::remove_file(&filler).unwrap();
    }
    assert!((2..ROUNDS).contains(&full), "{full} of {ROUNDS} disks were full");
    client.end().1.expect_ok();
}
