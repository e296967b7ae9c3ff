//! The program as one of the ends that a client calls: the streams of diskrsync byte for byte, on files, containers and
//! devices, and what is said on standard error.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;
use std::time::Duration;

use testkit::host::{LoopDevice, LoopOptions, Needs, Program, require};

use crate::diskrsync_peer::{
    self as upstream, cases, image_of, is_container, join, make_container, play,
};
use crate::peer::Peer;
use crate::support::{KIB, MIB, assert_same, make_noise, names, overwrite, until};

fn peer() -> Peer {
    Peer::new("diskrsync")
}

/// `diskrsync --source OPTIONS FILE`, or `--target`.
fn end(peer: &Peer, role: &str, options: &[&str], file: &str) -> Program {
    peer.call(&[role]).args(options).arg(file)
}

/// Small enough to be made as a container, and quickly.
const SMALL: u64 = 16 * MIB;

#[test]
fn a_source_says_byte_for_byte_what_diskrsync_says() {
    let peer = peer();
    for case in cases(u64::MAX) {
        case.source.make(&peer.at("image"));
        let played = play(end(&peer, "--source", &[], "image"), &fs::read(&case.t2s).unwrap());
        assert!(played.expect_silent().stdout == fs::read(&case.s2t).unwrap(), "{}", case.name);
    }
}

#[test]
fn a_target_says_byte_for_byte_what_diskrsync_says_and_becomes_the_source() {
    let peer = peer();
    for case in cases(u64::MAX) {
        case.target.make(&peer.at("image"));
        let target = end(&peer, "--target", &["--no-compress"], "image");
        let played = play(target, &fs::read(&case.s2t).unwrap());
        assert!(played.expect_silent().stdout == fs::read(&case.t2s).unwrap(), "{}", case.name);
        case.source.make(&peer.at("expected"));
        assert_same(&peer.at("image"), &peer.at("expected"));
    }
    assert_eq!(names(peer.scratch.path()), ["bin", "expected", "image"]);
}

#[test]
fn containers_at_both_ends_speak_the_same_streams() {
    let peer = peer();
    for case in cases(SMALL) {
        let (s2t, t2s) = (fs::read(&case.s2t).unwrap(), fs::read(&case.t2s).unwrap());
        make_container(&peer.at("source"), &case.source.bytes());
        let played = play(end(&peer, "--source", &[], "source"), &t2s);
        assert!(played.expect_silent().stdout == s2t, "{}", case.name);
        make_container(&peer.at("target"), &case.target.bytes());
        let played = play(end(&peer, "--target", &[], "target"), &s2t);
        assert!(played.expect_silent().stdout == t2s, "{}", case.name);
        assert!(image_of(&peer.at("target")) == case.source.bytes(), "{}", case.name);
    }
}

#[test]
fn a_target_that_is_new_or_empty_becomes_a_container_and_one_that_is_there_stays_what_it_is() {
    let peer = peer();
    let cases = cases(SMALL);
    let case = |name: &str| cases.iter().find(|case| case.name == name).unwrap();
    let (new, changed) = (case("empty-target"), case("one-leaf"));
    let sync = |options: &[&str], case: &upstream::Case| {
        let input = fs::read(&case.s2t).unwrap();
        play(end(&peer, "--target", options, "target"), &input).expect_silent();
    };
    let target = peer.at("target");
    // Missing, then empty.
    for is_there in [false, true] {
        let _ = fs::remove_file(&target);
        if is_there {
            fs::write(&target, "").unwrap();
        }
        sync(&[], new);
        assert!(is_container(&target) && image_of(&target) == new.source.bytes());
    }
    for options in [&["--no-compress"][..], &["--no-compress=false", "--no-compress=true"]] {
        fs::remove_file(&target).unwrap();
        sync(options, new);
        assert!(fs::read(&target).unwrap() == new.source.bytes());
    }
    changed.target.make(&target);
    sync(&[], changed);
    assert!(fs::read(&target).unwrap() == changed.source.bytes());
    assert_eq!(names(peer.scratch.path()), ["bin", "target"]);
}

