//! Stores that casync and desync wrote: each chunk is read, and each blob is what it was.

use std::collections::HashSet;

use chunks::index::{Flags, Index};
use chunks::store::{
    Chunk, Form, Length, LocalOptions, LocalStore, PruneStore, ReadStore, Unpacker,
};
use chunks::{Algorithm, ChunkId};
use sys::{Access, FileMedium};

use crate::vectors;

/// Each store, its index, and the form of its chunks.
const STORES: [(&str, &str, Form); 6] = [
    ("casync-zstd", "tiny", Form::Compressed),
    ("casync-xz", "tiny", Form::Compressed),
    ("casync-gzip", "tiny", Form::Compressed),
    ("casync-zstd-sha256", "tiny-sha256", Form::Compressed),
    ("desync-zstd", "tiny-desync", Form::Compressed),
    ("desync-plain", "tiny-desync", Form::Plain),
];

fn open(store: &str, form: Form) -> LocalStore {
    let path = vectors::path(&format!("store/{store}.castr"));
    LocalStore::open(&path, &LocalOptions { form, ..LocalOptions::default() }).unwrap()
}

fn index(name: &str) -> Index {
    let path = vectors::path(&format!("store/{name}.caibx"));
    Index::open(FileMedium::open(&path, Access::Read).unwrap(), Flags::Known).unwrap()
}

fn chunk(store: &LocalStore, id: &ChunkId, length: Length, algorithm: Algorithm) -> Chunk {
    let packed = store.fetch(id).unwrap().expect("it is there");
    Unpacker::default()
        .unpack(packed, length)
        .and_then(|plain| plain.verify(id, algorithm))
        .unwrap()
}

#[test]
fn the_blob_of_each_index_comes_out_of_each_store() {
    let told = vectors::json("store/store.json");
    let input = vectors::input(&told["input"]);
    let digest = ChunkId::of(Algorithm::Sha256, &input).hex();
    assert_eq!(Some(digest.as_str()), told["input_sha256"].as_str());
    for (name, index_name, kept) in STORES {
        for form in [Form::Compressed, Form::Plain] {
            let (store, index) = (open(name, form), index(index_name));
            let mut blob = Vec::new();
            for span in index.chunks(0..index.count()) {
                let span = span.unwrap();
                assert!(store.has(&span.id).unwrap());
                let length = Length::Exactly(span.len_bytes);
                let chunk = chunk(&store, &span.id, length, index.algorithm());
                assert_eq!(blob.len() as u64, span.offset);
                blob.extend_from_slice(chunk.bytes());
                let packed = store.fetch(&span.id).unwrap().unwrap();
                assert_eq!(packed.form, kept, "{name}");
            }
            assert!(blob == input, "{name} with {index_name} gives another blob");
        }
    }
}

#[test]
fn each_chunk_of_each_store_is_listed_and_verifies() {
    let told = vectors::json("store/store.json");
    for (name, index_name, kept) in STORES {
        let (store, algorithm) = (open(name, Form::Compressed), index(index_name).algorithm());
        let mut ids = HashSet::new();
        let listed = store.list(&mut |stored| {
            assert_eq!(stored.form, kept);
            chunk(&store, &stored.id, Length::UNKNOWN, algorithm);
            assert!(ids.insert(stored.id));
            Ok(())
        });
        listed.unwrap();
        assert_eq!(Some(ids.len() as u64), told["unique_chunks"].as_u64(), "{name}");
        assert!(!store.path().join(".blockprint").exists(), "a reader wrote something");
    }
}
