//! Look into an index: what it names, and what one would have to fetch that has another.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use chunks::index::Span;
use chunks::store::Chain;
use chunks::{Algorithm, ChunkId, ChunkSizes};
use image::{Phase, Result, Task};

use crate::Amount;
use crate::indexes::{Lenience, open_index};
use crate::stores::{self, Stores};

/// Which index is looked at, and what beside it.
#[derive(Clone, Debug)]
pub struct InfoRequest {
    /// The index.
    pub index: PathBuf,
    /// Whether unknown flags are ignored.
    pub lenience: Lenience,
    /// Stores that are asked which chunks they have; with none, nobody is asked.
    pub stores: Stores,
    /// Indexes of seeds: what they name need not be fetched.
    pub seeds: Vec<PathBuf>,
}

/// What an index names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexReport {
    /// The index.
    pub index: PathBuf,
    /// Its flag word.
    pub flags: u64,
    /// The digest that names the chunks.
    pub algorithm: Algorithm,
    /// The sizes that they were cut with.
    pub sizes: ChunkSizes,
    /// Size of the blob in bytes.
    pub size_bytes: u64,
    /// All chunks, and those that differ from each other.
    pub all: Amount,
    /// Each chunk counted once.
    pub distinct: Amount,
    /// Chunks of zeroes of the largest size; they are never fetched.
    pub zero: Amount,
    /// Distinct chunks that a store or cache has.
    pub in_stores: Option<Amount>,
    /// Distinct chunks that a seed has.
    pub in_seeds: Amount,
    /// Distinct chunks that the cache has.
    pub in_cache: Amount,
    /// Distinct chunks that are neither in a seed nor in the cache, zeroes included.
    pub not_at_hand: Amount,
    /// Distinct chunks that are neither in a seed, nor in the cache, nor zeroes: what an extract would fetch.
    pub to_fetch: Amount,
}

/// Counts what an index names.
pub fn info(request: &InfoRequest, task: &Task) -> Result<IndexReport> {
    let index = open_index(&request.index, request.lenience)?;
    let seeds = names_of(&request.seeds, request.lenience, task)?;
    let asked = !request.stores.is_empty();
    let chain = stores::open_chain(&request.stores, &request.index, index.algorithm(), asked)?;
    let zero = ChunkId::of_zeroes(index.algorithm(), index.sizes().max());
    let mut report = IndexReport {
        index: request.index.clone(),
        flags: index.header().flags,
        algorithm: index.algorithm(),
        sizes: index.sizes(),
        size_bytes: index.size_bytes(),
        all: Amount::default(),
        distinct: Amount::default(),
        zero: Amount::default(),
        in_stores: chain.as_ref().map(|_| Amount::default()),
        in_seeds: Amount::default(),
        in_cache: Amount::default(),
        not_at_hand: Amount::default(),
        to_fetch: Amount::default(),
    };
    task.begin(Phase::Map, index.size_bytes());
    let mut seen = HashSet::new();
    for span in index.chunks(0..index.count()) {
        task.checkpoint()?;
        let Span { id, len_bytes, .. } = span?;
        task.advance(len_bytes);
        report.all.add(len_bytes);
        if id == zero {
            report.zero.add(len_bytes);
        }
        if !seen.insert(id) {
            continue;
        }
        report.distinct.add(len_bytes);
        if let (Some(chain), Some(amount)) = (&chain, &mut report.in_stores)
            && chain.has(&id)?
        {
            amount.add(len_bytes);
        }
        let (in_seeds, in_cache) = (seeds.contains_key(&id), in_cache(chain.as_ref(), &id)?);
        if in_seeds {
            report.in_seeds.add(len_bytes);
        }
        if in_cache {
            report.in_cache.add(len_bytes);
        }
        if !in_seeds && !in_cache {
            report.not_at_hand.add(len_bytes);
            if id != zero {
                report.to_fetch.add(len_bytes);
            }
        }
    }
    Ok(report)
}

fn in_cache(chain: Option<&Chain>, id: &ChunkId) -> Result<bool> {
    chain.map_or(Ok(false), |chain| chain.cache_has(id))
}

/// Calls `visit` with each chunk of an index, in order.
pub fn chunks(
    path: &Path,
    lenience: Lenience,
    task: &Task,
    visit: &mut dyn FnMut(&Span) -> Result<()>,
) -> Result<()> {
    let index = open_index(path, lenience)?;
    for span in index.chunks(0..index.count()) {
        task.checkpoint()?;
        visit(&span?)?;
    }
    Ok(())
}

/// What one has to fetch for an index who has others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiffReport {
    /// What is wanted.
    pub wanted: PathBuf,
    /// Size of the wanted blob in bytes.
    pub size_bytes: u64,
    /// Distinct chunks of the wanted blob.
    pub distinct: Amount,
    /// Distinct chunks that both have.
    pub shared: Amount,
    /// Distinct chunks that are missing, zeroes of the largest size left out: those need not be fetched.
    pub missing: Amount,
    /// Whether the indexes were cut with the same sizes; else hardly anything can be shared.
    pub same_sizes: bool,
}

/// Compares indexes: what does somebody who has the blobs of `had` need for `wanted`? Calls `visit` with each missing
/// chunk, once, where it comes first.
pub fn diff(
    had: &[PathBuf],
    wanted: &Path,
    lenience: Lenience,
    task: &Task,
    visit: &mut dyn FnMut(&Span) -> Result<()>,
) -> Result<DiffReport> {
    let index = open_index(wanted, lenience)?;
    let known = names_of(had, lenience, task)?;
    let zero = ChunkId::of_zeroes(index.algorithm(), index.sizes().max());
    let mut same_sizes = true;
    for path in had {
        same_sizes &= open_index(path, lenience)?.header() == index.header();
    }
    let mut report = DiffReport {
        wanted: wanted.to_owned(),
        size_bytes: index.size_bytes(),
        distinct: Amount::default(),
        shared: Amount::default(),
        missing: Amount::default(),
        same_sizes,
    };
    task.begin(Phase::Compare, index.size_bytes());
    let mut seen = HashSet::new();
    for span in index.chunks(0..index.count()) {
        task.checkpoint()?;
        let span = span?;
        task.advance(span.len_bytes);
        if !seen.insert(span.id) {
            continue;
        }
        report.distinct.add(span.len_bytes);
        if known.contains_key(&span.id) {
            report.shared.add(span.len_bytes);
        } else if span.id != zero {
            report.missing.add(span.len_bytes);
            visit(&span)?;
        }
    }
    Ok(report)
}

/// The names in all of these indexes, with the lengths of their chunks in bytes.
pub(crate) fn names_of(
    paths: &[PathBuf],
    lenience: Lenience,
    task: &Task,
) -> Result<HashMap<ChunkId, u64>> {
    let mut names = HashMap::new();
    for path in paths {
        let index = open_index(path, lenience)?;
        for span in index.chunks(0..index.count()) {
            task.checkpoint()?;
            let span = span?;
            names.insert(span.id, span.len_bytes);
        }
    }
    Ok(names)
}
