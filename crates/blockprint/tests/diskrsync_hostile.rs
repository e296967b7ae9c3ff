//! A peer that lies, breaks off or talks for ever: the program says what it did, ends with 1, and believes nothing.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use testkit::host::{Program, run, tool};

use crate::diskrsync_peer::{Played, header, make_container, play};
use crate::peer::Peer;
use crate::support::{make_noise, names};

fn peer() -> Peer {
    let peer = Peer::new("diskrsync");
    make_noise(&peer.at("image"), 1, 1000);
    peer
}

fn target(peer: &Peer) -> Program {
    peer.call(&["--target", "--no-compress", "image"])
}

fn source(peer: &Peer) -> Program {
    peer.call(&["--source", "image"])
}

/// Panics unless it failed, and said why in one line with each of `parts`.
#[track_caller]
fn assert_fails(played: &Played, what: &str, parts: &[&str]) {
    let said = &played.stderr;
    assert_eq!(played.code, Some(1), "{what}: {said}");
    assert_eq!(said.lines().count(), 1, "{what}: {said}");
    for part in parts {
        assert!(said.contains(part), "{what}: it does not say {part:?}: {said}");
    }
}

const EQUAL: u8 = 2;
const DIFFERENT: u8 = 3;
const HOLE: u8 = 0;
const BLOCK: u8 = 1;

/// What a source sends whose image is `size` long and begins with the target's 1000 bytes.
fn grown(size: i64, tail: &[&[u8]]) -> Vec<u8> {
    [&header(size)[..], &[EQUAL], &tail.concat()].concat()
}

fn hole(len: i64) -> Vec<u8> {
    [&[HOLE][..], &len.to_le_bytes()].concat()
}

#[test]
fn a_header_that_is_none_leaves_the_target_as_it_is() {
    let peer = peer();
    let before = fs::read(peer.at("image")).unwrap();
    for (what, input, parts) in [
        ("the older protocol", b"BSNC0001\xe8\x03\0\0\0\0\0\0\x02".to_vec(), &["BSNC0001"][..]),
        ("6 bytes", b"BSNC00".to_vec(), &[]),
        ("nothing", Vec::new(), &[]),
        ("a greeting", b"Welcome to the machine\n".to_vec(), &[]),
        ("a size of -1", header(-1), &["-1"]),
        ("the least size", header(i64::MIN), &[]),
    ] {
        assert_fails(&play(target(&peer), &input), what, parts);
        assert_eq!(fs::read(peer.at("image")).unwrap(), before, "{what}");
        assert_fails(&play(source(&peer), &input), what, parts);
    }
    make_container(&peer.at("image"), &before);
    let container = fs::read(peer.at("image")).unwrap();
    let played = play(peer.call(&["--target", "image"]), &header(-1));
    assert_fails(&played, "a size of -1 for a container", &["-1"]);
    assert_eq!(fs::read(peer.at("image")).unwrap(), container);
    assert_eq!(names(peer.scratch.path()), ["bin", "image"]);
}

#[test]
fn a_reply_that_no_node_may_get_is_refused() {
    let peer = peer();
    let before = fs::read(peer.at("image")).unwrap();
    for reply in [1, 4, 255] {
        let input = [header(1000), vec![reply]].concat();
        let played = play(target(&peer), &input);
        assert_fails(&played, "a reply", &[&reply.to_string()]);
        assert_eq!(fs::read(peer.at("image")).unwrap(), before);
    }
    // An inner node cannot be a hole.
    make_noise(&peer.at("image"), 2, 300_000);
    let before = fs::read(peer.at("image")).unwrap();
    let played = play(target(&peer), &[header(300_000), vec![HOLE]].concat());
    assert_fails(&played, "a hole", &[]);
    assert!(fs::read(peer.at("image")).unwrap() == before);
}

#[test]
fn an_end_that_comes_early_is_no_success() {
    let peer = peer();
    let before = fs::read(peer.at("image")).unwrap();
    let different = [DIFFERENT];
    for (what, input) in [
        ("no reply", header(1000)),
        ("no data", [&header(1000)[..], &different].concat()),
        ("half of the data", [&header(1000)[..], &different, &[7; 500]].concat()),
        ("no tail", grown(1500, &[])),
        ("a short tail", grown(1500, &[&[BLOCK], &[7; 100]])),
        ("half of a length", grown(1500, &[&[HOLE, 1, 0, 0]])),
        ("a small hole", grown(1500, &[&hole(7)])),
        ("the largest size and no tail", grown(i64::MAX, &[])),
    ] {
        fs::write(peer.at("image"), &before).unwrap();
        assert_fails(&play(target(&peer), &input), what, &[]);
    }
    for (what, input) in [
        ("63 bytes of a digest", [&header(1000)[..], &[0; 63]].concat()),
        ("no digest", header(1000)),
    ] {
        fs::write(peer.at("image"), &before).unwrap();
        assert_fails(&play(source(&peer), &input), what, &[]);
    }
}

