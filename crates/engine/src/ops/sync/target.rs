//! What a sync writes to: a device, a file in place, a new file, or a clone that takes the place of the old one.

use image::layers::Throttle;
use image::ranges::RangeSet;
use image::{ImageMut, Result, Task};

use super::EndRequest;
use crate::location::Location;
use crate::registry::{Facts, Identity};
use crate::target::TargetKind;

/// A claimed target. Nothing is changed before [`begin`](sync::Target::begin).
pub(super) struct SyncTarget {}

impl SyncTarget {
    /// Claims what is at `location`, or will be; `source` is the source's facts, where that is local.
    pub(super) fn claim(
        location: &Location,
        end: &EndRequest,
        source: Option<&Facts>,
        task: &Task,
    ) -> Result<Self> {
        let _ = (location, end, source, task, None::<Throttle>);
        todo!()
    }

    /// What it is.
    pub(super) fn kind(&self) -> TargetKind {
        todo!()
    }

    /// Which medium holds what is compared with the source, and whether it is ours alone (a partial file); for a book.
    pub(super) fn identity(&self) -> Result<Option<Identity>> {
        todo!()
    }

    /// Damaged blocks of a container that were made anew.
    pub(super) fn repaired(&self) -> RangeSet {
        todo!()
    }
}

impl sync::Target for SyncTarget {
    fn size_bytes(&self) -> u64 {
        todo!()
    }
    fn begin(&mut self, _: u64) -> Result<()> {
        todo!()
    }
    fn image(&self) -> &dyn ImageMut {
        todo!()
    }
    fn resize(&mut self, _: u64) -> Result<()> {
        todo!()
    }
    fn finish(&mut self) -> Result<()> {
        todo!()
    }
}
