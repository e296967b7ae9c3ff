//! What is believed of what was kept, after whatever may have happened in between.

use std::fs::{File as StdFile, FileTimes, OpenOptions};
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::SystemTime;

use digest::blake3;
use testkit::host::{LoopDevice, LoopOptions, Needs, TempDir, require, run, tool, try_run};

use super::*;

const MIB: u64 = 1 << 20;
const REGIONS: u64 = 20;
const SIZE: u64 = REGIONS * MIB;
const NOTHING: [u64; 0] = [];

/// A medium in a folder of its own, and the wishes for a book of it.
struct Scene {
    folder: TempDir,
    path: PathBuf,
    checkpoint_every: Duration,
}

impl Scene {
    fn new() -> Self {
        let folder = TempDir::new("book");
        let path = folder.join("disk.img");
        let mut bytes = vec![0; SIZE as usize];
        fastrand::Rng::with_seed(9).fill(&mut bytes);
        fs::write(&path, bytes).unwrap();
        Scene { folder, path, checkpoint_every: Duration::ZERO }
    }

    fn place(&self) -> BookPlace {
        BookPlace::of_target(&self.path, false, &KeepDigests::In(self.folder.join("kept")))
    }

    fn open(&self, role: Role, keep: bool) -> KeptBook {
        let subject = Subject {
            path: self.path.clone(),
            partial: None,
            begins_with: self.path.clone(),
            location: Location { format: Some(Format::Raw), path: self.path.clone() },
            role,
        };
        let mut book = KeptBook::open(subject, self.place(), keep, &Task::silent());
        book.checkpoint_every = self.checkpoint_every;
        book
    }

    /// A book of a source, for which digests are kept.
    fn source(&self) -> KeptBook {
        self.reopened(Role::Source { mark: Mark::of(&self.path) }, true)
    }

    /// A book of a target, for which none are.
    fn target(&self) -> KeptBook {
        self.reopened(Role::Target, false)
    }

    fn reopened(&self, role: Role, keep: bool) -> KeptBook {
        let book = self.open(role, keep);
        book.begin(&Shape::of(SIZE));
        book
    }

    fn digest(&self, region: u64) -> Digest {
        let mut bytes = vec![0; MIB as usize];
        StdFile::open(&self.path).unwrap().read_exact_at(&mut bytes, region * MIB).unwrap();
        blake3::hash(&bytes)
    }

    fn learn_all(&self, book: &KeptBook) {
        (0..REGIONS).for_each(|region| book.learn(region, self.digest(region)));
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        let file = OpenOptions::new().write(true).open(&self.path).unwrap();
        file.write_all_at(bytes, offset).unwrap();
    }

    /// What the file says that is there now.
    fn kept(&self) -> Vec<u64> {
        match self.place().load().unwrap() {
            Found::Record(record) => known(|region| record.digests[region as usize]),
            _ => Vec::new(),
        }
    }
}

fn known(digest: impl Fn(u64) -> Option<Digest>) -> Vec<u64> {
    (0..REGIONS).filter(|region| digest(*region).is_some()).collect()
}

fn known_to(book: &KeptBook) -> Vec<u64> {
    known(|region| book.digest(region))
}

fn all() -> Vec<u64> {
    (0..REGIONS).collect()
}

/// As `kill -9` would end it.
fn kill(book: KeptBook) {
    std::mem::forget(book);
}

/// What a target does with a region that differs.
fn rewrite(scene: &Scene, book: &KeptBook, region: u64) {
    book.forget(region).unwrap();
    scene.write(region * MIB + 5, b"new");
    book.learn(region, scene.digest(region));
}

#[test]
fn what_was_kept_is_known_the_next_time_as_long_as_nothing_changed() {
    let scene = Scene::new();
    let book = scene.source();
    assert!(known_to(&book).is_empty());
    scene.learn_all(&book);
    let root = book.root();
    book.finish().unwrap();

    for _ in 0..2 {
        let book = scene.open(Role::Source { mark: Mark::of(&scene.path) }, true);
        assert!(root.is_some() && book.root() == root, "the root is known before anything is read");
        book.begin(&Shape::of(SIZE));
        assert_eq!(known_to(&book), all());
        assert_eq!(book.digest(3), Some(scene.digest(3)));
        book.finish().unwrap();
    }

    scene.write(7 * MIB, b"x");
    let book = scene.source();
    assert_eq!((known_to(&book), book.root()), (Vec::new(), None));
}

