//! Partclone as a child, and programs that stand in for it: what they are started with, what is heard, how they end.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use filesystems::partclone::{Partclone, Report, Running, Variant};
use image::ErrorKind;
use testkit::host::TempDir;

/// A folder with `stub.dd` and `stub.ext2`, both this script of the shell.
fn stub(script: &str) -> (TempDir, Partclone) {
    let folder = TempDir::new("stub");
    for name in ["stub.dd", "stub.ext2"] {
        let path = folder.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let partclone = Partclone::stub(folder.join("stub"));
    (folder, partclone)
}

fn ext2() -> Variant {
    Variant::by_name("ext2").unwrap()
}

fn all_of(running: &mut Running) -> String {
    let mut text = String::new();
    running.stdout().unwrap().read_to_string(&mut text).unwrap();
    text
}

fn is_gone(pid: &str) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

fn comes_true(condition: impl Fn() -> bool) -> bool {
    let until = Instant::now() + Duration::from_secs(20);
    while !condition() {
        if Instant::now() > until {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
    true
}

#[test]
fn the_command_lines_are_exactly_those_of_apart_core() {
    let (_folder, partclone) = stub(r#"printf '%s|' "${0##*.}" "$@" "$LC_ALL" "${LANGUAGE-none}""#);
    let device = Path::new("/dev/abc 12");
    let mut clone = partclone.clone_device(ext2(), device).unwrap();
    assert_eq!(all_of(&mut clone), "ext2|-c|-s|/dev/abc 12|C|none|");
    let mut raw = partclone.clone_device(Variant::DD, device).unwrap();
    assert_eq!(all_of(&mut raw), "dd|-s|/dev/abc 12|C|none|");

    let (_folder, partclone) = stub(r#"cat; printf '%s|' "${0##*.}" "$@" >&2"#);
    for (variant, words) in
        [(ext2(), "ext2|-r|-o|/dev/abc 12|"), (Variant::DD, "dd|-o|/dev/abc 12|")]
    {
        let ended = partclone.restore_device(variant, device).unwrap().wait(&|| false).unwrap();
        assert_eq!(ended.last_lines, words);
    }
}

#[test]
fn what_a_stub_says_is_heard_also_by_one_who_listens_late() {
    let (_folder, partclone) = stub(
        "echo 'File system:  EXTFS' >&2
        for n in 1 2 3; do printf 'Elapsed: 00:00:01, Remaining: 00:00:0%s, Completed:  %s.50%%, 1.5GB/min,\\033[2A\\n' $n $n >&2; done
        echo data; read line; echo 'Syncing... OK!' >&2",
    );
    let mut running = partclone.restore_device(ext2(), Path::new("/dev/none")).unwrap();
    let mut stdin = running.stdin().unwrap();
    thread::sleep(Duration::from_millis(50));
    let (sender, receiver) = mpsc::channel();
    running.listen(Box::new(move |report| sender.send(report).unwrap()));
    for n in 1..=3_u32 {
        let Report::Progress(progress) = receiver.recv().unwrap() else { panic!("no progress") };
        assert_eq!(progress.complete, n * 100 + 50);
        assert_eq!(progress.rate.as_deref(), Some("1.5GB/min"));
        assert_eq!(progress.remaining, Duration::from_secs(u64::from(n)));
    }
    stdin.write_all(b"go on\n").unwrap();
    assert_eq!(receiver.recv().unwrap(), Report::Synced);
    let ended = running.wait(&|| false).unwrap();
    assert!(ended.success, "{ended:?}");
    assert_eq!(ended.reason, None);
}

#[test]
fn success_needs_the_status_and_the_words() {
    for (script, success) in [
        ("echo 'File system: x' >&2; echo 'Syncing... OK!' >&2", true),
        ("echo 'File system: x' >&2; echo 'Syncing... OK!' >&2; exit 1", false),
        ("echo 'File system: x' >&2", false),
        ("echo 'File system: x' >&2; echo 'Syncing... OK!' >&2; kill -9 $$", false),
    ] {
        let (_folder, partclone) = stub(script);
        let running = partclone.clone_device(ext2(), Path::new("/dev/none")).unwrap();
        assert_eq!(running.wait(&|| false).unwrap().success, success, "{script}");
    }
}

#[test]
fn a_failure_gives_its_reason_and_its_last_lines() {
    let (_folder, partclone) = stub(
        "echo 'device (/dev/sdb1) is mounted at /mnt/usb' >&2; echo 'error exit' >&2
        printf 'Partclone fail, please check /var/log/partclone.log !' >&2; exit 1",
    );
    let running = partclone.clone_device(ext2(), Path::new("/dev/sdb1")).unwrap();
    let ended = running.wait(&|| false).unwrap();
    assert_eq!(ended.reason.as_deref(), Some("/dev/sdb1 is mounted at /mnt/usb"));
    assert!(
        ended
            .last_lines
            .ends_with("error exit\nPartclone fail, please check /var/log/partclone.log !")
    );
}

#[test]
fn a_lot_of_words_holds_nobody_up() {
    let (_folder, partclone) = stub(
        "head -c 3000000 /dev/zero | tr '\\0' '\\n' >&2; echo 'File system: x' >&2; echo 'Syncing... OK!' >&2",
    );
    let running = partclone.clone_device(ext2(), Path::new("/dev/none")).unwrap();
    assert!(running.wait(&|| false).unwrap().success);
}

#[test]
fn a_cancelled_one_is_killed_with_all_that_it_started() {
    let (folder, partclone) = stub("sleep 60 & echo $! > \"${0%/*}/pid\"; wait");
    let running = partclone.clone_device(ext2(), Path::new("/dev/none")).unwrap();
    let pid = running.pid().to_string();
    let other = || fs::read_to_string(folder.join("pid")).unwrap_or_default().trim().to_string();
    assert!(comes_true(|| !other().is_empty()));
    let cancelled = running.wait(&|| true).unwrap_err();
    assert_eq!(cancelled.kind(), ErrorKind::Cancelled);
    assert!(!Path::new("/proc").join(&pid).exists(), "it is reaped");
    assert!(comes_true(|| is_gone(&other())));
}

#[test]
fn a_dropped_one_leaves_nothing_behind() {
    let (folder, partclone) = stub("sleep 60 2>&1 & echo $! > \"${0%/*}/pid\"");
    let running = partclone.clone_device(ext2(), Path::new("/dev/none")).unwrap();
    let other = || fs::read_to_string(folder.join("pid")).unwrap_or_default().trim().to_string();
    assert!(comes_true(|| !other().is_empty()));
    drop(running);
    assert!(comes_true(|| is_gone(&other())));
}

#[test]
fn a_pipe_that_a_leftover_keeps_open_holds_nobody_up() {
    let (_folder, partclone) =
        stub("echo 'File system: x' >&2; echo 'Syncing... OK!' >&2; setsid sleep 5 &");
    let running = partclone.clone_device(ext2(), Path::new("/dev/none")).unwrap();
    assert!(running.wait(&|| false).unwrap().success);
}

#[test]
fn a_variant_that_is_not_there_is_said_to_be_missing() {
    let (_folder, partclone) = stub("true");
    let xfs = Variant::by_name("xfs").unwrap();
    assert!(partclone.is_stub());
    assert_eq!(partclone.program(xfs), None);
    assert!(partclone.program(ext2()).is_some());
    let Err(error) = partclone.clone_device(xfs, Path::new("/dev/none")) else { panic!("started") };
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.full_sentence().contains("is not installed"), "{error:?}");
}
