//! Take away the chunks that no index names.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use chunks::ChunkId;
use chunks::store::{PruneStore, Removed, Stored};
use image::{Phase, Result, Task};

use super::{indexes_in, no_index};
use crate::ops::index;
use crate::stores::{self, StoreLocation};
use crate::{Lenience, Steps};

/// Which chunks may go.
#[derive(Clone, Debug)]
pub struct PruneRequest {
    /// The store.
    pub store: StoreLocation,
    /// The indexes whose chunks stay, or folders that hold them.
    pub indexes: Vec<PathBuf>,
    /// Whether unknown flags of indexes are ignored.
    pub lenience: Lenience,
    /// Chunks that were written or reused within this time stay: for programs that work without our locks.
    pub grace: Duration,
    /// Files of chunks under way that were written to within this time stay, too: others do not say that they work.
    pub leftover_grace: Duration,
    /// Told of each step.
    pub steps: Steps,
}

/// What would go.
pub struct PrunePlan {
    /// The indexes that were read.
    pub indexes: Vec<PathBuf>,
    /// Chunks that stay because an index names them.
    pub used: u64,
    /// Chunks that no index names, and that are old enough.
    pub unused: u64,
    /// The space that those take, in bytes.
    pub unused_bytes: u64,
    /// Chunks that no index names, but that are too young to go.
    pub young: u64,
    /// Chunks that indexes name and that are not there.
    pub missing: u64,
    store: Box<dyn PruneStore>,
    unused_since: SystemTime,
    left_since: SystemTime,
    candidates: Vec<(ChunkId, u64)>,
    steps: Steps,
}

impl PrunePlan {
    /// The chunks that no index names, and that are old enough.
    pub fn unused_chunks(&self) -> impl Iterator<Item = &ChunkId> {
        self.candidates.iter().map(|(id, _)| id)
    }
}

/// What went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// The store.
    pub store: String,
    /// The indexes that were read.
    pub indexes: u64,
    /// Chunks that were taken away.
    pub removed: u64,
    /// The space that they took, in bytes.
    pub removed_bytes: u64,
    /// Chunks that stayed although no index names them: young, or in use by somebody who works now.
    pub kept: u64,
    /// Chunks that indexes name.
    pub used: u64,
    /// Chunks that indexes name and that are not there.
    pub missing: u64,
    /// Files of writers that died, which were taken away too.
    pub leftovers: u64,
}

/// Reads the indexes, and finds what they do not name.
///
/// The moment is noted before the indexes are read, and lies before the beginning of everybody who works then: what
/// is used after it stays, since its index may not be among those that were read.
///
/// # Errors
///
/// `Invalid` if there is no index; `Damaged` for an index that cannot be read: nothing is removed then.
pub fn plan(request: &PruneRequest, task: &Task) -> Result<PrunePlan> {
    let store = stores::open_prune(&request.store)?;
    let settled = store.settled()?;
    let before = |grace| settled.checked_sub(grace).unwrap_or(SystemTime::UNIX_EPOCH);
    let unused_since = before(request.grace);
    let indexes = indexes_in(&request.indexes)?;
    if indexes.is_empty() {
        return Err(no_index());
    }
    let names = index::names_of(&indexes, request.lenience, task)?;
    let mut found = HashSet::new();
    let mut plan = PrunePlan {
        indexes,
        used: 0,
        unused: 0,
        unused_bytes: 0,
        young: 0,
        missing: 0,
        unused_since,
        left_since: before(request.leftover_grace),
        candidates: Vec::new(),
        steps: request.steps.clone(),
        store,
    };
    task.begin(Phase::Map, 0);
    let (mut candidates, mut young) = (Vec::<(ChunkId, u64)>::new(), 0);
    plan.store.list(&mut |stored: Stored| {
        task.checkpoint()?;
        if names.contains_key(&stored.id) {
            found.insert(stored.id);
        } else if stored.modified >= unused_since {
            young += 1;
        } else {
            candidates.push((stored.id, stored.len_bytes));
        }
        Ok(())
    })?;
    // One that is there in both forms goes as one.
    candidates.sort_unstable();
    candidates.dedup_by(|next, first| {
        let is_same = next.0 == first.0;
        first.1 += if is_same { next.1 } else { 0 };
        is_same
    });
    plan.used = found.len() as u64;
    plan.missing = names.len() as u64 - plan.used;
    plan.young = young;
    plan.unused = candidates.len() as u64;
    plan.unused_bytes = candidates.iter().map(|(_, bytes)| bytes).sum();
    plan.candidates = candidates;
    Ok(plan)
}

/// Takes the chunks away.
///
/// Each is looked at again in the moment in which it goes, under a lock that whoever reuses chunks takes too. After a
/// power cut or `kill -9` some of them are gone and some not; every chunk that an index names is there.
pub fn perform(plan: PrunePlan, task: &Task) -> Result<PruneReport> {
    let PrunePlan { store, candidates, steps, unused_since, .. } = plan;
    let mut report = PruneReport {
        store: store.name().to_string(),
        indexes: plan.indexes.len() as u64,
        used: plan.used,
        missing: plan.missing,
        kept: plan.young,
        ..PruneReport::default()
    };
    task.begin(Phase::Prune, plan.unused_bytes);
    steps.reach("pruning");
    for some in candidates.chunks(BATCH) {
        task.checkpoint()?;
        let ids: Vec<ChunkId> = some.iter().map(|(id, _)| *id).collect();
        let mut sizes = some.iter().map(|(_, bytes)| *bytes);
        store.remove_many(&ids, unused_since, &mut |_, removed| {
            let len_bytes = sizes.next().unwrap_or(0);
            task.advance(len_bytes);
            match removed {
                Removed::Yes => {
                    report.removed += 1;
                    report.removed_bytes += len_bytes;
                }
                Removed::Kept => report.kept += 1,
                Removed::Absent => {}
            }
        })?;
        steps.reach("pruned");
    }
    report.leftovers = store.sweep(plan.left_since)?.files;
    Ok(report)
}

/// Chunks between two looks at whether to stop.
const BATCH: usize = 256;