#[test]
fn a_time_that_was_set_back_deceives_nobody() {
    let scene = Scene::new();
    let modified = fs::metadata(&scene.path).unwrap().modified().unwrap();
    let book = scene.source();
    scene.learn_all(&book);
    book.finish().unwrap();
    scene.write(7 * MIB, b"x");
    let file = OpenOptions::new().write(true).open(&scene.path).unwrap();
    file.set_times(FileTimes::new().set_modified(modified)).unwrap();
    assert_eq!(fs::metadata(&scene.path).unwrap().modified().unwrap(), modified);
    assert_eq!(known_to(&scene.source()), NOTHING);
}

#[test]
fn a_source_that_is_written_to_while_it_is_synced_is_not_kept() {
    let scene = Scene::new();
    let book = scene.source();
    scene.learn_all(&book);
    scene.write(0, b"x");
    book.finish().unwrap();
    assert!(scene.kept().is_empty());
}

#[test]
fn a_complete_sync_that_is_to_keep_nothing_leaves_nothing() {
    let scene = Scene::new();
    let book = scene.target();
    scene.learn_all(&book);
    book.settle(REGIONS, &|| Ok(())).unwrap();
    assert_eq!(scene.kept(), all());
    book.finish().unwrap();
    assert!(fs::read_dir(scene.folder.join("kept")).unwrap().next().is_none());
}

#[test]
fn what_was_kept_on_purpose_is_left_alone_by_others_until_they_write() {
    let scene = Scene::new();
    let book = scene.source();
    scene.learn_all(&book);
    book.finish().unwrap();

    let book = scene.target();
    assert_eq!(known_to(&book), NOTHING, "it is for those who ask for it");
    scene.learn_all(&book);
    book.settle(REGIONS, &|| Ok(())).unwrap();
    book.finish().unwrap();
    assert_eq!(scene.kept(), all());

    let book = scene.target();
    book.forget(3).unwrap();
    assert_eq!(scene.kept(), NOTHING, "what is written next makes it wrong");
    book.finish().unwrap();
}

#[test]
fn after_a_kill_what_was_settled_is_known_and_what_was_not_is_not() {
    let scene = Scene::new();
    let book = scene.target();
    scene.learn_all(&book);
    rewrite(&scene, &book, 0);
    rewrite(&scene, &book, 2);
    book.settle(4, &|| Ok(())).unwrap();
    rewrite(&scene, &book, 5);
    kill(book);

    let book = scene.target();
    assert_eq!(known_to(&book), [0, 1, 2, 3]);
    (0..4).for_each(|region| assert_eq!(book.digest(region), Some(scene.digest(region))));
}

#[test]
fn what_is_about_to_be_written_is_durably_out_of_the_file_before() {
    let mut scene = Scene::new();
    let book = scene.source();
    scene.learn_all(&book);
    book.finish().unwrap();

    // All is known, and kept; then the sync finds that some of it differs. It never comes to a checkpoint.
    scene.checkpoint_every = Duration::from_secs(3600);
    let book = scene.open(Role::Target, true);
    book.begin(&Shape::of(SIZE));
    assert_eq!(scene.kept(), all());
    book.forget(6).unwrap();
    assert!(!scene.kept().contains(&6));
    scene.write(6 * MIB, b"torn");
    kill(book);
    let book = scene.open(Role::Target, true);
    book.begin(&Shape::of(SIZE));
    for region in known_to(&book) {
        assert_eq!(book.digest(region), Some(scene.digest(region)), "of {region}");
    }
}

#[test]
fn nothing_is_called_durable_that_was_learnt_or_forgotten_while_the_flush_was_under_way() {
    let scene = Scene::new();
    let book = scene.target();
    (0..8).for_each(|region| book.learn(region, scene.digest(region)));
    let meanwhile = || {
        rewrite(&scene, &book, 3);
        book.learn(9, scene.digest(9));
        assert_eq!(scene.kept(), NOTHING, "nothing is kept before the flush has ended");
        Ok(())
    };
    book.settle(10, &meanwhile).unwrap();
    assert_eq!(scene.kept(), [0, 1, 2, 4, 5, 6, 7]);
    kill(book);
}