#[test]
fn a_container_is_told_by_its_first_bytes_whatever_it_is_called() {
    let peer = peer();
    let image = b"an image".repeat(1000);
    make_container(&peer.at("disk.img"), &image);
    symlink(peer.at("disk.img"), peer.at("link")).unwrap();
    for name in ["disk.img", "link"] {
        let played = play(end(&peer, "--source", &[], name), &upstream::header(0));
        let stream = played.expect_silent().stdout;
        assert_eq!(stream[..16], upstream::header(8000));
        assert_eq!(stream[17..], image);
    }
    // A raw file with the name of a container is raw.
    fs::write(peer.at("raw.spgz"), &image).unwrap();
    let played = play(end(&peer, "--source", &[], "raw.spgz"), &upstream::header(0));
    assert_eq!(played.expect_silent().stdout[17..], image);
    let played = play(end(&peer, "--target", &[], "raw.spgz"), &upstream::header(0));
    played.expect_silent();
    assert_eq!(fs::read(peer.at("raw.spgz")).unwrap(), b"");
}

#[test]
fn a_container_is_not_overwritten_as_raw() {
    let peer = peer();
    make_container(&peer.at("image"), b"an image");
    let before = fs::read(peer.at("image")).unwrap();
    let target = end(&peer, "--target", &["--no-compress"], "image");
    let played = play(target, &upstream::header(0));
    assert_eq!(played.code, Some(1));
    assert!(played.stderr.contains("spgz"), "{}", played.stderr);
    assert_eq!(fs::read(peer.at("image")).unwrap(), before);
}

#[test]
fn a_damaged_container_is_mended_by_a_sync_and_no_good_as_a_source() {
    let peer = peer();
    let image = b"0123456789".repeat(40_000);
    make_container(&peer.at("image"), &image);
    let second = 4096 + (128 << 10);
    overwrite(&peer.at("image"), second, &[9]);
    let played = play(end(&peer, "--source", &[], "image"), &upstream::header(0));
    assert_eq!(played.code, Some(1), "{}", played.stderr);
    let target = end(&peer, "--target", &[], "image");
    let ((), played) = join(target, |from, to| upstream::source(&image, from, to));
    assert_eq!(played.code, Some(0), "{}", played.stderr);
    assert!(image_of(&peer.at("image")) == image);
}

const PROGRESS: [&str; 2] = ["--calc-progress", "--sync-progress"];

#[test]
fn progress_is_told_line_for_line_as_diskrsync_tells_it() {
    let peer = peer();
    let image = b"seven b".repeat(100_000);
    let played = |role: &str, options: &[&str], size: usize| {
        fs::write(peer.at("image"), &image[..size]).unwrap();
        let end = end(&peer, role, options, "image");
        let other = image.clone();
        let played = match role {
            "--source" => join(end, |from, to| upstream::target(other, from, to)).1,
            _ => join(end, |from, to| upstream::source(&other, from, to)).1,
        };
        assert_eq!(played.code, Some(0), "{}", played.stderr);
        played.stderr
    };
    let calc = "[Start calc]\nSize: 700000\nUpdate: 700000\n";
    let sync = "[Start sync]\nSize: 700000\nUpdate: 700000\n";
    for role in ["--source", "--target"] {
        assert_eq!(played(role, &PROGRESS, 700_000), [calc, sync].concat(), "{role}");
        assert_eq!(played(role, &["--calc-progress"], 700_000), calc, "{role}");
    }
    // Nothing in common: no digests.
    assert_eq!(played("--target", &PROGRESS, 0), sync);
    assert_eq!(played("--target", &["--calc-progress"], 0), "");
    // The size of a sync is the source's, also where that is smaller.
    let lines = played("--source", &PROGRESS, 5);
    assert_eq!(lines, "[Start calc]\nSize: 5\nUpdate: 5\n[Start sync]\nSize: 5\nUpdate: 5\n");
    assert_eq!(played("--source", &PROGRESS, 0), "[Start sync]\nSize: 0\n");
}