#[test]
fn a_tail_cannot_go_back_nor_past_the_end() {
    let peer = peer();
    let before = fs::read(peer.at("image")).unwrap();
    for (what, tail) in [
        ("too much data", vec![&[BLOCK][..], &[7; 5000]]),
        ("a hole backwards", vec![&hole(-900)[..], &[BLOCK], &[7; 50]]),
        ("a hole past the end", vec![&hole(1 << 40)[..]]),
        ("the largest hole", vec![&hole(i64::MAX)[..]]),
        ("a record 2", vec![&[2][..]]),
        ("a record 3", vec![&[3][..], &[7; 500]]),
        ("data behind a hole past the end", vec![&hole(400)[..], &[BLOCK], &[7; 500]]),
    ] {
        fs::write(peer.at("image"), &before).unwrap();
        assert_fails(&play(target(&peer), &grown(1500, &tail)), what, &[]);
        let after = fs::read(peer.at("image")).unwrap();
        assert!(after.len() <= 1500, "{what}: {} bytes", after.len());
        assert_eq!(after[..1000], before, "{what}");
    }
}

#[test]
fn what_comes_behind_the_end_is_nobodys_business() {
    let peer = peer();
    let before = fs::read(peer.at("image")).unwrap();
    let played = play(target(&peer), &[&grown(1000, &[])[..], &[9; 100]].concat());
    assert_eq!(played.code, Some(0), "{}", played.stderr);
    assert_eq!(fs::read(peer.at("image")).unwrap(), before);
    let good = grown(1500, &[&[BLOCK], &[7; 500]]);
    assert_eq!(play(target(&peer), &good).expect_silent().code, Some(0));
    assert_eq!(fs::read(peer.at("image")).unwrap(), [&before[..], &[7; 500]].concat());
}

#[test]
fn a_target_may_say_that_it_is_as_large_as_can_be() {
    let peer = peer();
    let image = fs::read(peer.at("image")).unwrap();
    let played = play(source(&peer), &[&header(i64::MAX)[..], &[0; 64]].concat());
    let expected = [&header(1000)[..], &[DIFFERENT], &image].concat();
    assert_eq!(played.expect_silent().stdout, expected);
}

/// What a process may hold, whatever the other end says.
const MEMORY_MAX_KIB: u64 = 64 << 10;

/// Plays an end to which `talk` speaks until it is no longer heard; gives how it ended, and the most memory that it held.
#[track_caller]
fn endure(mut end: Program, peer: &Peer, talk: impl Fn(&mut dyn Write)) -> (Played, u64) {
    let stderr = peer.at("stderr");
    let command = end.command();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&stderr).unwrap());
    let mut child = command.spawn().unwrap();
    let (mut to, mut from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let status_file = format!("/proc/{}/status", child.id());
    let is_over = AtomicBool::new(false);
    let (stdout, peak_kib) = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut bytes = Vec::new();
            let _ = from.read_to_end(&mut bytes);
            bytes
        });
        let watcher = scope.spawn(|| {
            let mut peak = 0;
            while !is_over.load(Ordering::Relaxed) {
                let text = fs::read_to_string(&status_file).unwrap_or_default();
                let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
                let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
                peak = peak.max(number.unwrap_or(0));
                thread::sleep(Duration::from_millis(1));
            }
            peak
        });
        talk(&mut to);
        drop(to);
        let stdout = reader.join().unwrap();
        is_over.store(true, Ordering::Relaxed);
        (stdout, watcher.join().unwrap())
    });
    let status = child.wait().unwrap();
    let said = fs::read_to_string(&stderr).unwrap();
    (Played { stdout, stderr: said, code: status.code() }, peak_kib)
}

#[test]
fn memory_stays_small_whatever_is_said() {
    let peer = peer();
    run(tool("truncate").args(["--size=8G"]).arg(peer.at("image")));
    let endless = |to: &mut dyn Write| {
        let noise = [7; 1 << 16];
        for _ in 0..16_384 {
            if to.write_all(&noise).is_err() {
                return;
            }
        }
    };
    let opened = |first: Vec<u8>| {
        move |to: &mut dyn Write| {
            let _ = to.write_all(&first);
            endless(to);
        }
    };
    let mut seen_kib = 0;
    for (what, end, first) in [
        ("digests without end", source(&peer), header(i64::MAX)),
        ("noise for a source", source(&peer), vec![]),
        ("noise for a target", target(&peer), vec![]),
        ("replies without end", target(&peer), header(i64::MAX)),
        ("a source of 0 that goes on", target(&peer), header(0)),
    ] {
        let (played, peak_kib) = endure(end, &peer, opened(first));
        assert!(matches!(played.code, Some(0 | 1)), "{what}: {}", played.stderr);
        assert!(peak_kib < MEMORY_MAX_KIB, "{what}: {peak_kib} KiB");
        seen_kib = seen_kib.max(peak_kib);
    }
    assert!(seen_kib > 1000, "no process was looked at");
}