#[test]
fn after_a_flush_that_failed_nothing_more_is_kept() {
    let scene = Scene::new();
    let book = scene.target();
    scene.learn_all(&book);
    let failure = || Err(Error::new(ErrorKind::Io, "no"));
    book.settle(REGIONS, &failure).unwrap_err();
    book.settle(REGIONS, &|| Ok(())).unwrap();
    assert!(scene.kept().is_empty());
    drop(book);
    assert!(scene.kept().is_empty());
}

#[test]
fn a_sync_that_ends_early_in_good_order_loses_nothing_that_was_known() {
    let mut scene = Scene::new();
    scene.checkpoint_every = Duration::from_secs(3600);
    let book = scene.target();
    scene.learn_all(&book);
    rewrite(&scene, &book, 1);
    book.forget(2).unwrap();
    scene.write(2 * MIB, b"torn");
    drop(book);
    let book = scene.target();
    let expected: Vec<u64> = all().into_iter().filter(|region| *region != 2).collect();
    assert_eq!(known_to(&book), expected);
    assert_eq!(book.digest(1), Some(scene.digest(1)));
    drop(book);

    scene.write(9 * MIB, b"x");
    assert_eq!(known_to(&scene.target()), NOTHING, "somebody else wrote there");
}

#[test]
fn after_a_kill_a_target_that_somebody_else_wrote_to_later_is_not_believed() {
    let scene = Scene::new();
    let book = scene.target();
    scene.learn_all(&book);
    book.settle(REGIONS, &|| Ok(())).unwrap();
    kill(book);
    let later = SystemTime::now() + Duration::from_secs(60);
    let set = |time| {
        let file = OpenOptions::new().write(true).open(&scene.path).unwrap();
        file.set_times(FileTimes::new().set_modified(time)).unwrap();
    };
    set(later);
    assert_eq!(known_to(&scene.open_and_begin()), NOTHING);
    set(SystemTime::now());
    assert_eq!(known_to(&scene.open_and_begin()), all());
    // At once, where the time says nothing: samples tell.
    scene.write(4096, b"another filesystem");
    assert_eq!(known_to(&scene.open_and_begin()), NOTHING);
}

impl Scene {
    /// A book that is looked into, and leaves what is kept as it is.
    fn open_and_begin(&self) -> Looking {
        Looking(Some(self.target()))
    }
}

struct Looking(Option<KeptBook>);

impl std::ops::Deref for Looking {
    type Target = KeptBook;
    fn deref(&self) -> &KeptBook {
        self.0.as_ref().unwrap()
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        if let Some(book) = self.0.take() {
            kill(book);
        }
    }
}

#[test]
fn a_file_that_took_the_place_of_the_old_one_is_another() {
    let scene = Scene::new();
    let book = scene.target();
    scene.learn_all(&book);
    book.settle(REGIONS, &|| Ok(())).unwrap();
    kill(book);
    let other = scene.folder.join("other");
    fs::copy(&scene.path, &other).unwrap();
    fs::rename(&other, &scene.path).unwrap();
    assert_eq!(known_to(&scene.open_and_begin()), NOTHING);
}

#[test]
fn a_damaged_file_of_digests_says_nothing_and_is_replaced() {
    let scene = Scene::new();
    let book = scene.source();
    scene.learn_all(&book);
    book.finish().unwrap();
    let path = scene.place().path().to_owned();
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let book = scene.source();
    assert!(known_to(&book).is_empty());
    scene.learn_all(&book);
    book.finish().unwrap();
    assert_eq!(known_to(&scene.source()), all());
}

#[test]
fn digests_for_which_there_is_no_room_stop_nothing() {
    let scene = Scene::new();
    // No folder can be made where a file stands.
    fs::write(scene.folder.join("kept"), "in the way").unwrap();
    let book = scene.target();
    scene.learn_all(&book);
    book.settle(REGIONS, &|| Ok(())).unwrap();
    book.forget(1).unwrap();
    assert_eq!(book.digest(0), Some(scene.digest(0)));
    book.finish().unwrap();
}

#[test]
fn a_grown_image_keeps_the_digests_of_the_regions_that_it_had() {
    let scene = Scene::new();
    let book = scene.source();
    scene.learn_all(&book);
    book.finish().unwrap();
    let book = scene.open(Role::Target, true);
    book.begin(&Shape::of(SIZE + 5 * MIB));
    assert_eq!(known_to(&book), all());
    assert_eq!((book.digest(REGIONS), book.root()), (None, None));
    book.forget(2).unwrap();
    assert_eq!(scene.kept(), NOTHING, "it was about another cut");
    kill(book);
}

