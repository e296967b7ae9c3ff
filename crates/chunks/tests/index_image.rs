//! The contract of images, for what an index and a store make readable.

use std::sync::Arc;

use chunks::index::{Flags, Header, Index, IndexWriter};
use chunks::store::{Chain, DEFAULT_LEVEL, Form, LocalOptions, LocalStore, Packer, WriteStore};
use chunks::{Algorithm, ChunkId, ChunkSizes, IndexImage};
use testkit::contract::{ImageRules, check_image};
use testkit::host::TempDir;

/// Cuts at lengths that fit no block, but zeroes at the largest size, as casync does.
fn lens(content: &[u8], max: usize) -> Vec<usize> {
    let mut lens = Vec::new();
    let mut at = 0;
    while at < content.len() {
        let rest = &content[at..];
        let len = match rest.iter().take(max).all(|&byte| byte == 0) {
            true => max,
            false => [3000, 100, 1777][lens.len() % 3],
        };
        lens.push(len.min(rest.len()));
        at += lens[lens.len() - 1];
    }
    lens
}

/// An image of `content` over a store in `folder`, which keeps `cache_bytes` of decoded chunks.
fn image_of(content: &[u8], folder: &TempDir, form: Form, cache_bytes: usize) -> IndexImage {
    let algorithm = Algorithm::Sha256;
    let sizes = ChunkSizes::new(100, 1000, 4096).unwrap();
    let options = LocalOptions { form, durable: false, suffix: None };
    let store = LocalStore::create(&folder.join("store.castr"), &options).unwrap();
    let mut packer = Packer::new(form, DEFAULT_LEVEL).unwrap();
    let mut writer = IndexWriter::new(Vec::new(), &Header::new(algorithm, sizes)).unwrap();
    let mut rest = content;
    for len in lens(content, 4096) {
        let (chunk, behind) = rest.split_at(len);
        let id = ChunkId::of(algorithm, chunk);
        writer.push(&id, len as u64).unwrap();
        store.put(&packer.seal(&id, &chunk.to_vec()).unwrap(), false).unwrap();
        rest = behind;
    }
    store.flush().unwrap();
    let bytes = writer.finish().unwrap();
    let index = Index::read(&bytes[..], "test", 1 << 20, Flags::Known).unwrap();
    let chain = Chain::new(vec![Arc::new(store)], None, algorithm);
    IndexImage::with_cache(index, Arc::new(chain), cache_bytes)
}

#[test]
fn an_index_over_a_store_keeps_the_contract_of_images() {
    for form in [Form::Compressed, Form::Plain] {
        // With a cache in which nothing stays, too.
        for cache_bytes in [IndexImage::CACHE_BYTES, 0] {
            let folder = TempDir::new("index-image");
            let make = |content: &[u8]| image_of(content, &folder, form, cache_bytes);
            check_image(make, ImageRules::default());
        }
    }
}