#[test]
fn verbose_says_the_shape_of_the_tree() {
    let peer = peer();
    for (size, shape) in [
        (1000, "Levels: 1, order: 1, target block size: 131072, block size: 1000"),
        (300_007, "Levels: 2, order: 2, target block size: 131072, block size: 150003"),
        (10_000_019, "Levels: 8, order: 2, target block size: 131072, block size: 78125"),
    ] {
        make_noise(&peer.at("image"), size, size);
        let image = fs::read(peer.at("image")).unwrap();
        let source = end(&peer, "--source", &["--verbose"], "image");
        let (_, played) = join(source, |from, to| upstream::target(image, from, to));
        let lines: Vec<&str> = played.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(undated(lines[0]), shape);
        assert_eq!(played.code, Some(0));
    }
}

/// A line without the date in front of it, which it must have.
#[track_caller]
fn undated(line: &str) -> &str {
    let (date, text) = line.split_at_checked(20).unwrap_or_else(|| panic!("no date: {line}"));
    let shape: String = date.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000/00/00 00:00:00 ", "{line}");
    text
}

/// Two images that have something in common, as bytes.
fn pair(random: &mut fastrand::Rng) -> (Vec<u8>, Vec<u8>) {
    let edge = [131_071, 131_072, 262_142, 524_288][random.usize(0..4)];
    let len = edge * random.usize(0..5) + random.usize(0..5);
    let mut source = vec![0; len];
    for _ in 0..random.usize(0..4) {
        let begin = random.usize(0..=len);
        let end = random.usize(begin..=len);
        random.fill(&mut source[begin..end]);
    }
    let mut target = source.clone();
    for _ in 0..random.usize(0..3) {
        if let Some(at) = len.checked_sub(1).map(|last| random.usize(0..=last)) {
            target[at] ^= 1;
        }
    }
    match random.usize(0..4) {
        0 => target.truncate(random.usize(0..=len)),
        1 => target.extend(std::iter::repeat_with(|| random.u8(..)).take(300_000)),
        2 => target.resize(len + random.usize(0..200_000), 0),
        _ => {}
    }
    (source, target)
}

#[test]
fn a_peer_that_waits_for_each_reply_gets_on_with_both_ends() {
    let peer = peer();
    let mut random = fastrand::Rng::with_seed(0xD15C);
    for round in 0..30 {
        let (source, target) = pair(&mut random);
        let in_container = round % 3 == 0;
        let make = |name: &str, image: &[u8]| match in_container {
            true => make_container(&peer.at(name), image),
            false => fs::write(peer.at(name), image).unwrap(),
        };
        make("source", &source);
        let ours = end(&peer, "--source", &[], "source");
        let (got, played) = join(ours, |from, to| upstream::target(target.clone(), from, to));
        played.expect_silent();
        assert!(got == source, "round {round}");
        make("target", &target);
        let options: &[&str] = if in_container { &[] } else { &["--no-compress"] };
        let ours = end(&peer, "--target", options, "target");
        let ((), played) = join(ours, |from, to| upstream::source(&source, from, to));
        played.expect_silent();
        let got = match in_container {
            true => image_of(&peer.at("target")),
            false => fs::read(peer.at("target")).unwrap(),
        };
        assert!(got == source, "round {round}");
    }
}

