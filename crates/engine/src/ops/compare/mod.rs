//! Compare two images or devices, reading only what has to be read.

mod scan;

use std::time::{Duration, Instant};

use image::layers::{Throttle, Throttled};
use image::{Image, Phase, Result, Task};

pub use scan::Differences;
pub(crate) use scan::{Pair, Scan, pairs, scan};

use crate::Threads;
use crate::location::Location;
use crate::registry::{self, Facts, Source};
use crate::stores::Stores;
use crate::used::used_only;

/// What is to be compared with what.
#[derive(Clone, Debug)]
pub struct CompareRequest {
    /// One image.
    pub a: Location,
    /// The other.
    pub b: Location,
    /// Where the chunks of those come from that are indexes.
    pub stores: Stores,
    /// Only the used blocks of the filesystem on `a` are compared, as far as partclone knows them: the rest is equal to
    /// anything.
    pub used_only: bool,
    /// Stop at the first difference.
    pub first: bool,
    /// Read at most so many bytes a second from each.
    pub limit_bytes_per_s: Option<u64>,
    /// How many threads.
    pub threads: Threads,
}

/// A comparison that can be made.
pub struct ComparePlan {
    request: CompareRequest,
    a: Source,
    b: Source,
}

/// What a comparison found.
#[derive(Clone, Debug)]
pub struct CompareReport {
    /// One image.
    pub a: Facts,
    /// The other.
    pub b: Facts,
    /// Where they differ, within the size of the smaller one.
    pub differences: Differences,
    /// Whether it stopped at the first difference.
    pub stopped_at_first: bool,
    /// How long it took.
    pub elapsed: Duration,
}

impl CompareReport {
    /// Whether both are of one size and hold the same.
    pub fn is_equal(&self) -> bool {
        self.a.size_bytes == self.b.size_bytes && self.differences.first.is_none()
    }
}

/// Opens both. Writes nothing.
pub fn plan(request: CompareRequest, task: &Task) -> Result<ComparePlan> {
    let mut a = registry::open_source_over(&request.a, &request.stores, task)?;
    let b = registry::open_source_over(&request.b, &request.stores, task)?;
    if request.used_only {
        a = used_only(a, task)?;
    }
    for facts in [&a.facts, &b.facts] {
        if let Some(format) = facts.looks_like {
            let name = facts.path.display();
            task.warn(format!(
                "{name} looks like a {format} file; its bytes are compared as they are"
            ));
        }
    }
    Ok(ComparePlan { request, a, b })
}

/// Compares.
pub fn perform(plan: ComparePlan, task: &Task) -> Result<CompareReport> {
    let start = Instant::now();
    let ComparePlan { request, a, b } = plan;
    let common_bytes = a.facts.size_bytes.min(b.facts.size_bytes);
    let (slow_a, slow_b);
    let (image_a, image_b): (&dyn Image, &dyn Image) = match request.limit_bytes_per_s {
        Some(rate) => {
            slow_a = Throttled::new(&*a.image, Throttle::new(rate));
            slow_b = Throttled::new(&*b.image, Throttle::new(rate));
            (&slow_a, &slow_b)
        }
        None => (&*a.image, &*b.image),
    };
    let what = Scan {
        a: image_a,
        b: image_b,
        ranges: std::iter::once(0..common_bytes).filter(|all| !all.is_empty()).collect(),
        threads: request.threads,
        stop_at_first: request.first,
        phase: Phase::Compare,
    };
    let scanned = scan(&what, task);
    a.tell_of_stores(task);
    b.tell_of_stores(task);
    let differences = scanned?;
    Ok(CompareReport {
        a: a.facts,
        b: b.facts,
        stopped_at_first: request.first && differences.first.is_some(),
        differences,
        elapsed: start.elapsed(),
    })
}
