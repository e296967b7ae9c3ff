//! `blockprint store`: damage is found wherever it is, copies are whole; `prune` is in `store_prune`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use testkit::host::{TempDir, run, tool};

use crate::judges::{
    assert_complete, assert_sound, casync_extract, casync_make, chunk_files, folder_for_casync,
    ids, make_index, place, quick_folder, store,
};
use crate::support::{KIB, MIB, Part, assert_refused, assert_same, make, make_noise, names};

/// An image that compresses by half, its index, and its store.
pub(crate) struct Scene {
    pub(crate) scratch: TempDir,
    pub(crate) image: PathBuf,
    pub(crate) index: PathBuf,
    pub(crate) store: PathBuf,
}

impl Scene {
    pub(crate) fn new(seed: u64, len: u64) -> Self {
        let scratch = quick_folder("store");
        let [image, index, store] =
            ["disk.img", "disk.caibx", "store"].map(|name| scratch.join(name));
        let scene = Scene { scratch, image, index, store };
        let part = len / 8;
        let mut parts = [Part::Noise(part), Part::Zeroes(part)].repeat(4);
        parts.push(Part::Noise(len % 8 + 1));
        make(&scene.image, seed, &parts);
        make_index(&scene.scratch, &scene.index, &scene.image, &scene.store).run().expect_ok();
        scene
    }

    /// `store verify` finds exactly `files` damaged, and names each.
    #[track_caller]
    fn assert_found(&self, files: &[&Path], options: &[&str]) -> serde_json::Value {
        let call = store(&self.scratch, "verify", &self.store).args(options);
        let outcome = call.arg("--json").run();
        let result = outcome.result();
        let found = result["damaged"].as_array().unwrap().clone();
        assert_eq!(found.len(), files.len(), "{outcome}");
        assert_eq!(result["damaged_count"], files.len());
        for file in files {
            let shown = file.display().to_string();
            let names_it =
                |one: &serde_json::Value| one["message"].as_str().unwrap().contains(&shown);
            assert!(found.iter().any(names_it), "{shown} is not named:\n{outcome}");
        }
        assert_eq!(outcome.status.code(), Some(if result["sound"] == true { 0 } else { 1 }));
        result
    }
}

/// Replaces what is in a file that may be read-only.
fn put(path: &Path, bytes: &[u8]) {
    let _ = fs::remove_file(path);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_bit_that_flipped_anywhere_in_any_chunk_is_found() {
    let scene = Scene::new(380, 500 * KIB);
    let files = chunk_files(&scene.store);
    assert!(files.len() >= 4, "{files:?}");
    let mut rng = fastrand::Rng::with_seed(381);
    let whole: Vec<Vec<u8>> =
        files.iter().map(|name| fs::read(scene.store.join(name)).unwrap()).collect();
    // Magic number, header, length, first block, anywhere, the checksum at the end.
    for place in [0, 3, 4, 5, 6, 9, usize::MAX, usize::MAX, usize::MAX - 1, usize::MAX - 4] {
        for (name, whole) in files.iter().zip(&whole) {
            let at = match place {
                usize::MAX => rng.usize(0..whole.len()),
                end if end > whole.len() => whole.len() - (usize::MAX - end),
                start => start,
            };
            let mut bit = rng.u8(0..8);
            // One bit of the header says nothing, and zstd does not look at it.
            while at == 4 && bit == 4 {
                bit = rng.u8(0..8);
            }
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            put(&scene.store.join(name), &bytes);
        }
        let paths: Vec<PathBuf> = files.iter().map(|name| scene.store.join(name)).collect();
        let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        scene.assert_found(&paths, &[]);
    }
    for (name, whole) in files.iter().zip(&whole) {
        put(&scene.store.join(name), whole);
    }
    assert_sound(&scene.scratch, &scene.store);
}

#[test]
fn plain_chunks_truncated_empty_and_foreign_files_are_judged_too() {
    let scene = Scene::new(382, 700 * KIB);
    let copy = scene.scratch.join("plain");
    store(&scene.scratch, "copy", &scene.store).arg(&copy).arg("--uncompressed").run().expect_ok();
    assert_sound(&scene.scratch, &copy);
    let files = chunk_files(&copy);
    let paths: Vec<PathBuf> = files.iter().map(|name| copy.join(name)).collect();
    let mut bytes = fs::read(&paths[0]).unwrap();
    *bytes.last_mut().unwrap() ^= 0x80;
    put(&paths[0], &bytes);
    put(&paths[1], &bytes[1..]);
    put(&paths[2], b"");
    let scene = Scene { store: copy.clone(), ..scene };
    scene.assert_found(&[&paths[0], &paths[1], &paths[2]], &[]);
    // What is no chunk by its name is nobody's business.
    fs::write(copy.join("README"), "mine").unwrap();
    fs::write(paths[3].with_extension("txt"), "mine too").unwrap();
    fs::create_dir(copy.join("0x00")).unwrap();
    scene.assert_found(&[&paths[0], &paths[1], &paths[2]], &["--remove"]);
    assert_sound(&scene.scratch, &copy);
    assert_eq!(chunk_files(&copy).len(), files.len() - 3 + 1);
}

#[test]
fn damaged_chunks_are_removed_or_replaced() {
    let scene = Scene::new(383, 900 * KIB);
    let backup = scene.scratch.join("backup");
    store(&scene.scratch, "copy", &scene.store).arg(&backup).run().expect_ok();
    let all: Vec<PathBuf> =
        chunk_files(&scene.store).iter().map(|name| scene.store.join(name)).collect();
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 16;
        put(path, &bytes);
    };
    flip(&all[0]);
    put(&all[1], b"");
    flip(&all[2]);
    // The backup has lost one of them, and another is damaged there too.
    fs::remove_file(backup.join(all[1].strip_prefix(&scene.store).unwrap())).unwrap();
    flip(&backup.join(all[2].strip_prefix(&scene.store).unwrap()));
    let from = backup.display().to_string();
    let result = scene.assert_found(&[&all[0], &all[1], &all[2]], &["--repair-from", &from]);
    assert_eq!((&result["repaired"], &result["sound"]), (&1.into(), &false.into()));
    let result = scene.assert_found(&[&all[1], &all[2]], &["--remove"]);
    assert_eq!((&result["removed"], &result["sound"]), (&2.into(), &true.into()));
    assert!(!all[1].exists() && !all[2].exists());
    assert_sound(&scene.scratch, &scene.store);
    // The next make keeps them anew.
    let call = make_index(&scene.scratch, &scene.index, &scene.image, &scene.store);
    let result = call.args(["--force", "--json"]).run().expect_ok().result();
    assert_eq!(result["store"]["new_chunks"], 2);
    assert_complete(&scene.index, &scene.store, "made again");
    store(&scene.scratch, "verify", &scene.store)
        .args(["--remove", "--repair-from", &from])
        .run()
        .expect_exit(2);
}

