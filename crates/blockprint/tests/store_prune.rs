//! `blockprint store prune`: it takes what no index names, and nothing else.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::judges::{assert_sound, chunk_files, ids, make_index, place, store};
use crate::store::Scene;
use crate::support::{KIB, assert_refused, make, make_noise, names};

/// Makes all chunks of a store so old.
fn age(store: &Path, age: Duration) {
    let times = FileTimes::new().set_modified(SystemTime::now() - age);
    for name in chunk_files(store) {
        File::open(store.join(name)).unwrap().set_times(times).unwrap();
    }
}

#[test]
fn without_a_readable_index_nothing_is_removed() {
    let scene = Scene::new(390, 600 * KIB);
    let all = chunk_files(&scene.store);
    let folder = scene.scratch.join("indexes");
    fs::create_dir(&folder).unwrap();
    let prune = |what: &[&Path]| {
        store(&scene.scratch, "prune", &scene.store).args(what).args(["--grace", "0"]).run()
    };
    assert_refused(prune(&[&folder]), 17, &["no index was found"]);
    prune(&[]).expect_exit(2);
    assert_refused(prune(&[&scene.scratch.join("missing.caibx")]), 10, &["missing.caibx"]);
    let whole = fs::read(&scene.index).unwrap();
    let bad = folder.join("bad.caibx");
    for bytes in [&whole[..whole.len() - 40], &whole[..50], b"", &[&whole[..], b"x"].concat()] {
        fs::write(&bad, bytes).unwrap();
        // Beside a good one too: what the bad one named is not known.
        assert_refused(prune(&[&scene.index, &folder]), 18, &["bad.caibx"]);
    }
    let mut flags = whole.clone();
    flags[21] = 1;
    fs::write(&bad, flags).unwrap();
    assert_refused(prune(&[&folder]), 16, &["bad.caibx", "--lenient"]);
    fs::remove_file(&bad).unwrap();
    symlink("nowhere", &bad).unwrap();
    assert_refused(prune(&[&scene.index, &folder]), 10, &["indexes"]);
    assert_eq!(chunk_files(&scene.store), all, "something was removed");
}

#[test]
fn prune_removes_what_no_index_names_and_nothing_else() {
    let scene = Scene::new(391, 600 * KIB);
    let deep = scene.scratch.join("indexes/of/machines");
    fs::create_dir_all(&deep).unwrap();
    let linked = scene.scratch.join("linked");
    fs::create_dir(&linked).unwrap();
    symlink(&linked, scene.scratch.join("indexes/link")).unwrap();
    symlink("..", scene.scratch.join("indexes/of/circle")).unwrap();
    let image = scene.scratch.join("image");
    let mut wanted = ids(&scene.index);
    for (seed, index) in [
        (392, Some(deep.join("a.caibx"))),
        (393, Some(linked.join("b.caibx"))),
        (394, Some(scene.scratch.join("indexes/notes.txt"))),
        (395, None),
    ] {
        make_noise(&image, seed, 300 * KIB);
        let path = index.clone().unwrap_or(scene.scratch.join("gone.caibx"));
        make_index(&scene.scratch, &path, &image, &scene.store).run().expect_ok();
        match index {
            Some(path) if path.extension().unwrap() == "caibx" => wanted.extend(ids(&path)),
            _ => {}
        }
    }
    let all = chunk_files(&scene.store);
    let folder = scene.scratch.join("indexes");
    let prune = |options: &[&str]| {
        let call = store(&scene.scratch, "prune", &scene.store).arg(&scene.index).arg(&folder);
        call.args(options).arg("--json").run().expect_ok()
    };
    // All is younger than an hour, the default.
    let young = prune(&[]).result();
    assert_eq!(
        (&young["removed"], &young["kept"]),
        (&0.into(), &(all.len() - wanted.len()).into())
    );
    age(&scene.store, Duration::from_secs(3000));
    assert_eq!(prune(&[]).result()["removed"], 0);
    assert_eq!(prune(&["--grace", "1h"]).result()["removed"], 0);
    let plan = prune(&["--grace", "40m", "--dry-run"]).events("plan").remove(0);
    assert_eq!(chunk_files(&scene.store), all, "a dry run removed something");
    assert_eq!(plan["unused"], all.len() - wanted.len());
    assert_eq!(plan["used"], wanted.len());
    let result = prune(&["--grace", "40m"]).result();
    assert_eq!(
        (&result["removed"], &result["removed_bytes"]),
        (&plan["unused"], &plan["unused_bytes"])
    );
    let left = chunk_files(&scene.store);
    assert_eq!(left.len(), wanted.len());
    assert!(wanted.iter().all(|id| place(&scene.store, id).exists()));
    assert_sound(&scene.scratch, &scene.store);
    // A chunk that an index names and that is missing is told.
    fs::remove_file(place(&scene.store, wanted.first().unwrap())).unwrap();
    assert_eq!(prune(&[]).result()["missing"], 1);
}

