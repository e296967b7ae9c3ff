//! What an index image promises beyond the contract of images: what it fetches, when, and how often.

use std::collections::HashMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use image::{ExtentKind, ImageExt};

use super::*;
use crate::index::{Flags, Header, IndexWriter};
use crate::store::{Form, Packed, ReadStore};
use crate::{Algorithm, ChunkId, ChunkSizes};

const ALGORITHM: Algorithm = Algorithm::Sha512_256;

/// Plain chunks in memory, which counts what is fetched.
#[derive(Default)]
struct Counting {
    chunks: HashMap<ChunkId, Vec<u8>>,
    fetches: AtomicUsize,
    slow: Duration,
}

impl ReadStore for Counting {
    fn name(&self) -> &str {
        "memory"
    }
    fn has(&self, id: &ChunkId) -> Result<bool> {
        Ok(self.chunks.contains_key(id))
    }
    fn fetch(&self, id: &ChunkId) -> Result<Option<Packed>> {
        self.fetches.fetch_add(1, Ordering::Relaxed);
        thread::sleep(self.slow);
        let origin = format!("memory/{id}");
        let chunk = self.chunks.get(id).cloned();
        Ok(chunk.map(|bytes| Packed { bytes, form: Form::Plain, origin }))
    }
}

fn sizes() -> ChunkSizes {
    ChunkSizes::new(1 << 10, 4 << 10, 16 << 10).unwrap()
}

/// Cuts `content` into pieces of these lengths, over and over.
fn cut(content: &[u8], lens: &[usize]) -> (Index, Counting) {
    let mut store = Counting::default();
    let mut writer = IndexWriter::new(Vec::new(), &Header::new(ALGORITHM, sizes())).unwrap();
    let mut rest = content;
    for len in lens.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, behind) = rest.split_at(rest.len().min(*len));
        let id = ChunkId::of(ALGORITHM, chunk);
        writer.push(&id, chunk.len() as u64).unwrap();
        store.chunks.insert(id, chunk.to_vec());
        rest = behind;
    }
    (index_of(writer), store)
}

fn index_of(writer: IndexWriter<Vec<u8>>) -> Index {
    Index::read(&writer.finish().unwrap()[..], "test", 1 << 30, Flags::Known).unwrap()
}

fn image_of(index: Index, store: Counting) -> (IndexImage, Arc<Counting>) {
    let store = Arc::new(store);
    let chain = Chain::new(vec![Arc::clone(&store) as Arc<dyn ReadStore>], None, ALGORITHM);
    (IndexImage::new(index, Arc::new(chain)), store)
}

fn random(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(1).fill(&mut bytes);
    bytes
}

fn fetches(store: &Counting) -> usize {
    store.fetches.load(Ordering::Relaxed)
}

#[test]
fn a_chunk_that_many_threads_want_at_once_is_fetched_once() {
    let content = random(16 << 10);
    let (index, mut store) = cut(&content, &[16 << 10]);
    store.slow = Duration::from_millis(50);
    let (image, store) = image_of(index, store);
    let start = Barrier::new(8);
    thread::scope(|scope| {
        for number in 0..8 {
            let (image, content, start) = (&image, &content, &start);
            scope.spawn(move || {
                let mut buf = vec![0; 100];
                start.wait();
                image.read_at(&mut buf, number * 1000).unwrap();
                assert_eq!(buf, content[number as usize * 1000..][..100]);
            });
        }
    });
    assert_eq!(fetches(&store), 1);
}

#[test]
fn decoded_chunks_are_kept_up_to_the_limit() {
    let content = random(64 << 10);
    let (index, store) = cut(&content, &[16 << 10]);
    let store = Arc::new(store);
    let chain = Chain::new(vec![Arc::clone(&store) as Arc<dyn ReadStore>], None, ALGORITHM);
    let image = IndexImage::with_cache(index, Arc::new(chain), 40 << 10);
    let touch = |number: u64| {
        image.read_at(&mut [0; 10], number << 14).unwrap();
        fetches(&store)
    };
    // Two fit: of 2, 1, 0 the least recently used goes. Backwards, so that nobody reads ahead.
    assert_eq!([2, 1, 2, 0, 2, 1, 0].map(touch), [1, 2, 2, 3, 3, 4, 5]);
}

#[test]
fn a_slow_store_is_read_ahead_of_a_sequential_reader_only() {
    let content = random(4 << 20);
    let (index, mut store) = cut(&content, &[16 << 10]);
    store.slow = Duration::from_micros(200);
    let (image, store) = image_of(index, store);
    let mut buf = vec![0; 64 << 10];
    for offset in (0..4u64 << 20).step_by(buf.len()) {
        image.read_at(&mut buf, offset).unwrap();
        assert_eq!(buf, content[offset as usize..][..buf.len()]);
    }
    assert_eq!(fetches(&store), 256, "each chunk once");
    assert!(!image.ahead.is_idle(), "there were threads");

    let (index, store) = cut(&content, &[16 << 10]);
    let (image, store) = image_of(index, store);
    for offset in [3 << 20, 1 << 20, 4_100_000, 2 << 20, 100, 3_200_000] {
        image.read_at(&mut buf[..4096], offset).unwrap();
        thread::sleep(Duration::from_millis(5));
    }
    assert!(image.ahead.is_idle());
    assert!(fetches(&store) <= 12, "{} chunks", fetches(&store));
}

