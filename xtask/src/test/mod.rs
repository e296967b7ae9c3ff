//! `cargo xtask test`: every check and every test, what they left behind, and one line of totals.

mod leftovers;
mod tally;

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use testkit::host::{TempDir, test_root, try_run};

use crate::workspace::cargo;
use crate::{tidy, units};
use leftovers::Snapshot;
use tally::Tally;

/// Once cargo has ended and nothing was said for so long, all was said.
const QUIET: Duration = Duration::from_millis(300);

/// How a check ended.
enum Ending {
    Passed,
    Failed(String),
    Skipped(String),
}

/// Runs everything and goes on after a failure, so that one run shows all of them.
pub(crate) fn run() -> Result<(), String> {
    let before = Snapshot::take();
    let mut total = Tally::default();
    total += step("house rules", house_rules);
    total += step("rustfmt", rustfmt);
    total += step("clippy", clippy);
    total += step("rustdoc", rustdoc);
    total += step("dependencies", dependencies);
    total += step("advisories", advisories);
    total += tests();
    total += step("nothing left behind", || match before.clear_what_is_new() {
        found if found.is_empty() => Ending::Passed,
        found => Ending::Failed(found.join("\n")),
    });
    println!("{total}");
    if total.failed > 0 { Err(String::new()) } else { Ok(()) }
}

/// The totals count tests, so a check that passes adds nothing; but one that does not must show in them.
fn step(name: &str, check: impl FnOnce() -> Ending) -> Tally {
    println!("== {name}");
    let start = Instant::now();
    let ending = check();
    let time = units::time(start.elapsed());
    match ending {
        Ending::Passed => {
            println!("== {name}: passed in {time}\n");
            Tally::default()
        }
        Ending::Failed(reason) => {
            println!("{reason}\n== {name}: FAILED in {time}\n");
            Tally { failed: 1, ..Tally::default() }
        }
        Ending::Skipped(reason) => {
            println!("skipped: {name}: {reason}\n");
            Tally { skipped: 1, ..Tally::default() }
        }
    }
}

fn house_rules() -> Ending {
    tidy::run().map_or_else(Ending::Failed, |()| Ending::Passed)
}

fn rustfmt() -> Ending {
    check(cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> Ending {
    let mut command = cargo();
    command.args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]);
    check(&mut command)
}

fn rustdoc() -> Ending {
    let mut command = cargo();
    command.args(["doc", "--workspace", "--no-deps", "--quiet"]);
    check(command.env("RUSTDOCFLAGS", "-D warnings"))
}

fn check(command: &mut Command) -> Ending {
    match command.status() {
        Ok(status) if status.success() => Ending::Passed,
        Ok(status) => Ending::Failed(format!("{command:?} ended with {status}")),
        Err(cause) => Ending::Failed(format!("cannot start {command:?}: {cause}")),
    }
}

fn dependencies() -> Ending {
    deny(&["bans", "licenses", "sources"])
}

/// Known holes in what we depend on; the list of them comes from the network.
fn advisories() -> Ending {
    deny(&["advisories"])
}

/// Not installed where it is missing: building it takes longer than all the tests.
fn deny(what: &[&str]) -> Ending {
    let mut command = cargo();
    match try_run(command.args(["deny", "--workspace", "check"]).args(what)) {
        Ok(_) => Ending::Passed,
        Err(sentence) if sentence.contains("no such command") => {
            Ending::Skipped("cargo-deny is not installed (cargo install cargo-deny)".to_string())
        }
        Err(sentence) if sentence.contains("failed to fetch advisory database") => {
            Ending::Skipped("the list of advisories cannot be fetched".to_string())
        }
        Err(sentence) => Ending::Failed(sentence),
    }
}

/// Runs the tests, shows what they say, and counts.
fn tests() -> Tally {
    println!("== tests");
    let start = Instant::now();
    let scratch = TempDir::new("skips");
    let skips = scratch.join("skips");
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-fail-fast"]);
    command.env("BLOCKPRINT_SKIPS", &skips).env("BLOCKPRINT_TEST_ROOT", test_root());
    if env::var_os("CI").is_some() {
        command.env("BLOCKPRINT_NO_SKIPS", "1");
    }
    let (mut tally, succeeded) = counted(command).unwrap_or_else(|cause| {
        println!("cannot run the tests: {cause}");
        (Tally::default(), false)
    });
    if !succeeded && tally.failed == 0 {
        println!("cargo test failed before the tests ran");
        tally.failed = 1;
    }
    let skipped = fs::read_to_string(&skips).unwrap_or_default();
    print!("{skipped}");
    tally.move_to_skipped(skipped.lines().count() as u64);
    println!("== tests: {tally} in {}\n", units::time(start.elapsed()));
    tally
}

/// The tally of a `cargo test`, and whether it succeeded. Both its outputs go through one pipe to keep their order.
fn counted(mut command: Command) -> io::Result<(Tally, bool)> {
    let (output, input) = io::pipe()?;
    command.stdout(input.try_clone()?).stderr(input);
    let mut child = command.spawn()?;
    // The command holds writing ends of the pipe; while one is open, reading does not end.
    drop(command);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut lines = BufReader::new(output).split(b'\n').map_while(Result::ok);
        lines.try_for_each(|line| sender.send(line))
    });
    let mut lines = tally::Lines::default();
    loop {
        match receiver.recv_timeout(QUIET) {
            Ok(line) => {
                let line = String::from_utf8_lossy(&line);
                println!("{line}");
                lines.take(&line);
            }
            // A process that a test left behind may hold the pipe open long after the last test.
            Err(RecvTimeoutError::Timeout) if child.try_wait()?.is_none() => {}
            Err(_) => break,
        }
    }
    Ok((lines.tally(), child.wait()?.success()))
}