#[test]
fn what_cannot_be_done_ends_with_one_and_one_dated_line_and_leaves_nothing() {
    let peer = peer();
    fs::create_dir(peer.at("folder")).unwrap();
    let before = names(peer.scratch.path());
    for (role, file, part) in [
        ("--source", "none", "none"),
        ("--source", "folder", "folder"),
        ("--target", "folder", "folder"),
        ("--target", "none/image", "none"),
    ] {
        let played = play(end(&peer, role, &[], file), &upstream::header(0));
        assert_eq!(played.code, Some(1), "{role} {file}: {}", played.stderr);
        assert!(undated(played.stderr.trim_end()).contains(part), "{}", played.stderr);
        assert_eq!(played.stderr.lines().count(), 1, "{}", played.stderr);
        assert_eq!(names(peer.scratch.path()), before);
    }
    let nothing = play(end(&peer, "--target", &[], "image"), b"");
    assert_eq!(nothing.code, Some(1));
    assert_eq!(names(peer.scratch.path()), before, "an empty target is not left behind");
}

#[test]
fn a_command_line_that_makes_no_sense_ends_with_two_and_the_usage() {
    let peer = peer();
    for arguments in [
        &["--target"][..],
        &["--source", ""],
        &["--target", "two", "words"],
        &["--target", "--unknown", "x"],
        &["-target", "x"],
        &["--source=maybe", "x"],
    ] {
        let played = play(peer.call(arguments), &upstream::header(0));
        assert_eq!(played.code, Some(2), "{arguments:?}");
        assert!(played.stderr.contains("Usage: "), "{}", played.stderr);
        assert_eq!(played.stdout, b"", "{arguments:?}");
    }
    assert_eq!(names(peer.scratch.path()), ["bin"]);
}

#[test]
fn a_signal_ends_an_end_that_waits_and_leaves_the_target_as_it_was() {
    let peer = peer();
    make_noise(&peer.at("image"), 1, 300 * KIB);
    let before = fs::read(peer.at("image")).unwrap();
    for role in ["--source", "--target"] {
        for name in ["INT", "TERM", "HUP"] {
            let mut waiting = end(&peer, role, &[], "image");
            waiting.command().stdin(Stdio::piped());
            let running = waiting.spawn();
            until("the end says who it is", || running.stdout().starts_with("BSNC0002"));
            running.signal(name);
            let outcome = running.wait_at_most(Duration::from_secs(20)).expect_exit(1);
            assert!(undated(outcome.stderr.trim_end()).contains("interrupted"), "{outcome}");
        }
    }
    assert!(fs::read(peer.at("image")).unwrap() == before);
    assert_eq!(names(peer.scratch.path()), ["bin", "image"]);
}

#[test]
fn a_device_keeps_its_size_and_one_that_is_too_small_is_not_touched() {
    let Some(scratch) = require(&Needs::root().tools(&["losetup"])) else { return };
    let peer = peer();
    let disk = scratch.join("disk");
    make_noise(&disk, 1, MIB);
    let before = fs::read(&disk).unwrap();
    let device = LoopDevice::attach(&disk, &LoopOptions::default());
    let target = |source: &[u8]| {
        let target = peer.call(&["--target"]).arg(device.path());
        join(target, |from, to| {
            // A target that refuses leaves in the middle.
            let spoken = upstream::source(source, from, to);
            Ok(spoken.map_err(|cause| cause.kind()))
        })
    };
    let mut large = before.clone();
    large.push(1);
    let (_, played) = target(&large);
    assert_eq!(played.code, Some(1), "{}", played.stderr);
    assert!(fs::read(device.path()).unwrap() == before, "nothing is written");
    let mut same = before.clone();
    same[5000..600_000].fill(0);
    let (spoken, played) = target(&same);
    assert_eq!((spoken, played.code), (Ok(()), Some(0)), "{}", played.stderr);
    assert!(fs::read(device.path()).unwrap() == same);
    let small = &before[..300 * KIB as usize + 100];
    let (spoken, played) = target(small);
    assert_eq!((spoken, played.code), (Ok(()), Some(0)), "{}", played.stderr);
    let after = fs::read(device.path()).unwrap();
    assert!(after[..small.len()] == *small && after[small.len()..] == same[small.len()..]);
}
