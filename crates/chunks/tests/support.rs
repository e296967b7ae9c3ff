//! What several modules need: chunks to put, stores to look into, and this binary as another process.

use std::fs;
use std::path::{Path, PathBuf};

use chunks::store::{
    Chunk, DEFAULT_LEVEL, Length, LocalOptions, LocalStore, Packer, PruneStore, ReadStore,
    Unpacker, WriteStore,
};
use chunks::{Algorithm, ChunkId};
use image::Result;
use testkit::host::{Program, TempDir, mounts};

/// Bytes that differ with `seed`; half of them can be compressed.
pub(crate) fn plain(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..len).map(|at| if at % 2048 < 1024 { rng.u8(..) } else { seed as u8 }).collect()
}

pub(crate) fn id_of(plain: &[u8]) -> ChunkId {
    ChunkId::of(Algorithm::Sha512_256, plain)
}

pub(crate) fn put(store: &dyn WriteStore, plain: &Vec<u8>) -> Result<ChunkId> {
    let id = id_of(plain);
    let mut packer = Packer::new(store.form(), DEFAULT_LEVEL)?;
    store.put(&packer.seal(&id, plain)?, false)?;
    Ok(id)
}

pub(crate) fn open(path: &Path) -> LocalStore {
    LocalStore::open(path, &LocalOptions::default()).unwrap()
}

pub(crate) fn create(path: &Path) -> LocalStore {
    LocalStore::create(path, &LocalOptions::default()).unwrap()
}

/// The chunk as it lies there, verified.
pub(crate) fn fetch(store: &dyn ReadStore, id: &ChunkId, length: Length) -> Option<Result<Chunk>> {
    let packed = match store.fetch(id) {
        Ok(packed) => packed?,
        Err(error) => return Some(Err(error)),
    };
    let plain = Unpacker::default().unpack(packed, length);
    Some(plain.and_then(|plain| plain.verify(id, Algorithm::Sha512_256)))
}

/// All chunks of a store, each of which has to verify.
#[track_caller]
pub(crate) fn all_verified(store: &LocalStore) -> Vec<ChunkId> {
    let mut ids = Vec::new();
    let listed = store.list(&mut |stored| {
        fetch(store, &stored.id, Length::UNKNOWN).expect("it is listed")?;
        ids.push(stored.id);
        Ok(())
    });
    listed.unwrap();
    ids
}

/// All files below a folder, by their paths in it, sorted.
pub(crate) fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

/// Those of them that are chunks under way.
pub(crate) fn temporaries(folder: &Path) -> Vec<String> {
    let mut found = files(folder);
    found.retain(|name| name.ends_with(".tmp") || name.contains(".tmp-cacnk"));
    found
}

/// Where a store keeps a chunk that is compressed.
pub(crate) fn place(store: &Path, id: &ChunkId) -> PathBuf {
    let hex = id.hex();
    store.join(&hex[..4]).join(format!("{hex}.cacnk"))
}

/// A folder in memory, where there is one.
pub(crate) fn quick_folder(label: &str) -> TempDir {
    let memory = Path::new("/dev/shm");
    let is_memory = mounts().iter().any(|entry| entry.kind == "tmpfs" && entry.point == memory);
    if is_memory { TempDir::below(memory, label) } else { TempDir::new(label) }
}

/// One test of this binary as a process of its own, which finds out by [`given`] that it is meant.
pub(crate) fn as_process(test: &str, folder: &Path) -> Program {
    Program::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(GIVEN, folder)
}

/// The folder that this process is to work in, if it was made by [`as_process`].
pub(crate) fn given() -> Option<PathBuf> {
    std::env::var_os(GIVEN).map(PathBuf::from)
}

const GIVEN: &str = "BLOCKPRINT_TEST_STORE";