#[test]
fn a_device_is_known_until_anything_is_written_or_discarded_on_it() {
    let Some(_scratch) = require(&Needs::root().tools(&["losetup", "blkdiscard"])) else { return };
    let mut scene = Scene::new();
    let device = LoopDevice::attach(&scene.path, &LoopOptions::default());
    scene.path = device.path().to_owned();
    let keep = || {
        let book = scene.source();
        scene.learn_all(&book);
        book.finish().unwrap();
        assert_eq!(scene.kept(), all(), "a loop device tells all that is needed");
    };
    keep();
    assert_eq!(known_to(&Looking(Some(scene.source()))), all());
    scene.write(9 * MIB, &[1; 512]);
    assert_eq!(known_to(&Looking(Some(scene.source()))), NOTHING, "a write");
    keep();
    assert_eq!(known_to(&Looking(Some(scene.source()))), all());
    run(tool("blkdiscard").args(["--offset", "1M", "--length", "1M"]).arg(device.path()));
    assert_eq!(known_to(&Looking(Some(scene.source()))), NOTHING, "a discard");
}

#[test]
fn a_device_that_was_attached_anew_or_whose_file_was_written_to_is_another() {
    let Some(_scratch) = require(&Needs::root().tools(&["losetup"])) else { return };
    let mut scene = Scene::new();
    let file = scene.path.clone();
    let keep = |scene: &Scene| {
        let book = scene.source();
        scene.learn_all(&book);
        book.finish().unwrap();
        assert_eq!(known_to(&Looking(Some(scene.source()))), all());
    };
    let device = Numbered::attach(&file);
    scene.path = device.path.clone();
    keep(&scene);
    let below = OpenOptions::new().write(true).open(&file).unwrap();
    below.write_all_at(b"below", 5 * MIB).unwrap();
    assert_eq!(known_to(&Looking(Some(scene.source()))), NOTHING);
    keep(&scene);
    drop(device);
    let device = Numbered::attach(&file);
    assert_eq!(device.path, scene.path);
    assert_eq!(known_to(&Looking(Some(scene.source()))), NOTHING);
}

/// A loop device with a number that nobody else takes while it is detached: the system gives out low ones.
struct Numbered {
    path: PathBuf,
}

impl Numbered {
    fn attach(file: &Path) -> Self {
        let path = PathBuf::from(format!("/dev/loop{}", 300 + std::process::id() % 600));
        // Whoever has it open for a moment keeps it from being detached at once.
        for _ in 0..100 {
            if try_run(tool("losetup").arg(&path).arg(file)).is_ok() {
                return Numbered { path };
            }
            thread::sleep(Duration::from_millis(100));
        }
        panic!("{} stays in use", path.display());
    }
}

impl Drop for Numbered {
    fn drop(&mut self) {
        // Fails only if it is gone already.
        let _ = try_run(tool("losetup").arg("--detach").arg(&self.path));
    }
}

#[test]
fn of_a_device_whose_writer_was_killed_what_was_settled_is_known_unless_others_wrote_much() {
    let Some(_scratch) = require(&Needs::root().tools(&["losetup", "blkdiscard"])) else { return };
    let mut scene = Scene::new();
    let device = LoopDevice::attach(&scene.path, &LoopOptions::default());
    scene.path = device.path().to_owned();
    let flush = || {
        StdFile::open(&scene.path).unwrap().sync_all().unwrap();
        Ok(())
    };
    let book = scene.target();
    scene.learn_all(&book);
    rewrite(&scene, &book, 3);
    book.settle(8, &flush).unwrap();
    rewrite(&scene, &book, 9);
    kill(book);
    let expected: Vec<u64> = (0..8).collect();
    assert_eq!(known_to(&scene.open_and_begin()), expected);
    // What its beginning says is looked at; beyond that the count of what was written to it tells.
    for _ in 0..=MORE_BYTES / (8 * MIB) + REGIONS {
        run(tool("blkdiscard").args(["--offset", "10M", "--length", "8M"]).arg(device.path()));
    }
    assert_eq!(known_to(&scene.open_and_begin()), NOTHING);
}
