//! Stores that are asked one after the other, with a cache in front: gives a chunk if anybody has a good one.

mod record;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use digest::{Algorithm, DIGEST_BYTES, Lanes, Message};
use image::{Error, ErrorKind, Result};

use super::{
    Chunk, DEFAULT_LEVEL, Form, Length, Packed, Packer, ReadStore, Unpacker, Unverified, WriteStore,
};
use crate::ChunkId;
use record::Record;
pub use record::{BadChunk, PlaceCounts};

/// Stores in the order in which they are asked, and a cache that is asked before them and filled by them. Shared
/// by any number of threads, each with a [`Fetcher`].
///
/// A place that does not have a chunk is passed over without a word. A damaged chunk and a place that fails are
/// remembered ([`damaged`](Chain::damaged), [`take_warnings`](Chain::take_warnings)), and the next place is asked.
/// A cache that cannot be written is never an error.
pub struct Chain {
    cache: Option<Arc<dyn WriteStore>>,
    sources: Vec<Arc<dyn ReadStore>>,
    algorithm: Algorithm,
    record: Record,
}

impl Chain {
    /// Asks `cache` first, then `sources` in order, for chunks that `algorithm` names.
    pub fn new(
        sources: Vec<Arc<dyn ReadStore>>,
        cache: Option<Arc<dyn WriteStore>>,
        algorithm: Algorithm,
    ) -> Self {
        let record = Record::new(cache.iter().len() + sources.len());
        Chain { cache, sources, algorithm, record }
    }

    /// What one thread needs to fetch chunks. `T` goes along with each chunk of [`Fetcher::push`].
    pub fn fetcher<T>(&self) -> Fetcher<'_, T> {
        Fetcher { chain: self, desk: Desk::new(self.algorithm) }
    }

    /// The digest that names the chunks.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether there is any place to ask.
    pub fn is_empty(&self) -> bool {
        self.place_count() == 0
    }

    /// Whether any place seems to have the chunk. Its content is not looked at.
    ///
    /// # Errors
    ///
    /// Of a place that could not tell, if no other place has it.
    pub fn has(&self, id: &ChunkId) -> Result<bool> {
        let mut failure = None;
        for number in 0..self.place_count() {
            match self.place(number).has(id) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(false), Err)
    }

    /// Whether the cache, if there is one, seems to have the chunk.
    ///
    /// # Errors
    ///
    /// Of the cache.
    pub fn cache_has(&self, id: &ChunkId) -> Result<bool> {
        self.cache.as_ref().map_or(Ok(false), |cache| cache.has(id))
    }

    /// How many fetches at once it profits from, besides those that keep the processors busy.
    pub fn parallel_fetches(&self) -> usize {
        self.sources.iter().map(|source| source.parallel_fetches()).max().unwrap_or(1)
    }

    /// Chunks that were bad somewhere so far, also where another place had a good one; the first
    /// [`MAX_KEPT`](Chain::MAX_KEPT) of them.
    pub fn damaged(&self) -> Vec<BadChunk> {
        self.record.damaged()
    }

    /// Sentences about what went other than wished since they were last taken: damaged chunks, places that failed,
    /// a cache that could not be written. At most [`MAX_KEPT`](Chain::MAX_KEPT) in all, and one that says so.
    pub fn take_warnings(&self) -> Vec<String> {
        self.record.take_warnings()
    }

    /// How many sentences and damaged chunks are remembered.
    pub const MAX_KEPT: usize = record::MAX_KEPT;

    /// What each place gave so far: the cache, if there is one, then the sources in order.
    pub fn counts(&self) -> Vec<PlaceCounts> {
        let is_cache = |number| self.cache.is_some() && number == 0;
        (0..self.place_count())
            .map(|number| self.record.counts(number, self.place(number).name(), is_cache(number)))
            .collect()
    }

    /// Makes what was put into the cache durable. That it failed is a warning. Happens also when the chain is
    /// dropped.
    pub fn flush_cache(&self) {
        if let Some(cache) = &self.cache
            && self.record.take_unflushed()
            && let Err(error) = cache.flush()
        {
            self.record.cache_failed(cache.name(), &error);
        }
    }

    fn place_count(&self) -> usize {
        self.cache.iter().len() + self.sources.len()
    }

    fn place(&self, number: usize) -> &dyn ReadStore {
        match (&self.cache, number) {
            (Some(cache), 0) => &**cache,
            (Some(_), number) => &*self.sources[number - 1],
            (None, number) => &*self.sources[number],
        }
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        self.flush_cache();
    }
}

/// Fetches chunks from a [`Chain`], for one thread.
pub struct Fetcher<'a, T = ()> {
    chain: &'a Chain,
    desk: Desk<T>,
}

