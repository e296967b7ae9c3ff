//! Writers that are killed, and filesystems whose power is cut while chunks are written into them.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use chunks::store::{Length, LocalStore, PruneStore, Removed, WriteStore};
use testkit::host::{
    Filesystem, LoopOptions, Needs, Running, make_image, require, run, tool, try_run,
};

use crate::support::{
    all_verified, as_process, create, fetch, files, given, id_of, open, plain, put, quick_folder,
    temporaries,
};

const MIB: u64 = 1 << 20;
/// So many chunks between two flushes.
const FLUSHED_AT_ONCE: u64 = 40;
/// Each round writes chunks of its own.
const ROUND: &str = "BLOCKPRINT_TEST_ROUND";

fn chunk(round: u64, number: u64) -> Vec<u8> {
    plain(round << 32 | number, 500 + (number as usize * 7919) % 60_000)
}

/// Puts chunks until it is killed, or fails, and says how many were flushed. Meanwhile names and other news of
/// the filesystem become durable at moments that the store does not choose.
fn write_until_the_end(folder: &Path) {
    let round = std::env::var(ROUND).unwrap().parse().unwrap();
    let store = create(&folder.join("castr"));
    let mut beside = File::create(folder.join("beside")).unwrap();
    std::thread::spawn(
        move || while beside.write_all(b"x").and_then(|()| beside.sync_all()).is_ok() {},
    );
    for number in 0.. {
        let done = put(&store, &chunk(round, number)).and_then(|_| {
            if number % FLUSHED_AT_ONCE == FLUSHED_AT_ONCE - 1 {
                store.flush()?;
                // At once: what comes in halves was not said.
                let line = format!("\nflushed {}\n", number + 1);
                std::io::stdout().write_all(line.as_bytes()).unwrap();
            }
            Ok(())
        });
        if done.is_err() {
            return;
        }
    }
}

/// How many chunks it said that it flushed.
fn flushed(running: &Running) -> u64 {
    let said = running.stdout();
    let complete = said.rsplit_once('\n').map_or("", |(lines, _)| lines);
    let numbers = complete.lines().filter_map(|line| line.strip_prefix("flushed ")?.parse().ok());
    numbers.max().unwrap_or(0)
}

#[track_caller]
fn assert_flushed(store: &LocalStore, rounds: &[u64]) {
    all_verified(store);
    for (round, flushed) in rounds.iter().enumerate() {
        for number in 0..*flushed {
            let plain = chunk(round as u64, number);
            let found = fetch(store, &id_of(&plain), Length::Exactly(plain.len() as u64));
            assert!(found.is_some(), "chunk {number} of {flushed} in round {round} is lost");
            found.unwrap().unwrap();
        }
    }
}

/// Starts a writer, and returns after it flushed something and then worked for a time that chance decides.
fn writer_at_work(test: &str, folder: &Path, round: usize) -> Running {
    let running = as_process(test, folder).env(ROUND, round.to_string()).spawn();
    let start = std::time::Instant::now();
    while flushed(&running) == 0 {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "it flushed nothing: {}",
            running.stderr()
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_micros(fastrand::u64(0..60_000)));
    running
}

fn tomorrow() -> SystemTime {
    SystemTime::now() + Duration::from_secs(86_400)
}

#[test]
fn a_killed_writer_leaves_whole_chunks_and_files_that_a_sweep_removes() {
    if let Some(folder) = given() {
        return write_until_the_end(&folder);
    }
    let scratch = quick_folder("killed");
    let path = scratch.join("castr");
    let (mut rounds, mut left) = (Vec::new(), 0);
    for round in 0..20 {
        let test =
            "store_crash::a_killed_writer_leaves_whole_chunks_and_files_that_a_sweep_removes";
        let running = writer_at_work(test, scratch.path(), round);
        let store = open(&path);
        assert_eq!(store.sweep(tomorrow()).unwrap().files, 0, "a living writer lost its files");
        running.signal("KILL");
        let said = flushed(&running);
        assert_eq!(running.wait().signal(), Some(9));
        rounds.push(said);
        assert_flushed(&store, &rounds);
        let swept = store.sweep(tomorrow()).unwrap();
        left += swept.files;
        assert_eq!(temporaries(&path), [""; 0], "after {swept:?}");
    }
    assert!(left > 0, "no writer was killed while it had files under way");
    let writers = files(&path).into_iter().filter(|name| name.contains("writers/")).count();
    assert!(writers <= 1, "{writers} dead writers are kept");
    let chunk = id_of(&chunk(3, 0));
    assert_eq!(open(&path).remove(&chunk, tomorrow()).unwrap(), Removed::Yes, "the dead use it");
    assert!(!files(&path).iter().any(|name| name.contains("writers/")));
}

#[test]
fn after_a_power_cut_on_xfs_flushed_chunks_are_there_and_all_are_whole() {
    check_cuts(
        "store_crash::after_a_power_cut_on_xfs_flushed_chunks_are_there_and_all_are_whole",
        "xfs",
        320 * MIB,
    );
}

#[test]
fn after_a_power_cut_on_ext4_flushed_chunks_are_there_and_all_are_whole() {
    check_cuts(
        "store_crash::after_a_power_cut_on_ext4_flushed_chunks_are_there_and_all_are_whole",
        "ext4",
        256 * MIB,
    );
}

#[track_caller]
fn check_cuts(test: &str, kind: &'static str, size_bytes: u64) {
    if let Some(folder) = given() {
        return write_until_the_end(&folder);
    }
    let needs = Needs::root().filesystems(&[kind]).tools(&["xfs_io"]);
    let Some(scratch) = require(&needs) else { return };
    let image = scratch.join("image");
    make_image(kind, &image, size_bytes);
    let mut rounds = Vec::new();
    for round in 0..12 {
        let filesystem = Filesystem::mount_with(&image, &LoopOptions::default(), "");
        let running = writer_at_work(test, filesystem.path(), round);
        // Nothing that is still in memory is written any more, not even the log.
        run(tool("xfs_io").args(["-F", "-x", "-c", "shutdown"]).arg(filesystem.path()));
        let touched = try_run(tool("touch").arg(filesystem.path().join("after the cut")));
        assert!(touched.is_err(), "{kind} still works after its power was cut");
        running.signal("KILL");
        rounds.push(flushed(&running));
        running.wait();
        drop(filesystem);
        let filesystem = Filesystem::mount_with(&image, &LoopOptions::default(), "");
        let path = filesystem.path().join("castr");
        let store = open(&path);
        assert_flushed(&store, &rounds);
        store.sweep(tomorrow()).unwrap();
        assert_eq!(temporaries(&path), [""; 0]);
        let _ = fs::remove_file(filesystem.path().join("beside"));
    }
}
