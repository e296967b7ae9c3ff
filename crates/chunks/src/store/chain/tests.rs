//! What a chain promises, asked of stores in memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use super::*;
use crate::store::Sealed;

/// A store in memory, which can be told to fail.
struct Memory {
    name: &'static str,
    form: Form,
    chunks: Mutex<HashMap<ChunkId, (Form, Vec<u8>)>>,
    failing: Mutex<Option<ErrorKind>>,
    reused: AtomicUsize,
    flushed: AtomicUsize,
}

impl Memory {
    fn new(name: &'static str, form: Form) -> Arc<Self> {
        Arc::new(Memory {
            name,
            form,
            chunks: Mutex::default(),
            failing: Mutex::new(None),
            reused: AtomicUsize::new(0),
            flushed: AtomicUsize::new(0),
        })
    }

    fn chunks(&self) -> MutexGuard<'_, HashMap<ChunkId, (Form, Vec<u8>)>> {
        self.chunks.lock().unwrap()
    }

    fn fill(&self, bytes: &[u8]) -> ChunkId {
        let id = id_of(bytes);
        let mut packer = Packer::new(self.form, DEFAULT_LEVEL).unwrap();
        self.put(&packer.seal(&id, &bytes.to_vec()).unwrap(), false).unwrap();
        id
    }

    /// Puts `raw` where a chunk should be.
    fn spoil(&self, id: ChunkId, raw: &[u8]) {
        self.chunks().insert(id, (self.form, raw.to_vec()));
    }

    fn fail(&self, kind: Option<ErrorKind>) {
        *self.failing.lock().unwrap() = kind;
    }

    fn check(&self) -> Result<()> {
        match *self.failing.lock().unwrap() {
            Some(kind) => Err(Error::new(kind, format!("{} is out of order", self.name))),
            None => Ok(()),
        }
    }
}

impl ReadStore for Memory {
    fn name(&self) -> &str {
        self.name
    }

    fn has(&self, id: &ChunkId) -> Result<bool> {
        self.check()?;
        Ok(self.chunks().contains_key(id))
    }

    fn fetch(&self, id: &ChunkId) -> Result<Option<Packed>> {
        self.check()?;
        let origin = format!("{}/{id}", self.name);
        Ok(self.chunks().get(id).cloned().map(|(form, bytes)| Packed { bytes, form, origin }))
    }
}

impl WriteStore for Memory {
    fn form(&self) -> Form {
        self.form
    }

    fn reuse(&self, id: &ChunkId) -> Result<bool> {
        self.check()?;
        self.reused.fetch_add(1, Ordering::Relaxed);
        Ok(self.chunks().contains_key(id))
    }

