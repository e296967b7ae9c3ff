//! What is in a store.

use std::collections::HashSet;

use chunks::store::{Form, Stored};
use image::{Phase, Result, Task};

use crate::stores::{self, StoreLocation};

/// What a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreReport {
    /// The store.
    pub store: String,
    /// Distinct chunks.
    pub chunks: u64,
    /// Files of compressed chunks.
    pub compressed: u64,
    /// The space that they take, in bytes.
    pub compressed_bytes: u64,
    /// Files of plain chunks.
    pub plain: u64,
    /// The space that they take, in bytes.
    pub plain_bytes: u64,
}

/// Counts the chunks of a store.
pub fn info(location: &StoreLocation, task: &Task) -> Result<StoreReport> {
    let store = stores::open_prune(location)?;
    let mut report = StoreReport { store: store.name().to_string(), ..StoreReport::default() };
    let mut seen = HashSet::new();
    task.begin(Phase::Map, 0);
    store.list(&mut |stored: Stored| {
        task.checkpoint()?;
        match stored.form {
            Form::Compressed => {
                report.compressed += 1;
                report.compressed_bytes += stored.len_bytes;
            }
            Form::Plain => {
                report.plain += 1;
                report.plain_bytes += stored.len_bytes;
            }
        }
        report.chunks += u64::from(seen.insert(stored.id));
        Ok(())
    })?;
    Ok(report)
}

/// Calls `visit` with each chunk of a store.
pub fn list(
    location: &StoreLocation,
    task: &Task,
    visit: &mut dyn FnMut(&Stored) -> Result<()>,
) -> Result<()> {
    stores::open_prune(location)?.list(&mut |stored| {
        task.checkpoint()?;
        visit(&stored)
    })
}