#[test]
fn prune_takes_a_chunk_in_both_forms_and_counts_it_once() {
    let scene = Scene::new(397, 600 * KIB);
    let chunks = chunk_files(&scene.store).len();
    let plain = scene.scratch.join("plain");
    store(&scene.scratch, "copy", &scene.store).arg(&plain).arg("--uncompressed").run().expect_ok();
    for name in chunk_files(&plain) {
        fs::copy(plain.join(&name), scene.store.join(&name)).unwrap();
    }
    let files = chunk_files(&scene.store);
    let len = |name: &String| fs::metadata(scene.store.join(name)).unwrap().len();
    let bytes: u64 = files.iter().map(len).sum();
    let other = scene.scratch.join("other.caibx");
    make(&scene.image, 398, &[]);
    make_index(&scene.scratch, &other, &scene.image, &scene.store).run().expect_ok();
    age(&scene.store, Duration::from_secs(60));
    let call = store(&scene.scratch, "prune", &scene.store).arg(&other);
    let result = call.args(["--grace", "0", "--json"]).run().expect_ok().result();
    assert_eq!((&result["removed"], &result["removed_bytes"]), (&chunks.into(), &bytes.into()));
    assert_eq!(chunk_files(&scene.store), [""; 0]);
}

#[test]
fn what_the_dead_left_is_swept_and_foreign_files_stay() {
    let scene = Scene::new(396, 300 * KIB);
    let some = scene.store.join(&chunk_files(&scene.store)[0]);
    let folder = some.parent().unwrap();
    let id = some.file_stem().unwrap().to_str().unwrap();
    let old = FileTimes::new().set_modified(SystemTime::now() - Duration::from_secs(7200));
    let leftovers = [format!("{id}.0123456789abcdef.tmp"), ".tmp-cacnk12345".to_string()];
    for name in leftovers.iter().map(String::as_str).chain(["mine.tmp"]) {
        fs::write(folder.join(name), "by halves").unwrap();
        File::options().write(true).open(folder.join(name)).unwrap().set_times(old).unwrap();
    }
    let fresh = format!("{id}.00000000deadbeef.tmp");
    fs::write(folder.join(&fresh), "somebody works on it").unwrap();
    let before = assert_sound(&scene.scratch, &scene.store).result();
    let result = store(&scene.scratch, "prune", &scene.store).arg(&scene.index).arg("--json").run();
    let result = result.expect_ok().result();
    assert_eq!((&result["leftovers"], &result["removed"]), (&2.into(), &0.into()));
    let left = names(folder);
    assert!(left.contains(&fresh) && left.contains(&"mine.tmp".to_string()), "{left:?}");
    assert!(!leftovers.iter().any(|name| left.contains(name)), "{left:?}");
    assert_eq!(assert_sound(&scene.scratch, &scene.store).result()["chunks"], before["chunks"]);
}
