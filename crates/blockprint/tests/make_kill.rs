//! `blockprint make` and `blockprint store prune`, killed at any moment: what an index names is there, and good.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use testkit::host::{Program, TempDir};

use crate::judges::{assert_complete, assert_sound, chunk_files, make_index, quick_folder, store};
use crate::support::{KIB, MIB, Part, blockprint, make, names};

struct Scene {
    scratch: TempDir,
    image: PathBuf,
    index: PathBuf,
    store: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let scratch = quick_folder("make-kill");
        let [image, index, store] =
            ["disk.img", "disk.caibx", "store"].map(|name| scratch.join(name));
        Scene { scratch, image, index, store }
    }

    /// A new image, a part of which stood in the one before; the index that it should get.
    fn change(&self, round: u64) -> Vec<u8> {
        make(&self.image, round, &[Part::Noise(2 * MIB), Part::Hole(MIB), Part::Noise(0)]);
        let half = self.scratch.join("half");
        make(&half, round + 1, &[Part::Noise(700 * KIB)]);
        let mut bytes = fs::read(&self.image).unwrap();
        bytes.extend(fs::read(&half).unwrap());
        fs::write(&self.image, bytes).unwrap();
        let path = self.scratch.join("undisturbed");
        blockprint(&self.scratch).arg("make").arg(&path).arg(&self.image).run().expect_ok();
        let index = fs::read(&path).unwrap();
        fs::remove_file(path).unwrap();
        fs::remove_file(half).unwrap();
        index
    }

    fn make(&self) -> Program {
        make_index(&self.scratch, &self.index, &self.image, &self.store).arg("--force")
    }

    /// After a kill: the index is `old` or `new`, the store is sound, and the same again makes it `new`.
    #[track_caller]
    fn check(&self, old: Option<&[u8]>, new: &[u8], when: &str) {
        let found = fs::read(&self.index).ok();
        let is_one_of_them = found.as_deref() == old || found.as_deref() == Some(new);
        assert!(is_one_of_them, "{when}: the index is neither the old nor the new one");
        assert_eq!(
            names(self.scratch.path()).iter().filter(|name| name.contains("caibx")).count(),
            usize::from(found.is_some())
        );
        assert_sound(&self.scratch, &self.store);
        if found.is_some() {
            assert_complete(&self.index, &self.store, when);
        }
        self.make().run().expect_ok();
        assert!(fs::read(&self.index).unwrap() == new, "{when}: another index than undisturbed");
        assert_complete(&self.index, &self.store, when);
    }
}

#[test]
fn killed_at_any_moment_a_make_leaves_the_old_index_or_the_new_one_and_good_chunks() {
    let scene = Scene::new();
    fs::create_dir(&scene.store).unwrap();
    let mut rng = fastrand::Rng::with_seed(340);
    let mut in_time = 0;
    for round in 0..20 {
        let new = scene.change(round);
        let old = if round % 3 == 0 { None } else { Some(fs::read(&scene.index).unwrap()) };
        if old.is_none() {
            let _ = fs::remove_file(&scene.index);
        }
        let running = scene.make().args(["--limit", "16M"]).spawn();
        thread::sleep(Duration::from_millis(rng.u64(0..350)));
        running.signal("KILL");
        in_time += u32::from(running.wait().signal() == Some(9));
        scene.check(old.as_deref(), &new, &format!("round {round}"));
    }
    assert!(in_time > 5, "only {in_time} of 20 were killed while they worked");
    // What the dead left goes with the next prune.
    let prune = store(&scene.scratch, "prune", &scene.store).arg(&scene.index);
    prune.args(["--grace", "0"]).run().expect_ok();
    assert_complete(&scene.index, &scene.store, "pruned");
    let left: Vec<_> = chunk_files(&scene.store);
    assert!(left.iter().all(|name| name.ends_with(".cacnk")), "{left:?}");
    assert_eq!(left.len(), crate::judges::ids(&scene.index).len());
}

#[test]
fn killed_at_each_step_a_make_leaves_the_old_index_or_the_new_one_and_good_chunks() {
    let scene = Scene::new();
    let mut round = 1000;
    for step in ["created", "chunked", "flushed", "published"] {
        for has_old in [false, true] {
            round += 1;
            let new = scene.change(round);
            if !has_old {
                let _ = fs::remove_file(&scene.index);
            }
            let old = fs::read(&scene.index).ok();
            let killed = scene.make().env("BLOCKPRINT_DEBUG_KILL_AT", step).run();
            assert_eq!(killed.signal(), Some(9), "{step} never came:\n{killed}");
            let found = fs::read(&scene.index).ok();
            let expected = if step == "published" { Some(&new) } else { old.as_ref() };
            assert!(found.as_ref() == expected, "killed at {step}");
            scene.check(old.as_deref(), &new, step);
        }
    }
}

/// Makes an index of noise in small chunks, so that many of them can be removed.
fn make_many(scratch: &TempDir, name: &str, parts: &[u64], store: &Path) -> PathBuf {
    let (image, part) = (scratch.join("many.img"), scratch.join("part"));
    let mut bytes = Vec::new();
    for seed in parts {
        make(&part, *seed, &[Part::Noise(MIB)]);
        bytes.extend(fs::read(&part).unwrap());
    }
    fs::write(&image, bytes).unwrap();
    let index = scratch.join(name);
    let call = make_index(scratch, &index, &image, store).args(["--force", "--level", "1"]);
    call.args(["-m", "256B:1024B:4096B"]).run().expect_ok();
    index
}

#[test]
fn killed_at_any_moment_a_prune_leaves_every_chunk_that_an_index_names() {
    let scratch = quick_folder("prune-kill");
    let path = scratch.join("store");
    let mut rng = fastrand::Rng::with_seed(341);
    let kept = make_many(&scratch, "kept.caibx", &[1, 2], &path);
    let mut in_time = 0;
    for round in 0..20 {
        let gone = make_many(&scratch, "gone.caibx", &[2, 100 + round], &path);
        fs::remove_file(&gone).unwrap();
        let before = chunk_files(&path).len();
        let prune = || store(&scratch, "prune", &path).arg(&kept).args(["--grace", "0"]);
        let outcome = match round % 4 {
            0 => prune().env("BLOCKPRINT_DEBUG_KILL_AT", "pruning").run(),
            1 => prune().env("BLOCKPRINT_DEBUG_KILL_AT", "pruned:2").run(),
            _ => {
                let running = prune().spawn();
                thread::sleep(Duration::from_millis(rng.u64(5..60)));
                running.signal("KILL");
                running.wait()
            }
        };
        in_time += u32::from(outcome.signal() == Some(9));
        let after = chunk_files(&path).len();
        assert!(round % 4 > 1 || outcome.signal() == Some(9), "the step never came:\n{outcome}");
        assert!(round % 4 != 1 || after < before, "it should have removed some");
        assert_complete(&kept, &path, &format!("round {round}"));
    }
    assert!(in_time >= 10, "only {in_time} of 20 were killed while they worked");
    assert_sound(&scratch, &path);
    store(&scratch, "prune", &path).arg(&kept).args(["--grace", "0"]).run().expect_ok();
    assert_complete(&kept, &path, "at the end");
    assert_eq!(chunk_files(&path).len(), crate::judges::ids(&kept).len());
    assert_sound(&scratch, &path);
}