#[test]
fn while_one_thread_reads_in_sequence_the_next_chunks_come_by_themselves() {
    let content = random(2 << 20);
    let (index, store) = cut(&content, &[16 << 10]);
    let (image, store) = image_of(index, store);
    for number in 0..4 {
        image.read_at(&mut [0; 16 << 10], number << 14).unwrap();
    }
    let begun = Instant::now();
    while fetches(&store) < 64 && begun.elapsed() < Duration::from_secs(20) {
        thread::sleep(Duration::from_millis(1));
    }
    assert!(fetches(&store) >= 64, "a window of 1 MiB is 64 chunks");
}

#[test]
fn zero_chunks_of_the_largest_size_are_holes_and_never_fetched() {
    let mut content = random(300_000);
    content[20_000..250_000].fill(0);
    // As casync cuts: a chunk ends somewhere in front of the zeroes, then largest ones follow.
    let (index, mut store) = cut(&content[..20_100], &[15_000, 5_100]);
    let mut writer = IndexWriter::new(Vec::new(), &Header::new(ALGORITHM, sizes())).unwrap();
    for span in index.chunks(0..9).map(Result::unwrap) {
        writer.push(&span.id, span.len_bytes).unwrap();
    }
    for chunk in content[20_100..].chunks(16 << 10) {
        let id = ChunkId::of(ALGORITHM, chunk);
        writer.push(&id, chunk.len() as u64).unwrap();
        if chunk.iter().any(|&byte| byte != 0) {
            store.chunks.insert(id, chunk.to_vec());
        }
    }
    let (image, _) = image_of(index_of(writer), store);
    let runs: Vec<_> = image.extents(0..300_000).map(Result::unwrap).collect();
    let kinds: Vec<_> = runs.iter().map(|run| run.kind).collect();
    assert_eq!(kinds, [ExtentKind::Data, ExtentKind::Zero, ExtentKind::Data]);
    // From the first granule behind 20100 to the last one within 14 chunks.
    assert_eq!(runs[1].range(), 20_480..(20_100 + (14 << 14)) / 4096 * 4096);
    let mut all = vec![1; 300_000];
    image.read_at(&mut all, 0).unwrap();
    assert!(all == content);
}

#[test]
fn a_hole_of_64_gibibytes_is_walked_in_few_steps() {
    let sizes = ChunkSizes::default();
    let mut writer = IndexWriter::new(Vec::new(), &Header::new(ALGORITHM, sizes)).unwrap();
    let null = crate::ChunkId::of_zeroes(ALGORITHM, sizes.max());
    writer.push_run(&null, sizes.max(), 1 << 18).unwrap();
    writer.push(&crate::ChunkId::of_zeroes(ALGORITHM, 5000), 5000).unwrap();
    let (image, _) = image_of(index_of(writer), Counting::default());
    let size = (1 << 36) + 5000;
    assert_eq!(image.size(), size);
    let (mut at, mut calls) = (0, 0);
    while at < size {
        let run = image.extent_at(at).unwrap();
        assert_eq!(run.kind, ExtentKind::Zero);
        (at, calls) = (run.end(), calls + 1);
    }
    assert!(at == size && calls <= 257, "{calls} calls for 262145 items");
    let mut buf = [1; 4096];
    image.read_at(&mut buf, size - 4096).unwrap();
    assert_eq!(buf, [0; 4096]);
}

#[test]
fn what_nobody_has_is_an_error_of_the_first_chunk_that_is_missing() {
    let content = random(64 << 10);
    let (index, mut store) = cut(&content, &[16 << 10]);
    let ids: Vec<ChunkId> = index.chunks(0..4).map(|span| span.unwrap().id).collect();
    store.chunks.remove(&ids[2]);
    store.chunks.get_mut(&ids[1]).unwrap()[5] ^= 1;
    let (image, _) = image_of(index, store);
    let mut buf = vec![0; 64 << 10];
    let error = image.read_at(&mut buf, 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.full_sentence().contains(&ids[1].hex()));
    image.read_at(&mut buf[..16 << 10], 0).unwrap();
    let error = image.read_at(&mut buf[..10], 40 << 10).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.full_sentence().contains(&ids[2].hex()));
    assert_eq!(image.chain().damaged().len(), 1, "told once");
}

#[test]
fn one_name_with_two_lengths_is_refused() {
    let content = random(10_000);
    let (_, store) = cut(&content, &[10_000]);
    let id = ChunkId::of(ALGORITHM, &content);
    let mut writer = IndexWriter::new(Vec::new(), &Header::new(ALGORITHM, sizes())).unwrap();
    writer.push(&id, 10_000).unwrap();
    writer.push(&id, 9_999).unwrap();
    let (image, _) = image_of(index_of(writer), store);
    assert!(image.read_at(&mut [0; 10_000], 0).is_ok());
    assert_eq!(image.read_at(&mut [0; 10], 10_000).unwrap_err().kind(), ErrorKind::Damaged);
}
