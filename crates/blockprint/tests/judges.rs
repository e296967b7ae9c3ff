//! Independent looks at indexes and stores: read by the tests themselves, made and extracted by casync.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use testkit::host::{Needs, Outcome, Program, TempDir, mounts, require, run, tool};

use crate::support::blockprint;

/// A folder in memory, where there is one: for tests that ask for no power cut, but for many flushes.
pub(crate) fn quick_folder(label: &str) -> TempDir {
    let memory = Path::new("/dev/shm");
    let is_memory = mounts().iter().any(|entry| entry.kind == "tmpfs" && entry.point == memory);
    // A container often has 64 MiB there.
    if is_memory && free_bytes(memory) > 1 << 30 {
        TempDir::below(memory, label)
    } else {
        TempDir::new(label)
    }
}

fn free_bytes(folder: &Path) -> u64 {
    let output = run(tool("stat").args(["-f", "-c", "%a %S"]).arg(folder));
    output.split_whitespace().map(|word| word.parse::<u64>().unwrap()).product()
}

/// The same for a test that asks casync; `None` where that is missing.
#[track_caller]
pub(crate) fn folder_for_casync() -> Option<TempDir> {
    require(&Needs::none().tools(&["casync"])).map(|_| quick_folder("casync"))
}

/// `blockprint make INDEX SOURCE --store STORE`, to which options can be added.
pub(crate) fn make_index(scratch: &TempDir, index: &Path, source: &Path, store: &Path) -> Program {
    blockprint(scratch).arg("make").arg(index).arg(source).arg("--store").arg(store)
}

/// `blockprint store COMMAND STORE`, to which options can be added.
pub(crate) fn store(scratch: &TempDir, command: &str, store: &Path) -> Program {
    blockprint(scratch).args(["store", command]).arg(store)
}

/// casync makes `index` of `source`.
#[track_caller]
pub(crate) fn casync_make(index: &Path, source: &Path, store: &Path, more: &[&str]) {
    let store = format!("--store={}", store.display());
    run(tool("casync").arg("make").args(more).arg(store).arg(index).arg(source));
}

/// casync extracts `index` to `target`, which is not there yet.
#[track_caller]
pub(crate) fn casync_extract(index: &Path, target: &Path, store: &Path) {
    let store = format!("--store={}", store.display());
    run(tool("casync").args(["extract", "--seed-output=no"]).arg(store).arg(index).arg(target));
}

/// End and ID of each chunk that an index names.
#[track_caller]
pub(crate) fn items(index: &Path) -> Vec<(u64, String)> {
    let bytes = fs::read(index).unwrap();
    let (items, rest) = bytes[64..bytes.len() - 40].as_chunks::<40>();
    assert!(rest.is_empty(), "{} is cut off", index.display());
    let digits = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect();
    items
        .iter()
        .map(|item| (u64::from_le_bytes(*item.first_chunk().unwrap()), digits(&item[8..])))
        .collect()
}

/// The names in an index, each once.
#[track_caller]
pub(crate) fn ids(index: &Path) -> BTreeSet<String> {
    items(index).into_iter().map(|(_, id)| id).collect()
}

/// Where a store keeps a compressed chunk.
pub(crate) fn place(store: &Path, id: &str) -> PathBuf {
    store.join(&id[..4]).join(format!("{id}.cacnk"))
}

/// All files of chunks in a store, and what else lies in their folders, as paths below the store, sorted.
#[track_caller]
pub(crate) fn chunk_files(store: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for folder in fs::read_dir(store).unwrap() {
        let folder = folder.unwrap();
        let name = folder.file_name().into_string().unwrap();
        let is_folder_of_chunks =
            name.len() == 4 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_folder_of_chunks {
            continue;
        }
        for file in fs::read_dir(folder.path()).unwrap() {
            found.push(format!("{name}/{}", file.unwrap().file_name().to_string_lossy()));
        }
    }
    found.sort();
    found
}

/// Panics unless the store has a file for each chunk that the index names.
#[track_caller]
pub(crate) fn assert_complete(index: &Path, store: &Path, when: &str) {
    for id in ids(index) {
        let path = place(store, &id);
        let len = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        assert!(len > 0, "{when}: {} names {id}, which is gone", index.display());
    }
}

/// Panics unless `store verify` reads each chunk and finds it good.
#[track_caller]
pub(crate) fn assert_sound(scratch: &TempDir, path: &Path) -> Outcome {
    let outcome = store(scratch, "verify", path).arg("--json").run().expect_ok();
    assert_eq!(outcome.result()["sound"], true, "{outcome}");
    outcome
}

/// Panics unless only chunks lie in the store: no file under way, nobody who says that he works.
#[track_caller]
pub(crate) fn assert_only_chunks(store: &Path) {
    let files = chunk_files(store);
    let other: Vec<_> = files.iter().filter(|name| !name.ends_with(".cacnk")).collect();
    assert!(other.is_empty(), "left behind: {other:?}");
    let writers = store.join(".blockprint/writers");
    let living = fs::read_dir(&writers).map_or(0, Iterator::count);
    assert_eq!(living, 0, "a writer left its mark");
}