#[test]
fn a_good_chunk_is_not_lost_with_a_bad_one_of_the_same_name() {
    let scene = Scene::new(384, 500 * KIB);
    let plain = scene.scratch.join("plain");
    store(&scene.scratch, "copy", &scene.store).arg(&plain).arg("--uncompressed").run().expect_ok();
    let files = chunk_files(&plain);
    let twins: Vec<(PathBuf, PathBuf)> = files
        .iter()
        .map(|name| (scene.store.join(format!("{name}.cacnk")), scene.store.join(name)))
        .collect();
    for (name, (_, twin)) in files.iter().zip(&twins) {
        fs::copy(plain.join(name), twin).unwrap();
    }
    assert_sound(&scene.scratch, &scene.store);
    // casync reads the plain one first; here one of each form is bad, and one is empty.
    put(&twins[0].0, b"bad");
    put(&twins[1].1, b"bad");
    put(&twins[2].1, b"");
    scene.assert_found(&[&twins[0].0, &twins[1].1, &twins[2].1], &[]);
    let result = scene.assert_found(&[&twins[0].0, &twins[1].1, &twins[2].1], &["--remove"]);
    assert_eq!(result["sound"], true);
    assert_sound(&scene.scratch, &scene.store);
    for (number, (compressed, plain)) in twins.iter().enumerate() {
        let there = [compressed, plain].map(|path| path.exists());
        let expected = if number < 3 { there[0] || there[1] } else { there == [true, true] };
        assert!(expected, "chunk {number} was lost: {there:?}");
    }
}

#[test]
fn casyncs_own_stores_are_read_whatever_they_are_packed_with() {
    let Some(scratch) = folder_for_casync() else { return };
    let image = scratch.join("disk.img");
    make(&image, 385, &[Part::Noise(900 * KIB), Part::Zeroes(600 * KIB), Part::Noise(5)]);
    let path = scratch.join("store");
    let mut all = BTreeSet::new();
    for (kind, digest) in [("xz", "sha256"), ("gzip", "sha512-256"), ("zstd", "sha256")] {
        let index = scratch.join(format!("{kind}.caibx"));
        let options = [&format!("--compression={kind}")[..], &format!("--digest={digest}")];
        let sizes = if kind == "zstd" { "--chunk-size=40000" } else { "--chunk-size=65536" };
        casync_make(&index, &image, &path, &[options[0], options[1], sizes]);
        all.extend(ids(&index));
    }
    let result = assert_sound(&scratch, &path).result();
    assert_eq!(result["chunks"], all.len());
    let info = store(&scratch, "info", &path).arg("--json").run().expect_ok().result();
    assert_eq!((&info["chunks"], &info["plain"]["chunks"]), (&all.len().into(), &0.into()));
    let listed = store(&scratch, "list", &path).run().expect_ok().stdout;
    let listed: BTreeSet<String> = listed.lines().map(str::to_string).collect();
    assert_eq!(listed, all);
    let long = store(&scratch, "list", &path).arg("--long").run().expect_ok().stdout;
    assert!(long.lines().all(|line| line.split('\t').nth(1) == Some("compressed")), "{long}");

    // What casync calls unused, we do; and its gc works on a store in which we worked.
    let kept = scratch.join("xz.caibx");
    let plan = store(&scratch, "prune", &path).arg(&kept).args(["--grace", "0", "--dry-run"]);
    let plan = plan.arg("--json").run().expect_ok().events("plan").remove(0);
    assert_eq!(plan["used"], ids(&kept).len());
    let option = format!("--store={}", path.display());
    let said = run(tool("casync").args(["gc", "--dry-run"]).arg(&option).arg(&kept));
    assert!(said.contains(&format!("remove {} chunks", plan["unused"])), "{said}\n{plan}");
    store(&scratch, "prune", &path).arg(&kept).args(["--grace", "0"]).run().expect_ok();
    assert_eq!(chunk_files(&path).len(), ids(&kept).len());
    run(tool("casync").arg("gc").arg(&option).arg(&kept));
    assert_complete(&kept, &path, "after casync gc");
    let extracted = scratch.join("extracted");
    casync_extract(&kept, &extracted, &path);
    assert_same(&extracted, &image);
}

