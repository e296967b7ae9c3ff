//! Whatever goes wrong with a clone, the source takes writes again, and the target is complete or not there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use testkit::host::{self, Filesystem, LoopOptions, fill_disk, run, thaw, tool};

use crate::clone_catchup::make_fragmented;
use crate::live::{
    self, Live, Outer, assert_takes_a_write, judge, stopped_at, until_no_process_names,
};
use crate::support::{MIB, names, until};

/// All steps of a clone with a filesystem to freeze, in order.
const STEPS: [&str; 9] = [
    "opened",
    "precloned",
    "flushed",
    "frozen",
    "cloned",
    "thawed",
    "proven",
    "publishing",
    "published",
];

/// After a `kill -9`: the source takes writes, the target is whole or not there, and nothing else is left.
#[track_caller]
fn assert_survived(live: &Live, target: &Path, when: &str) {
    live.assert_writable(when);
    until_no_process_names(target);
    let name = target.file_name().unwrap().to_str().unwrap();
    live.assert_nothing_but(&[name]);
    if target.exists() {
        judge(target, 1);
        fs::remove_file(target).unwrap();
    }
}

#[test]
fn killed_at_any_step_a_clone_leaves_nothing_frozen_and_nothing_half_done() {
    let Some(_scratch) = live::scratch() else { return };
    for outer in Outer::BOTH {
        let live = Live::on(outer.make(), make_fragmented);
        let target = live.beside("clone.img");
        for step in STEPS {
            let program = live.clone_to(&target).env("BLOCKPRINT_DEBUG_KILL_AT", step);
            let outcome = program.run();
            assert_eq!(outcome.signal(), Some(9), "it never came to {step}: {outcome}");
            assert_eq!(target.exists(), step == "published", "killed at {step}");
            assert_survived(&live, &target, &format!("killed at {step} on {outer:?}"));
        }
        live.clone_to(&target).run().expect_ok();
    }
}

#[test]
fn killed_at_random_moments_a_clone_leaves_nothing_frozen_and_nothing_half_done() {
    let Some(_scratch) = live::scratch() else { return };
    for outer in Outer::BOTH {
        let live = Live::on(outer.make(), make_fragmented);
        let target = live.beside("clone.img");
        let usual = live.clone_to(&target).run().expect_ok().elapsed;
        fs::remove_file(&target).unwrap();
        for _ in 0..10 {
            let moment = usual.mul_f64(fastrand::f64());
            let running = live.clone_to(&target).spawn();
            thread::sleep(moment);
            running.signal("KILL");
            running.wait();
            assert_survived(&live, &target, &format!("killed after {moment:?} on {outer:?}"));
        }
    }
}

#[test]
fn the_program_and_all_of_its_name_killed_at_once_leave_nothing_frozen() {
    let Some(_scratch) = live::scratch() else { return };
    let live = Live::start(Outer::Xfs);
    let target = live.beside("clone.img");
    let running = stopped_at(live.clone_to(&target).arg("--freeze-timeout=60s"), "frozen");
    // As `killall -9 blockprint` does.
    let (namesakes, others): (Vec<u32>, Vec<u32>) =
        live::processes_naming(&target).into_iter().partition(|pid| name_of(*pid) == "blockprint");
    assert_eq!((namesakes.len(), others.len()), (1, 1), "the program and its watchdog");
    kill(&namesakes);
    assert_eq!(running.wait().signal(), Some(9));
    assert_survived(&live, &target, "all of its name are killed");
}

/// What `ps` calls a process.
fn name_of(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_string()
}

/// `kill -9`, all of them in one moment.
#[track_caller]
fn kill(processes: &[u32]) {
    let numbers = processes.iter().map(u32::to_string);
    run(tool("sh").args(["-c", "kill -9 \"$@\"", "sh"]).args(numbers));
}

#[test]
fn a_clone_whose_watchdog_is_killed_thaws_by_itself() {
    let Some(_scratch) = live::scratch() else { return };
    let live = Live::start(Outer::Xfs);
    let target = live.beside("clone.img");
    let running = stopped_at(live.clone_to(&target).arg("--freeze-timeout=60s"), "frozen");
    let mut watchdogs = live::processes_naming(&target);
    watchdogs.retain(|pid| *pid != running.pid());
    assert_eq!(watchdogs.len(), 1);
    kill(&watchdogs);
    running.signal("CONT");
    running.wait().expect_ok();
    live.assert_writable("its watchdog was killed");
    judge(&target, 1);
}

