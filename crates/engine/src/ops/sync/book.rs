//! Digests that are kept: until a sync is complete, or for the next one.

use std::path::Path;

use image::{Result, Task};
use sync::native::{Book, Digest, Shape};

use super::EndRequest;
use crate::registry::Facts;

/// The digests of one end's image, in memory and in a file.
pub(super) struct KeptBook {}

impl KeptBook {
    /// For a source. What was kept is used if `facts` still say that nothing has changed.
    pub(super) fn of_source(facts: &Facts, end: &EndRequest, task: &Task) -> Result<Self> {
        let _ = (facts, end, task);
        todo!()
    }

    /// For a target. What was kept by an interrupted run is used if nobody else wrote there since.
    pub(super) fn of_target(
        target: &super::target::SyncTarget,
        path: &Path,
        end: &EndRequest,
        task: &Task,
    ) -> Result<Self> {
        let _ = (target, path, end, task);
        todo!()
    }

    /// All is done: keeps all digests if that was asked for, else removes what was kept.
    pub(super) fn finish(self) -> Result<()> {
        todo!()
    }
}

impl Book for KeptBook {
    fn begin(&self, _: &Shape) {}
    fn digest(&self, _: u64) -> Option<Digest> {
        None
    }
    fn learn(&self, _: u64, _: Digest) {}
    fn forget(&self, _: u64) -> Result<()> {
        Ok(())
    }
    fn settle(&self, _: u64, _: &dyn Fn() -> Result<()>) -> Result<()> {
        Ok(())
    }
    fn root(&self) -> Option<Digest> {
        None
    }
}