impl<T> Fetcher<'_, T> {
    /// The chunk `id`, from the first place that has a good one.
    ///
    /// # Errors
    ///
    /// If nobody has: `Damaged` if it was bad anywhere, else the kind of the first failure, else `NotFound`. The
    /// sentence tells what was wrong at each place.
    pub fn fetch(&mut self, id: ChunkId, length: Length) -> Result<Chunk> {
        let mut search = Search::new(id, length);
        let tools = &mut self.desk.tools;
        match tools.next_candidate(self.chain, &mut search) {
            Some(candidate) => tools.conclude(self.chain, search, candidate, None),
            None => Err(search.into_error(self.chain)),
        }
    }

    /// Begins to fetch a chunk, whose digest is taken together with those of the chunks before and after it.
    /// `done` gets chunks that are finished, in no particular order, with the tags that they were pushed with; the
    /// errors are those of [`fetch`](Fetcher::fetch).
    pub fn push(
        &mut self,
        id: ChunkId,
        length: Length,
        tag: T,
        done: &mut impl FnMut(T, Result<Chunk>),
    ) {
        self.desk.push(self.chain, id, length, tag, done);
    }

    /// Works until all chunks are finished that were pushed.
    pub fn finish(&mut self, done: &mut impl FnMut(T, Result<Chunk>)) {
        self.desk.finish(self.chain, done);
    }

    /// How many chunks were pushed and are not finished.
    pub fn pending(&self) -> usize {
        self.desk.lanes.len()
    }

    /// Takes the memory of a chunk back that is no longer needed.
    pub fn recycle(&mut self, bytes: Vec<u8>) {
        self.desk.recycle(bytes);
    }
}

/// A fetcher that is not tied to its chain: each call names the same one.
pub(crate) struct Desk<T> {
    tools: Tools,
    lanes: Lanes<Flight<T>>,
}

impl<T> Desk<T> {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        Desk { tools: Tools::default(), lanes: Lanes::new(algorithm) }
    }

    pub(crate) fn push(
        &mut self,
        chain: &Chain,
        id: ChunkId,
        length: Length,
        tag: T,
        done: &mut impl FnMut(T, Result<Chunk>),
    ) {
        let tools = &mut self.tools;
        let mut search = Search::new(id, length);
        match tools.next_candidate(chain, &mut search) {
            Some(candidate) => {
                self.lanes.push(Flight { search, candidate, tag }, &mut |flight, digest| {
                    flight.land(chain, tools, &digest, done);
                });
            }
            None => done(tag, Err(search.into_error(chain))),
        }
    }

    pub(crate) fn finish(&mut self, chain: &Chain, done: &mut impl FnMut(T, Result<Chunk>)) {
        let tools = &mut self.tools;
        self.lanes.finish(&mut |flight, digest| flight.land(chain, tools, &digest, done));
    }

    pub(crate) fn recycle(&mut self, bytes: Vec<u8>) {
        self.tools.unpacker.recycle(bytes);
    }
}

/// A chunk whose digest is being taken.
struct Flight<T> {
    search: Search,
    candidate: Candidate,
    tag: T,
}

impl<T> Message for Flight<T> {
    fn piece(&self, number: usize) -> Option<&[u8]> {
        self.candidate.plain.piece(number)
    }
}

impl<T> Flight<T> {
    fn land(
        self,
        chain: &Chain,
        tools: &mut Tools,
        digest: &[u8; DIGEST_BYTES],
        done: &mut impl FnMut(T, Result<Chunk>),
    ) {
        let result = tools.conclude(chain, self.search, self.candidate, Some(digest));
        done(self.tag, result);
    }
}

/// The search for one chunk.
struct Search {
    id: ChunkId,
    length: Length,
    /// The place that is asked next.
    next: usize,
    /// What was wrong where it was not simply absent.
    failures: Vec<Error>,
    cache_is_bad: bool,
}

/// What a place gave.
struct Candidate {
    place: usize,
    plain: Unverified,
    packed_bytes: u64,
    /// As it lay there, if the cache can take it like this.
    packed: Option<Packed>,
}

impl Search {
    fn new(id: ChunkId, length: Length) -> Self {
        Search { id, length, next: 0, failures: Vec::new(), cache_is_bad: false }
    }

    fn failed(&mut self, chain: &Chain, place: usize, error: Error) {
        let damaged = error.kind() == ErrorKind::Damaged;
        self.cache_is_bad |= damaged && place == 0 && chain.cache.is_some();
        chain.record.failed(place, chain.place(place).name(), &self.id, &error);
        self.failures.push(error);
    }

