//! casync itself: it writes and we read, we write and it reads, and it works in a store in which we work too.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::Path;

use chunks::index::{Flags, Header, Index, IndexWriter};
use chunks::store::{Form, Length, LocalOptions, LocalStore, PruneStore, WriteStore};
use chunks::{Algorithm, ChunkSizes};
use sys::{Access, FileMedium};
use testkit::host::{Needs, TempDir, require, run, tool};

use crate::support::{create, fetch, files, open, plain, put};

const CHUNK_BYTES: usize = 64 << 10;

fn needs() -> Needs {
    Needs::none().tools(&["casync"])
}

fn casync(scratch: &TempDir, verb: &str, store: &Path, more: &[&str]) {
    let mut command = tool("casync");
    // Else it asks for the folder of its user, and keeps what it makes there.
    command.env("HOME", scratch.path()).env("TMPDIR", scratch.path());
    run(command.arg(verb).arg(format!("--store={}", store.display())).args(more));
}

fn shown(path: &Path) -> &str {
    path.to_str().expect("the folders of tests have plain names")
}

/// Puts `blob` in pieces of [`CHUNK_BYTES`], and writes its index.
fn write_blob(store: &LocalStore, blob: &[u8], index: &Path) {
    let size = CHUNK_BYTES as u64;
    let header = Header::new(Algorithm::Sha512_256, ChunkSizes::new(size, size, size).unwrap());
    let mut writer =
        IndexWriter::new(BufWriter::new(File::create(index).unwrap()), &header).unwrap();
    for piece in blob.chunks(CHUNK_BYTES) {
        let id = put(store, &piece.to_vec()).unwrap();
        writer.push(&id, piece.len() as u64).unwrap();
    }
    store.flush().unwrap();
    writer.finish().unwrap();
}

/// The blob of an index, from a store, each chunk verified.
fn read_blob(store: &LocalStore, index: &Path) -> Vec<u8> {
    let index = FileMedium::open(index, Access::Read).unwrap();
    let index = Index::open(index, Flags::Known).unwrap();
    let mut blob = Vec::new();
    for span in index.chunks(0..index.count()) {
        let span = span.unwrap();
        let chunk = fetch(store, &span.id, Length::Exactly(span.len_bytes)).expect("it is there");
        blob.extend_from_slice(chunk.unwrap().bytes());
    }
    blob
}

#[test]
fn what_casync_makes_is_read_in_each_compression() {
    let Some(scratch) = require(&needs()) else { return };
    let (blob, input) = (plain(1, 3_000_000), scratch.join("input"));
    fs::write(&input, &blob).unwrap();
    for compression in ["zstd", "xz", "gzip"] {
        let path = scratch.join(format!("{compression}.castr"));
        let index = scratch.join(format!("{compression}.caibx"));
        let chosen = format!("--compression={compression}");
        casync(&scratch, "make", &path, &[&chosen, shown(&index), shown(&input)]);
        assert!(read_blob(&open(&path), &index) == blob, "{compression}");
    }
}

#[test]
fn casync_extracts_what_we_wrote_in_both_forms() {
    let Some(scratch) = require(&needs()) else { return };
    let blob = plain(2, 3_000_001);
    for form in [Form::Compressed, Form::Plain] {
        for durable in [true, false] {
            let name = format!("{}-{durable}", form.name());
            let path = scratch.join(format!("{name}.castr"));
            let options = LocalOptions { form, durable, suffix: None };
            let store = LocalStore::create(&path, &options).unwrap();
            let index = scratch.join(format!("{name}.caibx"));
            write_blob(&store, &blob, &index);
            let output = scratch.join(&name);
            // We still work in the store: our files are in nobody's way.
            casync(&scratch, "extract", &path, &[shown(&index), shown(&output)]);
            assert!(fs::read(&output).unwrap() == blob, "{name}");
        }
    }
}

#[test]
fn casync_collects_garbage_beside_us_and_leaves_our_files_alone() {
    let Some(scratch) = require(&needs()) else { return };
    let path = scratch.join("store.castr");
    let store = create(&path);
    let (kept, lost) = (plain(3, 500_000), plain(4, 500_000));
    let (index, other) = (scratch.join("kept.caibx"), scratch.join("lost.caibx"));
    write_blob(&store, &kept, &index);
    write_blob(&store, &lost, &other);
    let ours = |name: &String| name.starts_with(".blockprint/");
    let before: Vec<_> = files(&path).into_iter().filter(ours).collect();
    assert_eq!(before.len(), 3, "the lock, the turnstile and a writer: {before:?}");
    casync(&scratch, "gc", &path, &[shown(&index)]);
    let after: Vec<_> = files(&path).into_iter().filter(ours).collect();
    assert_eq!(after, before);
    assert!(read_blob(&store, &index) == kept);
    let mut count = 0;
    let counted = store.list(&mut |_| {
        count += 1;
        Ok(())
    });
    counted.unwrap();
    assert_eq!(count, kept.len().div_ceil(CHUNK_BYTES), "casync removed something else");
}

#[test]
fn casync_reuses_our_chunks_and_we_reuse_those_of_casync() {
    let Some(scratch) = require(&needs()) else { return };
    let path = scratch.join("store.castr");
    let (blob, input) = (plain(5, 1_000_000), scratch.join("input"));
    fs::write(&input, &blob).unwrap();
    let (ours, theirs) = (scratch.join("ours.caibx"), scratch.join("theirs.caibx"));
    let store = create(&path);
    write_blob(&store, &blob, &ours);
    let before = files(&path);
    casync(
        &scratch,
        "make",
        &path,
        &["--chunk-size=65536:65536:65536", shown(&theirs), shown(&input)],
    );
    assert!(fs::read(&ours).unwrap() == fs::read(&theirs).unwrap(), "the indexes differ");
    assert_eq!(files(&path), before, "casync wrote a chunk that was there");
    let index = FileMedium::open(&theirs, Access::Read).unwrap();
    let index = Index::open(index, Flags::Known).unwrap();
    for span in index.chunks(0..index.count()) {
        assert!(store.reuse(&span.unwrap().id).unwrap());
    }
}
