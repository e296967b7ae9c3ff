//! A sync that was killed is continued by running it again: what was settled is not read again, and the result is right
//! whatever happened in between.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use testkit::host::{LoopDevice, LoopOptions, Needs, Program, require};

use crate::support::{MIB, Part, assert_same, make, make_noise, names, overwrite, partial_of};
use crate::sync_digests::Neighbour;

const SIZE: u64 = 40 * MIB;

/// Checkpoints as often as they can be made.
fn often(program: Program) -> Program {
    program.env("BLOCKPRINT_DEBUG_CHECKPOINT_MS", "0")
}

fn digests_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".blockprint-digests");
    name.into()
}

/// Kills the end that was called when it has settled something for the first time.
fn kill_when_settled(program: Program) {
    let program = often(program).env("BLOCKPRINT_DEBUG_KILL_AT", "settled");
    assert_eq!(program.run().signal(), Some(9), "it was to be killed");
}

/// So slow that a source tells its target several times what is settled: it does that once a second.
const SLOW: &str = "--limit=16M";

/// An image, and one to be made like it that differs in each of its regions.
fn make_pair(source: &Path, old: &Path) {
    make_noise(source, 1, SIZE);
    make_noise(old, 2, SIZE);
}

#[test]
fn after_a_kill_the_next_run_knows_what_was_settled_and_ends_equal() {
    let Some(scratch) = require(&Needs::none()) else { return };
    let here = Neighbour::new(scratch);
    let source = here.path("source");
    for (name, is_there, options) in [
        ("new", false, &[SLOW][..]),
        ("in place", true, &[SLOW]),
        ("atomic", true, &[SLOW, "--atomic"]),
    ] {
        let target = here.path(name);
        make_pair(&source, &target);
        if !is_there {
            fs::remove_file(&target).unwrap();
        }
        kill_when_settled(here.pull(options, &source, &target));
        assert!(digests_of(&target).exists(), "{name}");
        assert_eq!(partial_of(&target).exists(), name != "in place");
        let result = often(here.pull(&options[1..], &source, &target)).run().expect_ok().result();
        let known = result["known_bytes"].as_u64().unwrap();
        assert!((MIB..SIZE).contains(&known), "{name}: {result}");
        assert_same(&source, &target);
        assert!(!digests_of(&target).exists() && !partial_of(&target).exists(), "{name}");
    }
    assert!(names(&here.path("state/blockprint")).is_empty(), "the source's journal is gone, too");
}

#[test]
fn a_device_is_gone_on_with_as_a_file_is() {
    let Some(scratch) = require(&Needs::root().tools(&["losetup"])) else { return };
    let here = Neighbour::new(scratch);
    let (source, disk) = (here.path("source"), here.path("disk"));
    make_pair(&source, &disk);
    let device = LoopDevice::attach(&disk, &LoopOptions::default());
    kill_when_settled(here.pull(&[SLOW], &source, device.path()));
    let result = often(here.pull(&[], &source, device.path())).run().expect_ok().result();
    assert!((MIB..SIZE).contains(&result["known_bytes"].as_u64().unwrap()), "{result}");
    assert_same(&source, device.path());
}

#[test]
fn a_source_that_was_killed_does_not_read_again_what_it_had_read() {
    let Some(scratch) = require(&Needs::none()) else { return };
    let here = Neighbour::new(scratch);
    let (source, target) = (here.path("source"), here.path("target"));
    make_pair(&source, &target);
    kill_when_settled(here.push(&[], &source, &target));
    until_free(&target);
    let in_folder = names(here.scratch.path());
    assert!(!in_folder.contains(&"source.blockprint-digests".to_owned()), "{in_folder:?}");
    let result = here.push(&[], &source, &target).run().expect_ok().result();
    assert!(result["known_bytes"].as_u64().unwrap() >= MIB, "{result}");
    assert_same(&source, &target);

    // Unless it is another one by then.
    make_pair(&source, &target);
    kill_when_settled(here.push(&[], &source, &target));
    until_free(&target);
    overwrite(&source, 7 * MIB, b"newer");
    let result = here.push(&[], &source, &target).run().expect_ok().result();
    assert_eq!(result["known_bytes"], 0, "{result}");
    assert_same(&source, &target);
}

#[test]
fn a_target_that_somebody_else_changed_between_two_runs_is_made_right() {
    let Some(scratch) = require(&Needs::none()) else { return };
    let here = Neighbour::new(scratch);
    let (source, target) = (here.path("source"), here.path("target"));
    // Somewhere, some time later; and where filesystems write, at once.
    for (offset, wait) in [(2 * MIB + 9, Duration::from_millis(2500)), (1024, Duration::ZERO)] {
        make_pair(&source, &target);
        kill_when_settled(here.pull(&[SLOW], &source, &target));
        thread::sleep(wait);
        overwrite(&target, offset, b"somebody else's");
        let result = here.pull(&[], &source, &target).run().expect_ok().result();
        assert_eq!(result["known_bytes"], 0, "{result}");
        assert_same(&source, &target);
    }
    // A partial file that was made anew is another one.
    let new = here.path("new");
    kill_when_settled(here.pull(&[SLOW], &source, &new));
    fs::remove_file(partial_of(&new)).unwrap();
    make(&partial_of(&new), 3, &[Part::Noise(SIZE)]);
    here.pull(&[], &source, &new).run().expect_ok();
    assert_same(&source, &new);
}

#[test]
fn killed_at_whatever_moment_it_ends_equal() {
    let Some(scratch) = require(&Needs::none()) else { return };
    let here = Neighbour::new(scratch);
    let (source, target) = (here.path("source"), here.path("target"));
    let mut random = fastrand::Rng::with_seed(8);
    let mut killed = 0;
    for round in 0..12 {
        make_pair(&source, &target);
        let options: &[&str] = if round % 2 == 0 { &[] } else { &["--keep-digests"] };
        for _ in 0..2 {
            // Whatever is killed, its other end ends as well.
            let is_pull = random.bool();
            let program = match is_pull {
                true => here.pull(options, &source, &target),
                false => here.push(options, &source, &target),
            };
            until_free(&target);
            let running = often(program).spawn();
            thread::sleep(Duration::from_millis(random.u64(5..250)));
            running.signal("KILL");
            killed += u32::from(running.wait().signal() == Some(9));
            // It may have come to its end, or not even to its beginning.
            overwrite(&source, random.u64(0..SIZE - 9), b"newer");
        }
        until_free(&target);
        often(here.pull(options, &source, &target)).run().expect_ok();
        assert_same(&source, &target);
    }
    assert!(killed > 6, "only {killed} runs were killed");
}

/// The far end of what was killed may need a moment to see it.
fn until_free(target: &Path) {
    crate::support::until("nobody writes to the target", || {
        fs::File::open(target).is_ok_and(|file| file.try_lock().is_ok())
    });
}
