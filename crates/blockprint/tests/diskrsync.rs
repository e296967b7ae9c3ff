//! The program under the name `diskrsync` as a client: what it calls on other machines, through a stand-in for ssh, and
//! what it says.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use testkit::host::{Outcome, Program};

use crate::diskrsync_peer::{cases, image_of, is_container};
use crate::peer::Peer;
use crate::support::{KIB, MIB, Part, assert_same, make, make_mixed, make_noise, names};

/// A machine on which each host is itself: an `ssh` that notes its arguments and hands the rest to the shell.
struct Net {
    peer: Peer,
}

/// As ssh does: everything behind the host is joined with spaces, and the shell there reads it.
const SSH: &str = r#"#!/bin/sh
printf '%s\0' "$@" > "$CALLS/$$"
while [ "$1" != -- ]; do shift; done
shift 2
exec sh -c "$*"
"#;

impl Net {
    fn new() -> Self {
        let peer = Peer::new("diskrsync");
        fs::create_dir(peer.at("calls")).unwrap();
        fs::create_dir(peer.at("net")).unwrap();
        executable(&peer.at("net/ssh"), SSH);
        Net { peer }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.peer.at(name)
    }

    /// `diskrsync ARGUMENTS`, which finds the program of that name there, too.
    fn call(&self, arguments: &[&str]) -> Program {
        let folders = [self.at("net"), self.at("bin")];
        let folders: Vec<String> =
            folders.iter().map(|folder| folder.display().to_string()).collect();
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", folders.join(":"));
        self.peer.call(arguments).env("PATH", path).env("CALLS", self.at("calls"))
    }

    /// The arguments of each ssh that was started since this was asked last, the command line of a target first.
    #[track_caller]
    fn calls(&self) -> Vec<Vec<String>> {
        let mut calls = Vec::new();
        for name in names(&self.at("calls")) {
            let path = self.at("calls").join(name);
            let text = fs::read_to_string(&path).unwrap();
            calls.push(text.split_terminator('\0').map(str::to_string).collect());
            fs::remove_file(path).unwrap();
        }
        calls.sort_by_key(|call: &Vec<String>| !call.concat().contains("--target"));
        calls
    }

    /// The command line that the one ssh handed to the shell there.
    #[track_caller]
    fn line(&self) -> String {
        let calls = self.calls();
        assert_eq!(calls.len(), 1, "{calls:?}");
        line_of(&calls[0])
    }

    /// Panics unless the client ended with 1 and said why, with each of `parts`; nobody was called.
    #[track_caller]
    fn refuses(&self, arguments: &[&str], parts: &[&str]) -> Outcome {
        let outcome = self.call(arguments).run().expect_exit(1);
        assert_eq!(self.calls(), Vec::<Vec<String>>::new());
        assert_eq!(outcome.stderr.lines().count(), 1, "{outcome}");
        parts.iter().fold(outcome, |outcome, part| outcome.expect_error(part))
    }
}

