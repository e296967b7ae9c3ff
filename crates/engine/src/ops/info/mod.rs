//! What an image is, what is in it, and who holds it.

use std::collections::HashSet;

use chunks::index::Index;
use image::{Extent, ExtentKind, ImageExt, Phase, Result, Task};
use sys::holders::Holders;

use crate::location::Location;
use crate::registry::{self, Facts};
use crate::stores::Stores;

/// What is asked.
#[derive(Clone, Debug)]
pub struct InfoRequest {
    /// The image.
    pub image: Location,
    /// Where the chunks of an index come from; they are not needed.
    pub stores: Stores,
    /// List all extents.
    pub map: bool,
}

/// What is known of an image.
#[derive(Debug)]
pub struct InfoReport {
    /// Format, sizes, medium.
    pub facts: Facts,
    /// Its runs, counted.
    pub summary: Summary,
    /// What an index names.
    pub chunks: Option<ChunkSummary>,
    /// All runs in order, if they were asked for.
    pub map: Option<Vec<Extent>>,
    /// Mounts, loop devices and others that hold it.
    pub holders: Holders,
}

/// The chunks of an index, each counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkSummary {
    /// How many there are that differ from each other.
    pub distinct: u64,
    /// Their plain bytes.
    pub distinct_bytes: u64,
}

/// Runs of each kind, merged where they touch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Runs of data.
    pub data: Count,
    /// Runs known to be zero.
    pub zero: Count,
    /// Runs that matter to nobody.
    pub unspecified: Count,
}

/// How many runs, and how many bytes in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Runs.
    pub extents: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Looks at an image. Writes nothing.
pub fn perform(request: &InfoRequest, task: &Task) -> Result<InfoReport> {
    let source = registry::open_to_look(&request.image, &request.stores, task)?;
    let mut summary = Summary::default();
    let mut map = request.map.then(Vec::new);
    task.begin(Phase::Map, source.facts.size_bytes);
    for extent in source.image.extents(0..source.facts.size_bytes) {
        task.checkpoint()?;
        let extent = extent?;
        let count = match extent.kind {
            ExtentKind::Data => &mut summary.data,
            ExtentKind::Zero => &mut summary.zero,
            ExtentKind::Unspecified => &mut summary.unspecified,
        };
        count.extents += 1;
        count.bytes += extent.len_bytes;
        if let Some(map) = &mut map {
            map.push(extent);
        }
        task.advance(extent.len_bytes);
    }
    let chunks =
        source.index.as_ref().map(|image| count_chunks(image.index(), task)).transpose()?;
    let holders = Holders::of_path(&source.facts.path)?;
    Ok(InfoReport { facts: source.facts, summary, chunks, map, holders })
}

/// What is known of it without a look at its runs. Writes nothing.
pub fn facts(request: &InfoRequest) -> Result<Facts> {
    Ok(registry::open_to_look(&request.image, &request.stores, &Task::silent())?.facts)
}

fn count_chunks(index: &Index, task: &Task) -> Result<ChunkSummary> {
    let mut seen = HashSet::new();
    let mut summary = ChunkSummary::default();
    for span in index.chunks(0..index.count()) {
        task.checkpoint()?;
        let span = span?;
        if seen.insert(span.id) {
            summary.distinct += 1;
            summary.distinct_bytes += span.len_bytes;
        }
    }
    Ok(summary)
}
