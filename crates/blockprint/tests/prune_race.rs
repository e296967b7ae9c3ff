//! `blockprint store prune` beside `blockprint make`: it wants exactly the chunks that make finds there and relies on.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testkit::host::{Program, TempDir};

use crate::judges::{assert_complete, assert_sound, make_index, quick_folder, store};
use crate::support::{KIB, MIB, Part, make, make_noise, until_stopped};

/// A store, and a folder of indexes in which one always stays.
struct Scene {
    scratch: TempDir,
    indexes: PathBuf,
    store: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let scratch = quick_folder("prune-race");
        let (indexes, store) = (scratch.join("indexes"), scratch.join("store"));
        fs::create_dir(&indexes).unwrap();
        let scene = Scene { scratch, indexes, store };
        let anchor = scene.image("anchor", 0, 0);
        scene.make("anchor", &anchor).run().expect_ok();
        scene
    }

    /// An image: something that images with the same `shared` have too, and something that none has.
    fn image(&self, name: &str, shared: u64, own: u64) -> PathBuf {
        let path = self.scratch.join(name);
        make_noise(&path, 10_000 + own, 60 * KIB);
        let own = fs::read(&path).unwrap();
        make(&path, 20_000 + shared, &[Part::Noise(MIB), Part::Hole(300 * KIB)]);
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend(own);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn index(&self, name: &str) -> PathBuf {
        self.indexes.join(format!("{name}.caibx"))
    }

    fn make(&self, name: &str, image: &Path) -> Program {
        let call = make_index(&self.scratch, &self.index(name), image, &self.store);
        call.args(["-m", "2:8:32", "--level", "1"])
    }

    fn prune(&self) -> Program {
        let call = store(&self.scratch, "prune", &self.store).arg(&self.indexes);
        call.args(["--grace", "0", "--json"])
    }
}

#[test]
fn whatever_prunes_and_makes_do_at_once_each_index_finds_its_chunks() {
    let scene = Scene::new();
    let start = Instant::now();
    let (mut rounds, mut removed, mut reused) = (0, 0, 0);
    let mut rng = fastrand::Rng::with_seed(360);
    while rounds < 40 || start.elapsed() < Duration::from_secs(8) && rounds < 100 {
        rounds += 1;
        let images: Vec<PathBuf> =
            (0..3).map(|n| scene.image(&format!("image{n}"), rounds % 4, rounds * 3 + n)).collect();
        // What the makes below will find there, and the prune will want.
        scene.make("old", &images[0]).run().expect_ok();
        fs::remove_file(scene.index("old")).unwrap();
        let delays: Vec<u64> = (0..3).map(|_| rng.u64(0..40)).collect();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let pruning = scope.spawn(|| {
                let mut removed = 0;
                while !is_over.load(Ordering::Acquire) {
                    let result = scene.prune().run().expect_ok().result();
                    removed += result["removed"].as_u64().unwrap();
                }
                removed
            });
            let making: Vec<_> = images
                .iter()
                .zip(delays)
                .enumerate()
                .map(|(n, (image, delay))| {
                    let scene = &scene;
                    scope.spawn(move || {
                        thread::sleep(Duration::from_millis(delay));
                        let name = n.to_string();
                        let made = scene.make(&name, image).arg("--json").run().expect_ok();
                        let when = format!("round {rounds}, at once");
                        assert_complete(&scene.index(&name), &scene.store, &when);
                        made.result()["store"]["reused_chunks"].as_u64().unwrap()
                    })
                })
                .collect();
            let made: Vec<_> = making.into_iter().map(thread::ScopedJoinHandle::join).collect();
            is_over.store(true, Ordering::Release);
            removed += pruning.join().unwrap();
            reused += made.into_iter().map(|made| made.unwrap()).sum::<u64>();
        });
        for n in 0..3 {
            let index = scene.index(&n.to_string());
            assert_complete(&index, &scene.store, &format!("round {rounds}, at its end"));
            fs::remove_file(index).unwrap();
        }
        assert_complete(&scene.index("anchor"), &scene.store, "anchor");
        assert!(start.elapsed() < Duration::from_secs(180), "{rounds} rounds only");
    }
    assert_sound(&scene.scratch, &scene.store);
    assert!(removed > 0 && reused > 0, "they did not meet: {removed} removed, {reused} reused");
}

#[test]
fn a_make_that_ends_between_the_look_of_a_prune_and_its_work_keeps_its_chunks() {
    let scene = Scene::new();
    let image = scene.image("image", 1, 1);
    scene.make("old", &image).run().expect_ok();
    fs::remove_file(scene.index("old")).unwrap();
    for step in ["chunked", "flushed"] {
        // It has found all its chunks, and its index has no name yet.
        let making = scene.make(step, &image).env("BLOCKPRINT_DEBUG_STOP_AT", step).spawn();
        until_stopped(&making);
        thread::sleep(Duration::from_millis(20));
        let pruning = scene.prune().env("BLOCKPRINT_DEBUG_STOP_AT", "pruning").spawn();
        until_stopped(&pruning);
        making.signal("CONT");
        making.wait().expect_ok();
        // Nobody works now, and the prune has not read the index.
        pruning.signal("CONT");
        pruning.wait().expect_ok();
        assert_complete(&scene.index(step), &scene.store, step);
        fs::remove_file(scene.index(step)).unwrap();
    }
}

#[test]
fn a_make_that_begins_after_the_look_of_a_prune_keeps_its_chunks() {
    let scene = Scene::new();
    let image = scene.image("image", 1, 1);
    scene.make("old", &image).run().expect_ok();
    fs::remove_file(scene.index("old")).unwrap();
    let pruning = scene.prune().env("BLOCKPRINT_DEBUG_STOP_AT", "pruning").spawn();
    until_stopped(&pruning);
    scene.make("new", &image).run().expect_ok();
    pruning.signal("CONT");
    let result = pruning.wait().expect_ok().result();
    assert_eq!(result["removed"], 0, "{result}");
    assert_complete(&scene.index("new"), &scene.store, "made meanwhile");
}

#[test]
fn what_a_make_found_stays_as_long_as_it_works() {
    let scene = Scene::new();
    let image = scene.image("image", 1, 1);
    scene.make("old", &image).run().expect_ok();
    fs::remove_file(scene.index("old")).unwrap();
    let making = scene.make("new", &image).env("BLOCKPRINT_DEBUG_STOP_AT", "chunked").spawn();
    until_stopped(&making);
    for _ in 0..3 {
        let result = scene.prune().run().expect_ok().result();
        assert_eq!(result["removed"], 0, "{result}");
        assert!(result["kept"].as_u64().unwrap() > 0, "{result}");
    }
    making.signal("CONT");
    making.wait().expect_ok();
    assert_complete(&scene.index("new"), &scene.store, "prunes came in between");
    // One that died protects nothing any more.
    let again = scene.make("dead", &image).env("BLOCKPRINT_DEBUG_KILL_AT", "chunked").run();
    assert_eq!(again.signal(), Some(9));
    fs::remove_file(scene.index("new")).unwrap();
    assert!(scene.prune().run().expect_ok().result()["removed"].as_u64().unwrap() > 0);
}