#[test]
fn a_clone_stopped_while_frozen_is_thawed_in_time_and_then_reported_as_failed() {
    let Some(_scratch) = live::scratch() else { return };
    let live = Live::start(Outer::Xfs);
    let target = live.beside("clone.img");
    for step in ["frozen", "cloned"] {
        let start = Instant::now();
        let running = stopped_at(live.clone_to(&target).arg("--freeze-timeout=1s"), step);
        live.assert_writable("its time was up");
        let pause = live.writer.longest_pause(start).length;
        let bounds = Duration::from_millis(500)..Duration::from_millis(1800);
        assert!(bounds.contains(&pause), "frozen for {pause:?}");
        // Whoever freezes now is somebody else, whom the watchdog leaves alone.
        live.inner.as_mount().freeze();
        thread::sleep(Duration::from_millis(100));
        assert!(thaw(live.inner.path()), "the watchdog thawed what somebody else had frozen");
        running.signal("CONT");
        let outcome = running.wait().expect_exit(19);
        assert_eq!(outcome.events("error")[0]["kind"], "changed", "{outcome}");
        live.assert_writable("it failed");
        live.assert_nothing_but(&[]);
        until_no_process_names(&target);
    }
}

#[test]
fn a_freeze_that_has_no_time_fails_and_leaves_nothing_frozen() {
    let Some(_scratch) = live::scratch() else { return };
    let live = Live::start(Outer::Xfs);
    let target = live.beside("clone.img");
    for timeout in ["1ms", "2ms", "5ms", "10ms", "20ms"] {
        let outcome = live.clone_to(&target).arg(format!("--freeze-timeout={timeout}")).run();
        live.assert_writable("a freeze of little time");
        let code = outcome.status.code();
        // It may just have been quick enough.
        assert!(matches!(code, Some(0 | 19)), "{outcome}");
        assert_eq!(target.exists(), code == Some(0), "{outcome}");
        let _ = fs::remove_file(&target);
        live.assert_nothing_but(&[]);
    }
}

#[test]
fn told_to_stop_a_clone_thaws_and_leaves_no_target() {
    let Some(_scratch) = live::scratch() else { return };
    let live = Live::start(Outer::Xfs);
    let target = live.beside("clone.img");
    for step in ["opened", "flushed", "frozen", "cloned", "thawed"] {
        for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
            // Without a thread for progress, which could take the signal a moment after the last look for one.
            let program = live.clone_to(&target).args(["--freeze-timeout=60s", "--progress=none"]);
            let running = stopped_at(program, step);
            running.signal(signal);
            running.signal("CONT");
            let outcome = running.wait().expect_exit(code);
            live.assert_writable(&format!("{signal} at {step}"));
            live.assert_nothing_but(&[]);
            assert_eq!(outcome.events("error")[0]["kind"], "cancelled", "{outcome}");
        }
    }
}

#[test]
fn told_to_stop_twice_while_frozen_a_clone_ends_at_once_and_is_thawed() {
    let Some(_scratch) = live::scratch() else { return };
    let live = Live::start(Outer::Btrfs);
    let target = live.beside("clone.img");
    let running = stopped_at(live.clone_to(&target).arg("--freeze-timeout=60s"), "frozen");
    running.signal("INT");
    // Signals of one number are not counted while it is stopped: it must take the first one first.
    running.signal("TERM");
    running.signal("CONT");
    let outcome = running.wait();
    assert!(!outcome.status.success(), "{outcome}");
    assert_survived(&live, &target, "told to stop twice");
}

#[test]
fn a_target_that_cannot_be_made_fails_before_anything_is_frozen() {
    let Some(scratch) = live::scratch() else { return };
    let live = Live::start(Outer::Xfs);
    let read_only = live.beside("other.img");
    host::make_image("ext4", &read_only, 16 * MIB);
    let read_only_mount = Filesystem::mount_read_only(&read_only);
    let long = "n".repeat(256);
    let cases: [(PathBuf, i32, &str); 7] = [
        (live.beside(&long), 17, "name too long"),
        (live.beside(&"n".repeat(5000)), 17, "name too long"),
        (live.beside("no/such/clone.img"), 10, "no/such"),
        (live.beside("disk.img/clone.img"), 17, "is no folder"),
        (read_only_mount.path().join("clone.img"), 12, "Read-only"),
        (scratch.join("clone.img"), 16, "mounted at"),
        (live.inner.path().join("clone.img"), 13, "has to be frozen"),
    ];
    for (target, code, words) in cases {
        let start = Instant::now();
        let program = live.clone_to(&target).env("BLOCKPRINT_DEBUG_STOP_AT", "frozen");
        let outcome = program.spawn().wait_at_most(Duration::from_secs(20)).expect_exit(code);
        let sentence = outcome.events("error")[0]["message"].to_string().to_lowercase();
        assert!(sentence.contains(&words.to_lowercase()), "{words}: {outcome}");
        assert!(start.elapsed() < Duration::from_secs(3), "{outcome}");
        live.assert_writable("a target that cannot be made");
        live.assert_nothing_but(&["other.img"]);
        assert_eq!(names(scratch.path()), [] as [&str; 0]);
    }
}

#[test]
fn an_image_in_use_on_a_full_filesystem_is_not_cloned_and_takes_writes_as_before() {
    let Some(_scratch) = live::scratch() else { return };
    let outer = Filesystem::xfs(320 * MIB);
    let image = outer.path().join("disk.img");
    make_fragmented(&image);
    // It has all its blocks already, so that a full disk does not matter as long as they are its own.
    run(tool("fallocate").args(["-l", "67108864"]).arg(&image));
    let inner = Filesystem::mount(&image);
    fill_disk(outer.path());
    let target = outer.path().join("clone.img");
    let outcome = live::clone(&[&image], &target).run().expect_exit(15);
    assert!(outcome.stdout.contains("needs new blocks"), "{outcome}");
    assert_takes_a_write(inner.path());
    assert!(!target.exists());
}

