//! Many requests of every sort in any order, with stand-ins for partclone that end well, fail, or hang: every job ends once,
//! and nothing of it stays behind in the daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use fastrand::Rng;
use serde_json::Value;
use testkit::host::{Needs, TempDir};

use crate::daemon_client::{Client, HEAD, TAIL, is_end, require_client, stand_in, with_stand_ins};
use crate::partition_kill::descendants;
use crate::support::{make_noise, names, until};

const REQUESTS: usize = 200;

#[test]
fn after_any_requests_every_job_has_ended_once_and_nothing_is_left() {
    let Some(scratch) = require_client(&Needs::none()) else { return };
    let folder = scratch.join("images");
    fs::create_dir(&folder).unwrap();
    for variant in ["ext2", "dd", "f2fs"] {
        let body = format!(
            r#"{HEAD}
case " $* " in *" -o "*) cat > /dev/null ;; *) head -c 50000 /dev/urandom ;; esac
report 00:00:07 36.64 1.49GB/min
case $(($$ % 4)) in 0) exit 1 ;; 1) sleep 0.2 ;; 2) sleep 1000 ;; esac
report 00:00:00 100.00 Rate:1.35GB/min
{TAIL}"#
        );
        stand_in(&scratch, &format!("pcl.{variant}"), &body);
    }
    let mut client = Client::start(&scratch, with_stand_ins(&scratch));
    let before = Held::by(client.core().pid(), &scratch);
    let mut jobs = Seen::default();
    let mut random = Rng::with_seed(19);
    for number in 0..REQUESTS {
        let request = any_request(&mut random, &scratch, number, &jobs);
        client.say(request);
        while let Some(message) = client.next_within(Duration::from_millis(15)) {
            jobs.hear(&message);
        }
    }
    // Those that hang do so until they are told to end.
    while !jobs.running.is_empty() {
        for (id, kind) in &jobs.running {
            client.say(format!("type: cancel-{kind}\nid: {id}"));
        }
        while let Some(message) = client.next_within(Duration::from_millis(300)) {
            jobs.hear(&message);
        }
    }
    assert!(jobs.ended.len() > REQUESTS / 4, "{}", jobs.ended.len());
    client.status();
    let pid = client.core().pid();
    until("all is given back", || {
        let now = Held::by(pid, &scratch);
        now.processes <= before.processes
            && now.threads <= before.threads
            && now.descriptors <= before.descriptors
    });
    assert!(names(&folder).iter().all(|name| !name.ends_with(".inprogress")));
    client.end().1.expect_ok();
}

/// A request of any sort, good or not.
fn any_request(random: &mut Rng, scratch: &TempDir, number: usize, jobs: &Seen) -> Vec<u8> {
    let folder = scratch.join("images");
    let part = format!("/dev/sdy{}", random.u8(1..8));
    let image = folder.join(format!("r{}-2026-03-04T0506.apt.ext2.uncompressed", random.u8(..3)));
    match random.u8(..100) {
        0..30 => {
            let compression = random.choice(["gz", "zst", "lz4", "uncompressed", "rar"]).unwrap();
            let places = [folder.clone(), folder, scratch.join("none"), "relative".into()];
            let place = random.choice(&places).unwrap().display();
            format!(
                "type: clone\nsource: {part}\ndestination: {place}\nname: n{number}\ncompression: {compression}"
            )
        }
        30..55 => {
            if !image.exists() {
                make_noise(&image, 3, 300_000);
            }
            format!("type: restore\nsource: {}\ndestination: {part}", image.display())
        }
        55..72 if !jobs.all.is_empty() => {
            let id = random.choice(&jobs.all).unwrap();
            format!("type: cancel-{}\nid: {id}", random.choice(["clone", "restore"]).unwrap())
        }
        72..82 => format!("type: delete-clone\nfile: {}", image.display()),
        82..90 => "type: status-request".to_string(),
        _ => return (0..random.usize(..100)).map(|_| random.u8(..)).collect(),
    }
    .into_bytes()
}

/// The jobs that were told of.
#[derive(Default)]
struct Seen {
    all: Vec<String>,
    running: BTreeMap<String, String>,
    ended: BTreeSet<String>,
}

impl Seen {
    #[track_caller]
    fn hear(&mut self, message: &Value) {
        let kind = message["type"].as_str().unwrap().trim_end_matches("-failed").to_string();
        if kind != "clone" && kind != "restore" {
            return;
        }
        let id = message["id"].as_str().unwrap().to_string();
        assert!(!self.ended.contains(&id), "after its end: {message}");
        if is_end(message) {
            self.running.remove(&id);
            self.ended.insert(id);
        } else if self.running.insert(id.clone(), kind).is_none() {
            self.all.push(id);
        }
    }
}

/// What the daemon has.
struct Held {
    descriptors: usize,
    threads: usize,
    /// With itself.
    processes: usize,
}

impl Held {
    fn by(pid: u32, scratch: &TempDir) -> Self {
        let process = Path::new("/proc").join(pid.to_string());
        let count = |folder: &str| fs::read_dir(process.join(folder)).unwrap().count();
        let processes = descendants(scratch).len();
        Held { descriptors: count("fd"), threads: count("task"), processes }
    }
}