fn executable(path: &Path, script: &str) {
    fs::write(path, script).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

/// What stands behind the host, as the shell there gets it.
fn line_of(call: &[String]) -> String {
    let host = call.iter().position(|word| word == "--").expect("a -- before the host") + 1;
    call[host + 1..].join(" ")
}

#[test]
fn it_pushes_and_pulls_and_copies_between_two_other_machines_and_here() {
    let net = Net::new();
    make_mixed(&net.at("source"), 1, 1);
    for (number, (source, target, calls)) in [
        ("source", "h:target", 1),
        ("h:source", "target", 1),
        ("h:source", "user@h2:target", 2),
        ("source", "target", 0),
    ]
    .into_iter()
    .enumerate()
    {
        let is_there = |name: &str| make_noise(&net.at(name), number as u64, 5 * MIB);
        let _ = fs::remove_file(net.at("target"));
        // A new one, which becomes a container; the same again; one that shrinks; one that grows.
        for round in 0..4 {
            match round {
                2 => is_there("target"),
                3 => make_noise(&net.at("target"), 9, 100 * KIB),
                _ => {}
            }
            let outcome = net.call(&[source, target]).run().expect_ok();
            assert_eq!((&*outcome.stdout, &*outcome.stderr), ("", ""), "{outcome}");
            assert_eq!(net.calls().len(), calls);
            if round < 2 {
                assert!(image_of(&net.at("target")) == fs::read(net.at("source")).unwrap());
            } else {
                assert_same(&net.at("source"), &net.at("target"));
            }
        }
    }
    assert_eq!(names(net.peer.scratch.path()), ["bin", "calls", "net", "source", "target"]);
}

#[test]
fn the_other_end_is_started_with_the_words_of_diskrsync() {
    let net = Net::new();
    make_noise(&net.at("a"), 1, 200 * KIB);
    let own = net.at("bin/diskrsync").display().to_string();
    for (arguments, expected) in [
        (&["a", "h:b"][..], &["--target b"][..]),
        (&["--no-compress", "a", "h:b"], &["--target  --no-compress b"]),
        (&["--verbose", "a", "h:b"], &["--target --calc-progress b"]),
        (
            &["--verbose", "--no-compress", "a", "h:b"],
            &["--target  --no-compress --calc-progress b"],
        ),
        (&["h:a", "b"], &["--source a"]),
        (&["--no-compress", "h:a", "b"], &["--source a"]),
        (&["--verbose", "h:a", "b"], &["--source --calc-progress a"]),
        (&["h:a", "h:b"], &["--target b", "--source a"]),
        (
            &["--verbose", "h:a", "h:b"],
            &["--target --calc-progress --sync-progress b", "--source --calc-progress a"],
        ),
    ] {
        let _ = fs::remove_file(net.at("b"));
        net.call(arguments).run().expect_ok();
        let lines: Vec<String> = net.calls().iter().map(|call| line_of(call)).collect();
        let expected: Vec<String> = expected.iter().map(|line| format!("{own} {line}")).collect();
        assert_eq!(lines, expected, "{arguments:?}");
    }
    assert!(!is_container(&net.at("a")));
}

#[test]
fn flags_of_ssh_stand_before_the_host_and_other_words_may_start_the_other_end() {
    let net = Net::new();
    make_noise(&net.at("a"), 1, KIB);
    let flags = ["--ssh-flags", "-p 22  -4", "--cmd-path", "env A=1 diskrsync", "a", "me@h:b"];
    net.call(&flags).run().expect_ok();
    let calls = net.calls();
    assert_eq!(calls[0][..6], ["-p", "22", "", "-4", "--", "me@h"]);
    assert_eq!(line_of(&calls[0]), "env A=1 diskrsync --target b");
    assert!(is_container(&net.at("b")));
}

#[test]
fn a_path_arrives_as_one_word_whatever_is_in_it() {
    let net = Net::new();
    make_noise(&net.at("a"), 1, 3 * KIB);
    for name in [
        "two words",
        "$(touch ran)",
        "`touch ran`",
        "it's \"quoted\"",
        "; touch ran",
        "*",
        "-oProxyCommand=touch ran",
        "--source",
        "line\nbreak",
        "a:b",
    ] {
        let there = format!("h:{name}");
        net.call(&["--no-compress", "a", &there]).run().expect_ok();
        assert_same(&net.at("a"), &net.at(name));
        net.call(&["--no-compress", &there, "back"]).run().expect_ok();
        assert_same(&net.at("a"), &net.at("back"));
        fs::remove_file(net.at(name)).unwrap();
        fs::remove_file(net.at("back")).unwrap();
    }
    assert_eq!(names(net.peer.scratch.path()), ["a", "bin", "calls", "net"]);
}

#[test]
fn a_host_cannot_become_an_option() {
    let net = Net::new();
    make_noise(&net.at("a"), 1, KIB);
    net.refuses(&["--", "a", "-oProxyCommand=touch ran:b"], &["-oProxyCommand=touch ran"]);
    net.refuses(&["--", "-oProxyCommand=touch ran:a", "b"], &["-oProxyCommand=touch ran"]);
    assert_eq!(names(net.peer.scratch.path()), ["a", "bin", "calls", "net"]);
}

#[test]
fn a_target_that_ends_with_a_slash_is_a_folder() {
    let net = Net::new();
    fs::create_dir(net.at("d")).unwrap();
    make_noise(&net.at("a"), 1, KIB);
    net.call(&["--no-compress", "h:a", "d/"]).run().expect_ok();
    assert_same(&net.at("a"), &net.at("d/a"));
    net.calls();
    fs::remove_file(net.at("d/a")).unwrap();
    net.call(&["--no-compress", "./a", "h:d/"]).run().expect_ok();
    assert!(net.line().ends_with(" d/a"));
    assert_same(&net.at("a"), &net.at("d/a"));
    net.refuses(&["a", "d"], &["d: is a directory"]);
    net.refuses(&["/", "d/"], &["no name"]);
    // Here again: the source itself.
    net.refuses(&["a", ":"], &["a"]);
    net.refuses(&["a", "./"], &["a"]);
    assert_same(&net.at("a"), &net.at("d/a"));
}

#[test]
fn source_and_target_may_not_be_the_same_file() {
    let net = Net::new();
    make_noise(&net.at("a"), 1, KIB);
    let before = fs::read(net.at("a")).unwrap();
    fs::hard_link(net.at("a"), net.at("hard")).unwrap();
    std::os::unix::fs::symlink("a", net.at("soft")).unwrap();
    for target in ["a", "./a", ":a", "hard", "soft"] {
        net.refuses(&["a", target], &["same"]);
    }
    assert_eq!(fs::read(net.at("a")).unwrap(), before);
}

#[test]
fn a_slash_before_the_colon_is_a_path_here() {
    let net = Net::new();
    make_noise(&net.at("a:b"), 1, KIB);
    net.call(&["--no-compress", "./a:b", ":c:d"]).run().expect_ok();
    assert_same(&net.at("a:b"), &net.at("c:d"));
    let absolute = net.at("a:b").display().to_string();
    net.call(&["--no-compress", &absolute, "./e:f"]).run().expect_ok();
    assert_same(&net.at("a:b"), &net.at("e:f"));
    assert_eq!(net.calls().len(), 0);
}

#[test]
fn verbose_counts_both_streams_and_shows_no_line_of_progress() {
    let net = Net::new();
    make_noise(&net.at("a"), 1, 300 * KIB);
    let mut changed = fs::read(net.at("a")).unwrap();
    changed[5] ^= 1;
    fs::write(net.at("changed"), &changed).unwrap();
    // Header and one digest; header and one reply. Then two levels, of which one leaf of two is sent.
    let equal = "Read: 80, wrote: 17";
    let one_leaf = format!("Read: {}, wrote: {}", 16 + 3 * 64, 16 + 3 + 150 * KIB);
    for (source, target, expected) in [
        ("a", "h:b", equal),
        ("h:a", "b", equal),
        ("h:a", "h:b", equal),
        ("changed", "h:b", &one_leaf),
        ("h:a", "b", &one_leaf),
        ("h:changed", "h2:b", &one_leaf),
    ] {
        if expected == equal {
            fs::copy(net.at("a"), net.at("b")).unwrap();
        }
        let outcome = net.call(&["--verbose", source, target]).run().expect_ok();
        assert_eq!(outcome.stderr, format!("{expected}\n"), "{source} {target}\n{outcome}");
        assert_eq!(outcome.stdout, "");
    }
}

/// A program for the other end that is none of ours.
fn stranger(net: &Net, script: &str) -> String {
    let path = net.at("net/stranger");
    executable(&path, &format!("#!/bin/sh\n{script}\n"));
    "--cmd-path=stranger".to_string()
}

#[test]
fn recorded_targets_and_sources_are_spoken_with_as_diskrsync_does() {
    let net = Net::new();
    for case in cases(16 * MIB) {
        let (s2t, t2s) = (case.s2t.display(), case.t2s.display());
        case.source.make(&net.at("a"));
        // It says all that it has to say at once, and keeps what it hears.
        let command = stranger(&net, &format!("cat '{t2s}'; exec cat > heard"));
        net.call(&[&command, "a", "h:b"]).run().expect_ok();
        assert_same(&net.at("heard"), &case.s2t);
        case.target.make(&net.at("b"));
        // A source is gone when it has said everything: a target may wait for that.
        let len = fs::metadata(&case.t2s).unwrap().len();
        let command = stranger(&net, &format!("cat '{s2t}'; exec head -c {len} > heard"));
        net.call(&[&command, "--no-compress", "h:a", "b"]).run().expect_ok();
        assert_same(&net.at("heard"), &case.t2s);
        assert_same(&net.at("a"), &net.at("b"));
    }
}

#[test]
fn what_the_other_end_says_is_shown_and_its_exit_status_counts() {
    let net = Net::new();
    make_noise(&net.at("a"), 1, KIB);
    let equal = r"printf 'BSNC0002\0\4\0\0\0\0\0\0\2'";
    let command = stranger(&net, &format!("{equal}; echo it has no more room >&2; exit 3"));
    let outcome = net.call(&[&command, "h:a", "a"]).run().expect_exit(1);
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{outcome}");
    assert_eq!(lines[0], "it has no more room");
    assert!(lines[1].contains("status 3"), "{outcome}");
    // Lines that look like progress nobody asked for are text like any other.
    let tale = "echo '[Start calc]' >&2; echo 'Size: 5' >&2";
    let command = stranger(&net, &format!("{equal}; {tale}; exec head -c 80 > heard"));
    let outcome = net.call(&[&command, "h:a", "a"]).run().expect_ok();
    assert_eq!(outcome.stderr, "[Start calc]\nSize: 5\n", "{outcome}");
    let outcome = net.call(&[&command, "--verbose", "h:a", "a"]).run().expect_ok();
    assert_eq!(outcome.stderr, "Read: 80, wrote: 17\n", "{outcome}");
}

#[test]
fn an_end_that_is_not_there_or_breaks_off_is_an_error() {
    let net = Net::new();
    make_noise(&net.at("a"), 1, 300 * KIB);
    make_noise(&net.at("b"), 2, 300 * KIB);
    for (script, part) in [
        ("exit 0", ""),
        (r"printf 'BSNC0002\0\4\0\0\0\0\0\0'", ""),
        ("echo Welcome to the machine", "Welcome"),
    ] {
        let command = stranger(&net, script);
        for (source, target) in [("a", "h:b"), ("h:b", "a")] {
            let outcome = net.call(&[&command, source, target]).run().expect_exit(1);
            assert!(!outcome.stderr.is_empty(), "{outcome}");
            outcome.expect_error(part);
        }
    }
    net.call(&["--cmd-path=no-such-program", "a", "h:b"]).run().expect_exit(1).expect_error("h");
    net.call(&["h:none", "c"]).run().expect_exit(1).expect_error("none");
    net.call(&["none", "h:c"]).run().expect_exit(1).expect_error("none");
    assert!(!net.at("c").exists());
}

#[test]
fn a_line_of_the_log_begins_with_its_date() {
    let net = Net::new();
    let outcome = net.call(&["none", "b"]).env("TZ", "UTC").run().expect_exit(1);
    let (date, text) = outcome.stderr.split_at(20);
    assert!(text.contains("none"), "{outcome}");
    let now = testkit::host::run(testkit::host::tool("date").args(["-u", "+%Y/%m/%d"]));
    // Midnight may lie between the two.
    assert_eq!(date[..7], now[..7], "{outcome}");
    assert_eq!(date.as_bytes()[10..20].iter().filter(|byte| **byte == b':').count(), 2);
}

#[test]
fn a_command_line_that_makes_no_sense_ends_with_two_and_the_usage() {
    let net = Net::new();
    make_noise(&net.at("a"), 1, KIB);
    for arguments in [
        &[][..],
        &["a"],
        &["a", ""],
        &["a", "b", "c"],
        &["-v", "a", "b"],
        &["-no-compress", "a", "b"],
        &["--no-compress=2", "a", "b"],
        &["--unheard", "a", "b"],
        &["a", "b", "--ssh-flags"],
        &["--help"],
        &["-h"],
    ] {
        let outcome = net.call(arguments).run().expect_exit(2).expect_error("Usage: ");
        assert_eq!(outcome.stdout, "", "{outcome}");
    }
    assert_eq!(names(net.peer.scratch.path()), ["a", "bin", "calls", "net"]);
}

#[test]
fn two_images_here_are_made_alike_without_a_stream() {
    let net = Net::new();
    make(&net.at("a"), 1, &[Part::Noise(300 * KIB), Part::Hole(MIB), Part::Noise(77)]);
    let outcome = net.call(&["--verbose", "a", "b"]).run().expect_ok();
    assert!(outcome.stderr.ends_with("Read: 0, wrote: 0\n"), "{outcome}");
    assert!(image_of(&net.at("b")) == fs::read(net.at("a")).unwrap());
    // A container is a source like any other, and a target of any kind stays what it is.
    make_noise(&net.at("c"), 2, 10 * KIB);
    net.call(&["b", "c"]).run().expect_ok();
    assert_same(&net.at("a"), &net.at("c"));
    net.refuses(&["--no-compress", "a", "b"], &["spgz"]);
    assert!(is_container(&net.at("b")));
}