#[test]
fn a_filesystem_that_becomes_full_fails_a_clone_and_leaves_nothing_frozen() {
    let Some(_scratch) = live::scratch() else { return };
    for step in ["opened", "precloned", "flushed"] {
        for outer in [Filesystem::xfs(320 * MIB), Filesystem::btrfs(256 * MIB)] {
            let image = outer.path().join("disk.img");
            make_fragmented(&image);
            let inner = Filesystem::mount(&image);
            let target = outer.path().join("clone.img");
            let running = stopped_at(live::clone(&[&image], &target), step);
            fill_disk(outer.path());
            running.signal("CONT");
            let outcome = running.wait_at_most(Duration::from_secs(20));
            assert_takes_a_write_or_is_full(inner.path());
            let code = outcome.status.code();
            // What a full filesystem still has in reserve may be enough.
            assert!(matches!(code, Some(0 | 15 | 20)), "{outcome}");
            assert_eq!(target.exists(), code == Some(0), "{outcome}");
            until_no_process_names(&target);
        }
    }
}

/// A write must not wait; on a full disk it may fail.
#[track_caller]
fn assert_takes_a_write_or_is_full(folder: &Path) {
    let start = Instant::now();
    let path = folder.join("probe");
    let writer = thread::spawn(move || File::create(path).and_then(|file| file.sync_all()));
    until("a write comes to its end", || writer.is_finished());
    assert!(start.elapsed() < live::THAWED_WITHIN);
    drop(writer.join());
}

#[test]
fn what_somebody_else_has_frozen_is_not_cloned_and_stays_frozen() {
    let Some(_scratch) = live::scratch() else { return };
    for kind in ["ext4", "xfs", "btrfs"] {
        let outer = Filesystem::xfs(1024 * MIB);
        let (image, target) = (outer.path().join("disk.img"), outer.path().join("clone.img"));
        host::make_image(kind, &image, 320 * MIB);
        let inner = Filesystem::mount(&image);
        fs::write(inner.path().join("file"), "content").unwrap();
        inner.as_mount().freeze();
        let outcome = live::clone(&[&image], &target).spawn().wait_at_most(Duration::from_secs(20));
        let outcome = outcome.expect_exit(13);
        let sentence = outcome.events("error")[0]["message"].to_string();
        assert!(sentence.contains("frozen already, by somebody else"), "{outcome}");
        assert!(!target.exists());
        until_no_process_names(&target);
        assert!(thaw(inner.path()), "{kind}: it was thawed by us");
        assert_takes_a_write(inner.path());
    }
}

#[test]
fn of_several_filesystems_none_stays_frozen_when_the_last_cannot_be() {
    let Some(_scratch) = live::scratch() else { return };
    let live = Live::start(Outer::Xfs);
    let others: Vec<Filesystem> = (0..2)
        .map(|number| {
            let image = live.beside(&format!("other-{number}.img"));
            host::make_image("ext4", &image, 16 * MIB);
            Filesystem::mount_with(&image, &LoopOptions::default(), "")
        })
        .collect();
    let folder = live.beside("clones");
    fs::create_dir(&folder).unwrap();
    let mut sources = vec![live.image.as_path()];
    sources.extend(others.iter().map(Filesystem::image));
    for held in &others {
        held.as_mount().freeze();
        live::clone(&sources, &folder).run().expect_exit(13);
        assert!(thaw(held.path()), "it was thawed by us");
        live.assert_writable("one of three could not be frozen");
        for other in &others {
            assert_takes_a_write(other.path());
        }
        assert_eq!(names(&folder), [] as [&str; 0]);
    }
    live::clone(&sources, &folder).run().expect_ok();
    assert_eq!(names(&folder), ["disk.img", "other-0.img", "other-1.img"]);
}

#[test]
fn nothing_is_printed_while_frozen_so_that_output_may_lie_inside() {
    let Some(_scratch) = live::scratch() else { return };
    let live = Live::on(Outer::Xfs.make(), make_fragmented);
    for progress in ["plain", "bar", "none"] {
        for json in [true, false] {
            let target = live.beside("clone.img");
            let log = File::create(live.inner.path().join("log")).unwrap();
            let mut command = tool(env!("CARGO_BIN_EXE_blockprint"));
            command.args(["clone", "--force", "--progress", progress]);
            if json {
                command.arg("--json");
            }
            command.arg(&live.image).arg(&target);
            command.stdout(log.try_clone().unwrap()).stderr(log);
            let start = Instant::now();
            assert!(command.status().unwrap().success());
            assert!(start.elapsed() < Duration::from_secs(4), "it waited for its watchdog");
            live.assert_writable("output inside the frozen filesystem");
        }
    }
}