    fn put(&self, chunk: &Sealed<'_>, replace: bool) -> Result<()> {
        self.check()?;
        assert_eq!(chunk.form(), self.form);
        let mut chunks = self.chunks();
        if replace || !chunks.contains_key(chunk.id()) {
            chunks.insert(*chunk.id(), (chunk.form(), chunk.bytes().to_vec()));
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        self.check()?;
        self.flushed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

const ALGORITHM: Algorithm = Algorithm::Sha512_256;

fn id_of(bytes: &[u8]) -> ChunkId {
    ChunkId::of(ALGORITHM, bytes)
}

fn bytes_of(number: u32) -> Vec<u8> {
    (0..1000 + number).map(|at| (at / 50 + number) as u8).collect()
}

fn chain(sources: &[&Arc<Memory>], cache: Option<&Arc<Memory>>) -> Chain {
    let sources = sources.iter().map(|&source| Arc::clone(source) as Arc<dyn ReadStore>).collect();
    let cache = cache.map(|cache| Arc::clone(cache) as Arc<dyn WriteStore>);
    Chain::new(sources, cache, ALGORITHM)
}

fn fetch(chain: &Chain, id: ChunkId) -> Result<Vec<u8>> {
    chain.fetcher::<()>().fetch(id, Length::UNKNOWN).map(Chunk::into_bytes)
}

#[test]
fn the_first_store_that_has_a_chunk_gives_it_and_absence_is_no_warning() {
    let (a, b) = (Memory::new("a", Form::Compressed), Memory::new("b", Form::Plain));
    let (in_a, in_b) = (a.fill(&bytes_of(1)), b.fill(&bytes_of(2)));
    let chain = chain(&[&a, &b], None);
    assert_eq!(fetch(&chain, in_a).unwrap(), bytes_of(1));
    assert_eq!(fetch(&chain, in_b).unwrap(), bytes_of(2));
    let counts = chain.counts();
    assert_eq!((counts[0].chunks, counts[0].bytes), (1, 1001));
    assert_eq!((counts[1].chunks, counts[1].packed_bytes), (1, 1002));
    assert_eq!((chain.take_warnings(), chain.damaged()), (vec![], vec![]));

    let error = fetch(&chain, ChunkId([7; 32])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let sentence = error.to_string();
    assert!(sentence.contains(&"07".repeat(32)) && sentence.ends_with("not in a, nor in b"));
}

#[test]
fn a_damaged_chunk_is_reported_and_the_next_store_is_asked() {
    let (a, b) = (Memory::new("a", Form::Compressed), Memory::new("b", Form::Plain));
    let id = b.fill(&bytes_of(1));
    for raw in [&b""[..], b"no frame", &[0x28, 0xB5, 0x2F, 0xFD, 1]] {
        a.spoil(id, raw);
        let chain = chain(&[&a, &b], None);
        assert_eq!(fetch(&chain, id).unwrap(), bytes_of(1));
        let damaged = chain.damaged();
        assert_eq!((damaged.len(), damaged[0].id, &*damaged[0].place), (1, id, "a"));
        assert!(chain.take_warnings()[0].contains(&format!("a/{id}")));
        assert_eq!(chain.counts()[0].damaged, 1);
    }
    b.spoil(id, b"other bytes");
    let error = fetch(&chain(&[&a, &b], None), id).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    let sentence = error.to_string();
    assert!(sentence.contains(&format!("a/{id}")) && sentence.contains(&format!("b/{id}")));
}

#[test]
fn a_store_that_fails_is_passed_over_and_named() {
    let (a, b) = (Memory::new("a", Form::Plain), Memory::new("b", Form::Plain));
    let id = b.fill(&bytes_of(1));
    a.fail(Some(ErrorKind::Io));
    let two = chain(&[&a, &b], None);
    assert_eq!(fetch(&two, id).unwrap(), bytes_of(1));
    assert!(two.has(&id).unwrap() && two.has(&ChunkId([1; 32])).is_err());
    assert_eq!(two.counts()[0].failed, 1);
    assert_eq!(two.take_warnings(), ["a is out of order"]);
    assert_eq!(two.take_warnings(), Vec::<String>::new());
    let error = fetch(&two, ChunkId([1; 32])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().ends_with("a is out of order; and nobody else has it"));
}

#[test]
fn many_chunks_at_once_come_with_their_tags_also_where_some_are_bad() {
    let (a, b) = (Memory::new("a", Form::Compressed), Memory::new("b", Form::Compressed));
    let ids: Vec<ChunkId> = (0..300).map(|number| a.fill(&bytes_of(number))).collect();
    for number in (0..300).step_by(7) {
        // A good frame of another chunk: only the digest tells.
        let other = a.chunks()[&ids[(number + 1) % 300]].clone();
        a.chunks().insert(ids[number], other);
        if number % 2 == 0 {
            b.fill(&bytes_of(number as u32));
        }
    }
    let chain = chain(&[&a, &b], None);
    let mut fetcher = chain.fetcher();
    let mut seen = vec![false; 300];
    let mut done = |number: usize, result: Result<Chunk>| {
        assert!(!std::mem::replace(&mut seen[number], true));
        if number.is_multiple_of(7) && !number.is_multiple_of(2) {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Damaged);
        } else {
            assert_eq!(result.unwrap().bytes(), bytes_of(number as u32));
        }
    };
    for (number, id) in ids.iter().enumerate() {
        // The length of the other one is not that of this one, if it is known.
        let length = match number % 14 {
            0 | 7 => Length::UNKNOWN,
            _ => Length::Exactly(1000 + number as u64),
        };
        fetcher.push(*id, length, number, &mut done);
    }
    fetcher.finish(&mut done);
    assert_eq!(fetcher.pending(), 0);
    assert!(seen.iter().all(|&seen| seen));
    assert_eq!(chain.damaged().len(), 43);
}

#[test]
fn what_is_found_upstream_is_kept_in_the_cache_in_its_form() {
    for (of_source, of_cache) in [
        (Form::Compressed, Form::Compressed),
        (Form::Compressed, Form::Plain),
        (Form::Plain, Form::Compressed),
        (Form::Plain, Form::Plain),
    ] {
        let (source, cache) = (Memory::new("source", of_source), Memory::new("cache", of_cache));
        let id = source.fill(&bytes_of(1));
        let chain = chain(&[&source], Some(&cache));
        assert_eq!(fetch(&chain, id).unwrap(), bytes_of(1));
        source.fail(Some(ErrorKind::Io));
        assert_eq!(fetch(&chain, id).unwrap(), bytes_of(1), "the cache has it");
        assert_eq!(cache.reused.load(Ordering::Relaxed), 1, "its time is refreshed");
        let counts = chain.counts();
        assert!(counts[0].is_cache && (counts[0].chunks, counts[1].chunks) == (1, 1));
        assert_eq!(chain.take_warnings(), Vec::<String>::new());
        drop(chain);
        assert_eq!(cache.flushed.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn a_bad_chunk_in_the_cache_is_replaced() {
    let (source, cache) = (Memory::new("source", Form::Plain), Memory::new("cache", Form::Plain));
    let id = source.fill(&bytes_of(1));
    cache.spoil(id, b"bad");
    let chain = chain(&[&source], Some(&cache));
    assert_eq!(fetch(&chain, id).unwrap(), bytes_of(1));
    assert_eq!(cache.chunks()[&id].1, bytes_of(1));
    assert_eq!(chain.damaged()[0].place, "cache");
}

#[test]
fn a_cache_that_cannot_be_written_is_a_warning() {
    struct ReadOnly(Arc<Memory>);
    impl ReadStore for ReadOnly {
        fn name(&self) -> &str {
            "cache"
        }
        fn has(&self, id: &ChunkId) -> Result<bool> {
            self.0.has(id)
        }
        fn fetch(&self, id: &ChunkId) -> Result<Option<Packed>> {
            self.0.fetch(id)
        }
    }
    impl WriteStore for ReadOnly {
        fn form(&self) -> Form {
            Form::Plain
        }
        fn reuse(&self, _: &ChunkId) -> Result<bool> {
            Err(Error::new(ErrorKind::Denied, "read-only"))
        }
        fn put(&self, _: &Sealed<'_>, _: bool) -> Result<()> {
            Err(Error::new(ErrorKind::Full, "no space"))
        }
        fn flush(&self) -> Result<()> {
            Ok(())
        }
    }
    let source = Memory::new("source", Form::Plain);
    let ids = [1, 2, 3].map(|number| source.fill(&bytes_of(number)));
    let cache = ReadOnly(Memory::new("cache", Form::Plain));
    let sources: Vec<Arc<dyn ReadStore>> = vec![source];
    let chain = Chain::new(sources, Some(Arc::new(cache)), ALGORITHM);
    for (id, number) in ids.into_iter().zip(1..) {
        assert_eq!(fetch(&chain, id).unwrap(), bytes_of(number));
    }
    let warnings = chain.take_warnings();
    assert_eq!(warnings.len(), 1, "it is said once: {warnings:?}");
    assert!(warnings[0].contains("no space"));
}

#[test]
fn a_foreign_compression_is_packed_anew_for_the_cache() {
    let (source, cache) =
        (Memory::new("source", Form::Compressed), Memory::new("cache", Form::Compressed));
    let bytes = bytes_of(1);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gzip, &bytes).unwrap();
    let id = id_of(&bytes);
    source.spoil(id, &gzip.finish().unwrap());
    assert_eq!(fetch(&chain(&[&source], Some(&cache)), id).unwrap(), bytes);
    assert!(cache.chunks()[&id].1.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]));
}

#[test]
fn no_more_warnings_are_kept_than_were_promised() {
    let source = Memory::new("source", Form::Plain);
    source.fail(Some(ErrorKind::Io));
    let chain = chain(&[&source], None);
    for _ in 0..1000 {
        fetch(&chain, ChunkId([1; 32])).unwrap_err();
    }
    assert_eq!(chain.take_warnings().len(), Chain::MAX_KEPT + 1);
}
