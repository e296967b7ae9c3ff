//! Far ends that lie, fail, fall silent or are killed; ssh is played by a script, so that all of them are at hand.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use testkit::host::{Outcome, Program, Running, SshStandIn, TempDir};

use crate::far::programs_in;
use crate::judges::quick_folder;
use crate::support::{
    MIB, assert_refused, assert_same, blockprint, make_mixed, make_noise, names, overwrite,
    partial_of, until,
};

/// A folder, what plays ssh, and the programs that are found there.
struct Stage {
    scratch: TempDir,
    ssh: SshStandIn,
    bin: PathBuf,
}

impl Stage {
    #[track_caller]
    fn new() -> Self {
        let scratch = quick_folder("peers");
        let bin = programs_in(&scratch, &["blockprint", "diskrsync"]);
        Stage { scratch, ssh: SshStandIn::direct(), bin }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    fn there(&self, name: &str) -> OsString {
        crate::far::there(&self.path(name))
    }

    fn sync(&self, options: &[&str]) -> Program {
        let path = self.ssh.search_path(&[&self.bin]);
        blockprint(&self.scratch).env("PATH", path).arg("sync").args(options)
    }

    /// A program there: a shell script.
    #[track_caller]
    fn script(&self, name: &str, script: &str) {
        write_script(&self.bin.join(name), script);
    }

    /// Pushes to a far end that is that script.
    fn push_to(&self, script: &str, protocol: &str) -> Outcome {
        self.script("peer", script);
        let options = ["--protocol", protocol, "--remote-command", "peer"];
        let program = self.sync(&options).arg(self.path("source")).arg(self.there("target"));
        program.spawn().wait_at_most(Duration::from_secs(40))
    }
}

#[track_caller]
fn write_script(path: &Path, script: &str) {
    fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_peer_that_is_none_is_told_by_what_it_does() {
    let stage = Stage::new();
    make_noise(&stage.path("source"), 1, 3 * MIB);
    let cases: [(&str, &str, i32, &[&str]); 13] = [
        ("native", "exit 0", 20, &["ended without a word"]),
        ("native", "echo why >&2; exit 9", 20, &["exit status 9", "why"]),
        ("native", "echo hello", 20, &["ended without a word"]),
        ("native", "echo 'a long greeting'; cat >/dev/null", 20, &["\"a long greeting\""]),
        ("native", "printf 'Password: '; exec sleep 60", 20, &["\"Password:\""]),
        ("native", "cat /dev/zero", 20, &["no sync protocol"]),
        ("native", "printf BSNC0002; sleep 60", 16, &["speaks diskrsync's protocol", "--protocol"]),
        ("diskrsync", "printf BLKPSYNC; sleep 60", 16, &["speaks blockprint's native"]),
        ("native", "printf BLKPSYNC; exit 3", 20, &["exit status 3"]),
        ("native", "printf BLKPSYNC; cat /dev/zero", 16, &["version"]),
        ("native", "printf BLKPSYNC; yes", 16, &["version"]),
        ("diskrsync", "exec 3<&0; cat <&3 >/dev/null & printf BSNC0002; yes", 20, &["exit status"]),
        (
            "diskrsync",
            "printf 'BSNC0002\\0\\0\\0\\0\\0\\0\\0\\377'; sleep 60",
            18,
            &["less than none"],
        ),
    ];
    for (protocol, script, code, parts) in cases {
        let outcome = stage.push_to(script, protocol);
        assert_refused(outcome, code, parts);
        assert!(!stage.path("target").exists(), "{script}");
    }
}

#[test]
fn a_peer_that_did_all_but_failed_in_the_end_is_no_success() {
    let stage = Stage::new();
    let source = stage.path("source");
    make_mixed(&source, 2, 1);
    let outcome = stage.push_to("blockprint \"$@\"; echo broken >&2; exit 3", "native");
    assert_refused(outcome, 20, &["exit status 3", "broken", "run it again"]);
    let outcome = stage.push_to("diskrsync \"$@\"; exit 3", "diskrsync");
    assert_refused(outcome, 20, &["exit status 3", "run it again"]);
    // A source that fails in the end may have sent anything: what came of it does not get the name.
    stage.script("peer", "diskrsync \"$@\"; echo broken >&2; exit 3");
    let target = stage.path("pulled");
    let pull = |command: &str| {
        let options = ["--protocol", "diskrsync", "--remote-command", command];
        stage.sync(&options).arg(stage.there("source")).arg(&target).run()
    };
    assert_refused(pull("peer"), 20, &["exit status 3", "broken", "is kept in"]);
    assert!(!target.exists());
    assert!(partial_of(&target).exists());
    pull("diskrsync").expect_ok();
    assert_same(&source, &target);
    assert!(!partial_of(&target).exists());
}

#[test]
fn what_a_peer_says_is_passed_on_with_its_name_and_cannot_steer_the_terminal() {
    let stage = Stage::new();
    make_noise(&stage.path("source"), 3, MIB);
    let script = "printf 'note: a \\033[2J\\nwarning: b\\nplain\\n' >&2; exec blockprint \"$@\"";
    let outcome = stage.push_to(script, "native").expect_ok();
    for line in ["note: far: a \u{fffd}[2J", "warning: far: b", "note: far: plain"] {
        assert!(outcome.stderr.lines().any(|said| said == line), "{line}:\n{outcome}");
    }
    assert_same(&stage.path("source"), &stage.path("target"));
}

#[test]
fn an_error_of_either_end_is_one_line_and_has_its_code() {
    let stage = Stage::new();
    let source = stage.path("source");
    make_noise(&source, 4, MIB);
    let there = stage.sync(&[]).arg(&source).arg(stage.there("nowhere/target")).run();
    assert_refused(there, 10, &["the other end says: ", "nowhere"]);
    let there = stage.sync(&[]).arg(stage.there("nothing")).arg(stage.path("target")).run();
    assert_refused(there, 10, &["the other end says: cannot open", "nothing"]);
    let here = stage.sync(&[]).arg(&source).arg(stage.path("folder/target").as_path());
    let here = here.run();
    assert_refused(here, 10, &["folder"]);
    fs::write(stage.path("target"), "old").unwrap();
    let locked = fs::File::open(stage.path("target")).unwrap();
    locked.lock().unwrap();
    let there = stage.sync(&[]).arg(&source).arg(stage.there("target")).run();
    assert_refused(there, 13, &["the other end says: ", "target"]);
    assert_eq!(fs::read(stage.path("target")).unwrap(), b"old");
}

#[test]
fn without_an_ssh_nobody_is_called() {
    let stage = Stage::new();
    make_noise(&stage.path("source"), 5, MIB);
    let program = blockprint(&stage.scratch).env("PATH", stage.path("nowhere")).arg("sync");
    let refused = program.arg(stage.path("source")).arg("far:target").run();
    assert_refused(refused, 10, &["cannot find ssh on this machine"]);
}

#[test]
fn a_peer_that_falls_silent_is_left_when_the_user_wants_it() {
    let stage = Stage::new();
    make_noise(&stage.path("source"), 6, MIB);
    for says in ["", "printf BLKPSYNC;", "printf BSNC0002;"] {
        let protocol = if says.contains("BSNC") { "diskrsync" } else { "native" };
        stage
            .script("peer", &format!("{says} touch {}/called; exec sleep 60", stage.bin.display()));
        let options = ["--protocol", protocol, "--remote-command", "peer"];
        let program = stage.sync(&options).arg(stage.path("source")).arg(stage.there("target"));
        let running = program.spawn();
        until("the peer is called", || stage.bin.join("called").exists());
        let peers = descendants(running.pid());
        let start = Instant::now();
        running.signal("INT");
        let outcome = running.wait_at_most(Duration::from_secs(30));
        assert_refused(outcome, 130, &["interrupted"]);
        assert!(start.elapsed() < Duration::from_secs(25));
        // The first is ssh, which a real far end depends on; behind a shell, this one does not.
        assert!(!is_alive(peers[0]), "ssh is left");
        for pid in peers {
            kill(pid);
        }
        fs::remove_file(stage.bin.join("called")).unwrap();
    }
}

#[test]
fn ends_with_different_protocols_are_both_asked_for_the_older_one() {
    let stage = Stage::new();
    let source = stage.path("source");
    make_mixed(&source, 7, 1);
    // An ssh to two machines, one of which has only diskrsync.
    let (bin, old) = (stage.path("ssh"), stage.path("old"));
    for folder in [&bin, &old] {
        fs::create_dir(folder).unwrap();
    }
    let program = env!("CARGO_BIN_EXE_blockprint");
    std::os::unix::fs::symlink(program, old.join("diskrsync")).unwrap();
    let script = format!(
        "while [ \"$1\" != -- ]; do shift; done; host=$2; shift 2\n\
         case $host in old) PATH={}:/usr/bin:/bin;; *) PATH={}:/usr/bin:/bin;; esac\n\
         exec sh -c \"$*\"",
        old.display(),
        stage.bin.display()
    );
    write_script(&bin.join("ssh"), &script);
    let mut path = bin.into_os_string();
    path.push(":/usr/bin:/bin");
    let target = stage.path("target");
    let place = |host: &str, path: &Path| format!("{host}:{}", path.display());
    for (from, to) in [("new", "old"), ("old", "new")] {
        let program = blockprint(&stage.scratch).env("PATH", &path).args(["sync", "--json"]);
        let outcome = program.arg(place(from, &source)).arg(place(to, &target)).run().expect_ok();
        assert_same(&source, &target);
        assert_eq!(outcome.result()["way"], "diskrsync", "{outcome}");
        fs::remove_file(&target).unwrap();
    }
}

#[test]
fn what_a_source_says_after_the_target_is_done_and_gone_is_no_failure() {
    let stage = Stage::new();
    make_mixed(&stage.path("source"), 12, 1);
    // The frame ALIVE, which a source says now and then while it waits, comes through a relay that was asleep.
    let script = "blockprint \"$@\" || exit\n\
                  case \"$*\" in *'--serve source'*) sleep 4; printf '\\002\\0\\0\\0\\0';; esac";
    stage.script("peer", script);
    let options = ["--protocol", "native", "--remote-command", "peer"];
    let program = stage.sync(&options).arg(stage.there("source")).arg(stage.there("target"));
    program.spawn().wait_at_most(Duration::from_secs(40)).expect_ok();
    assert_same(&stage.path("source"), &stage.path("target"));
}

#[test]
fn whoever_is_killed_at_whatever_moment_the_next_run_makes_it_right() {
    let stage = Stage::new();
    let (source, target) = (stage.path("source"), stage.path("target"));
    make_noise(&source, 8, 6 * MIB);
    let new = fs::read(&source).unwrap();
    let old_file = stage.path("old");
    make_noise(&old_file, 9, 5 * MIB);
    let old = fs::read(&old_file).unwrap();
    let mut random = fastrand::Rng::with_seed(10);
    let (mut killed, mut unfinished) = (0, 0);
    for round in 0..30 {
        fs::copy(&old_file, &target).unwrap();
        let is_atomic = round % 2 == 0;
        let mut options = vec!["--limit", "20M"];
        if is_atomic {
            options.push("--atomic");
        }
        // Pulling, the end that writes is here.
        let is_push = round % 3 != 0;
        let ends = match is_push {
            true => [source.clone().into_os_string(), stage.there("target")],
            false => [stage.there("source"), target.clone().into_os_string()],
        };
        let running = stage.sync(&options).args(&ends).spawn();
        std::thread::sleep(Duration::from_millis(random.u64(0..450)));
        let mut all = descendants(running.pid());
        all.push(running.pid());
        let victim = all[random.usize(..all.len())];
        killed += u32::from(kill(victim));
        let outcome = ended(running);
        until("nobody is left", || !all.iter().any(|&pid| is_alive(pid)));
        unfinished += u32::from(!outcome.status.success());
        let now = fs::read(&target).unwrap();
        assert!(!outcome.status.success() || now == new, "it says that it is done:\n{outcome}");
        assert!(!is_atomic || now == old || now == new, "neither old nor new in round {round}");
        stage.sync(&options[2..]).args(&ends).run().expect_ok();
        assert_same(&source, &target);
        let left: Vec<_> = names(stage.scratch.path())
            .into_iter()
            .filter(|name| name.contains("blockprint-"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
    assert!(killed >= 20 && unfinished >= 10, "{killed} killed, {unfinished} unfinished");
}

#[test]
fn a_target_that_grew_in_an_interrupted_run_is_gone_on_with() {
    let stage = Stage::new();
    let (source, target) = (stage.path("source"), stage.path("target"));
    make_noise(&source, 11, 8 * MIB);
    let running = stage.sync(&["--limit", "4M"]).arg(&source).arg(stage.there("target")).spawn();
    until("a MiB is there", || {
        fs::read(partial_of(&target)).is_ok_and(|bytes| bytes.iter().any(|&byte| byte != 0))
    });
    running.signal("TERM");
    let outcome = running.wait_at_most(Duration::from_secs(30)).expect_exit(143);
    assert!(!target.exists(), "{outcome}");
    overwrite(&source, 0, b"changed meanwhile");
    stage.sync(&[]).arg(&source).arg(stage.there("target")).run().expect_ok();
    assert_same(&source, &target);
}

fn ended(running: Running) -> Outcome {
    running.wait_at_most(Duration::from_secs(40))
}

/// The processes that it has started, and theirs.
fn descendants(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children: Vec<u32> =
        text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    children.iter().flat_map(|&child| [vec![child], descendants(child)].concat()).collect()
}

/// Kills it; false if it had ended.
fn kill(pid: u32) -> bool {
    let mut command = testkit::host::tool("sh");
    command.args(["-c", &format!("kill -KILL {pid}")]);
    testkit::host::try_run(&mut command).is_ok()
}

/// Whether it runs; a zombie does not.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}