#[test]
fn copies_have_all_or_what_is_asked_for_in_either_form() {
    if folder_for_casync().is_none() {
        return;
    }
    let scene = Scene::new(386, 2 * MIB);
    let other = scene.scratch.join("other.caibx");
    let image = scene.scratch.join("other.img");
    make_noise(&image, 387, MIB);
    make_index(&scene.scratch, &other, &image, &scene.store).run().expect_ok();
    let copy = |name: &str, options: &[&str]| {
        let target = scene.scratch.join(name);
        let call = store(&scene.scratch, "copy", &scene.store).arg(&target).args(options);
        (call.arg("--json").run().expect_ok().result(), target)
    };
    let (result, all) = copy("all", &[]);
    assert_eq!(chunk_files(&all), chunk_files(&scene.store));
    assert_eq!(result["copied"], chunk_files(&all).len());
    assert_eq!(copy("all", &[]).0["present"], result["copied"]);

    let (index, others) = (scene.index.display().to_string(), other.display().to_string());
    let (_, one) = copy("one", &["--index", &index]);
    let kept: BTreeSet<String> = ids(&scene.index);
    assert_eq!(chunk_files(&one).len(), kept.len());
    assert_complete(&scene.index, &one, "copied");
    let (_, rest) = copy("rest", &["--ignore", &index]);
    assert_eq!(chunk_files(&rest).len(), chunk_files(&all).len() - kept.len());
    let (_, none) = copy("none", &["--index", &others, "--ignore", &others]);
    assert_eq!(chunk_files(&none).len(), 0);

    // To plain chunks and back.
    let (_, plain) = copy("plain", &["--uncompressed", "--index", &index]);
    assert!(chunk_files(&plain).iter().all(|name| !name.contains('.')));
    let again = scene.scratch.join("again");
    let call = store(&scene.scratch, "copy", &plain).arg(&again).args(["--level", "1"]);
    call.run().expect_ok();
    for path in [&plain, &again, &one] {
        assert_sound(&scene.scratch, path);
        let extracted = scene.scratch.join("extracted");
        casync_extract(&scene.index, &extracted, path);
        assert_same(&extracted, &scene.image);
        fs::remove_file(extracted).unwrap();
    }
}

#[test]
fn a_copy_never_brings_what_is_not_what_its_name_says() {
    let scene = Scene::new(388, 600 * KIB);
    let backup = scene.scratch.join("backup");
    store(&scene.scratch, "copy", &scene.store).arg(&backup).run().expect_ok();
    let bad = place(&scene.store, ids(&scene.index).first().unwrap());
    let other = place(&scene.store, ids(&scene.index).last().unwrap());
    put(&bad, &fs::read(&other).unwrap());
    let target = scene.scratch.join("target");
    let call = || store(&scene.scratch, "copy", &scene.store).arg(&target);
    assert_refused(call().run(), 18, &[&bad.display().to_string()]);
    assert_sound(&scene.scratch, &target);
    fs::remove_file(&bad).unwrap();
    let index = scene.index.display().to_string();
    assert_refused(call().args(["--index", &index]).run(), 10, &["is missing"]);
    call().arg("--store").arg(&backup).args(["--index", &index]).run().expect_ok();
    assert_complete(&scene.index, &target, "from two stores");
    assert_sound(&scene.scratch, &target);
}

#[test]
fn a_store_that_is_not_there_is_not_made_by_looking_for_it() {
    let scratch = quick_folder("store");
    let missing = scratch.join("missing");
    for command in ["info", "list", "verify"] {
        assert_refused(store(&scratch, command, &missing).run(), 10, &["missing"]);
    }
    let target = scratch.join("target");
    assert_refused(store(&scratch, "copy", &missing).arg(&target).run(), 10, &["missing"]);
    assert_refused(store(&scratch, "prune", &missing).arg(&target).run(), 10, &["missing"]);
    assert!(!missing.exists());
    assert_eq!(names(scratch.path()), [""; 0], "a target for nothing");
}