    /// The error when no place is left.
    fn into_error(self, chain: &Chain) -> Error {
        let worst = self.failures.iter().find(|error| error.kind() == ErrorKind::Damaged);
        let worst = worst.or(self.failures.first());
        let kind = worst.map_or(ErrorKind::NotFound, Error::kind);
        let asked = match chain.place_count() {
            0 => "no store was named".to_string(),
            _ if self.failures.is_empty() => {
                let names: Vec<&str> =
                    (0..chain.place_count()).map(|number| chain.place(number).name()).collect();
                format!("it is not in {}", names.join(", nor in "))
            }
            count => {
                let mut parts: Vec<String> =
                    self.failures.iter().map(Error::full_sentence).collect();
                if count > parts.len() {
                    parts.push("and nobody else has it".into());
                }
                parts.join("; ")
            }
        };
        let error = Error::new(kind, format!("cannot get chunk {}: {asked}", self.id));
        match worst.and_then(Error::location) {
            Some(location) => error.at(location.name.clone(), location.range.clone()),
            None => error,
        }
    }
}

/// Contexts and buffers that are used again.
#[derive(Default)]
struct Tools {
    unpacker: Unpacker,
    packer: Option<Packer>,
}

impl Tools {
    /// Asks the places that were not asked yet, until one gives something that could be the chunk.
    fn next_candidate(&mut self, chain: &Chain, search: &mut Search) -> Option<Candidate> {
        while search.next < chain.place_count() {
            let place = search.next;
            search.next += 1;
            let packed = match chain.place(place).fetch(&search.id) {
                Ok(Some(packed)) => packed,
                Ok(None) => continue,
                Err(error) => {
                    search.failed(chain, place, error);
                    continue;
                }
            };
            let packed_bytes = packed.bytes.len() as u64;
            let kept = chain.cache_takes(place, &packed).then(|| Packed {
                bytes: packed.bytes.clone(),
                form: packed.form,
                origin: String::new(),
            });
            match self.unpacker.unpack(packed, search.length) {
                Ok(plain) => return Some(Candidate { place, plain, packed_bytes, packed: kept }),
                Err(error) => search.failed(chain, place, error),
            }
        }
        None
    }

    /// Believes the candidate, or the next one, or nobody. `digest` is that of the candidate, if it was taken.
    fn conclude(
        &mut self,
        chain: &Chain,
        mut search: Search,
        mut candidate: Candidate,
        digest: Option<&[u8; DIGEST_BYTES]>,
    ) -> Result<Chunk> {
        let mut digest = digest;
        loop {
            let Candidate { place, plain, packed_bytes, packed } = candidate;
            let believed = match digest.take() {
                Some(digest) => plain.believe(&search.id, digest),
                None => plain.verify(&search.id, chain.algorithm),
            };
            match believed {
                Ok(chunk) => {
                    chain.record.gave(place, chunk.bytes().len() as u64, packed_bytes);
                    self.remember(chain, place, &search, &chunk, packed);
                    return Ok(chunk);
                }
                Err(error) => search.failed(chain, place, error),
            }
            candidate = match self.next_candidate(chain, &mut search) {
                Some(next) => next,
                None => return Err(search.into_error(chain)),
            };
        }
    }

    /// Puts a chunk into the cache, or notes there that it was used.
    fn remember(
        &mut self,
        chain: &Chain,
        place: usize,
        search: &Search,
        chunk: &Chunk,
        packed: Option<Packed>,
    ) {
        let Some(cache) = &chain.cache else { return };
        if !chain.record.cache_is_written() {
            return;
        }
        let done = if place == 0 {
            // Refreshes its time, so that what is used is not pruned.
            cache.reuse(chunk.id()).map(|_| ())
        } else {
            chain.record.set_unflushed();
            match packed {
                Some(packed) => cache.put(&packed.seal(chunk), search.cache_is_bad),
                None => self.put(&**cache, chunk, search.cache_is_bad),
            }
        };
        if let Err(error) = done {
            chain.record.cache_failed(cache.name(), &error);
        }
    }

    fn put(&mut self, cache: &dyn WriteStore, chunk: &Chunk, replace: bool) -> Result<()> {
        let packer = match &mut self.packer {
            Some(packer) => packer,
            None => self.packer.insert(Packer::new(cache.form(), DEFAULT_LEVEL)?),
        };
        cache.put(&packer.seal(chunk.id(), &Borrowed(chunk.bytes()))?, replace)
    }
}

impl Chain {
    /// Whether the cache keeps chunks just like this one. Of compressed ones only zstd: desync reads no other.
    fn cache_takes(&self, place: usize, packed: &Packed) -> bool {
        const ZSTD: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
        let Some(cache) = &self.cache else { return false };
        place > 0
            && packed.form == Form::Compressed
            && cache.form() == Form::Compressed
            && packed.bytes.starts_with(&ZSTD)
    }
}

/// The bytes of a chunk as a message of one piece.
struct Borrowed<'a>(&'a [u8]);

impl Message for Borrowed<'_> {
    fn piece(&self, number: usize) -> Option<&[u8]> {
        (number == 0).then_some(self.0)
    }
}
