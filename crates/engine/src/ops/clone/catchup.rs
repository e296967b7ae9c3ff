//! A clone that is made before the freeze and brought up to date within it.
//!
//! FICLONE takes 10 to 30 µs for each extent: seconds for a fragmented image, all of them inside the freeze if
//! it is done then. So the blocks are shared while writers go on, in short calls that hold none of them up for
//! long; then the physical extent maps of source and clone tell what has changed since, again and again; and
//! in the frozen moment only the last of it is left to share.
//!
//! Why the result is the same as one FICLONE in the frozen moment: a shared block is never overwritten in
//! place, on XFS as on Btrfs. So where both maps name the same place on the disk, or both have a hole, both
//! files hold the same bytes. All other ranges are shared again while nothing can change. After the thaw the
//! clone's map is read once more and held against the source's map of the frozen moment: that is the proof.

use std::io;
use std::ops::Range;

use image::{Error, ErrorKind, Result, Task};
use sys::PhysicalMap;

use super::target::Target;
use super::{Method, PlannedClone, clone_failed};

/// The clone of one file, under way.
pub(super) struct Catchup<'a> {
    clone: &'a PlannedClone,
    target: &'a Target,
    state: State,
}

enum State {
    /// Nothing is shared yet: one FICLONE in the frozen moment is quick enough, or the only way.
    Whole,
    /// Blocks are shared; the map is the clone's own as it is now.
    Shared { target_map: PhysicalMap },
    /// Done, with what the proof needs.
    Finished { frozen_map: PhysicalMap, moved: Vec<Range<u64>> },
}

/// So much is shared to see whether it can be done: a multiple of every block size.
const PROBE_BYTES: u64 = 1 << 20;
/// Below this, one FICLONE takes no longer than reading the maps.
const FEW_EXTENTS: usize = 400;
/// How many extents are shared in one call while writers go on: about 10 ms.
const EXTENTS_PER_CALL: usize = 400;
/// So few differing ranges are left for the frozen moment.
const SETTLED_RANGES: usize = 200;

impl<'a> Catchup<'a> {
    /// Shares the blocks of a fragmented file with its clone; of another one, nothing yet.
    pub(super) fn begin(
        clone: &'a PlannedClone,
        target: &'a Target,
        task: &Task,
    ) -> Result<Catchup<'a>> {
        let mut catchup = Catchup { clone, target, state: State::Whole };
        let size = clone.size_bytes;
        // What cannot be shared at all is better known before anything is frozen for it.
        catchup.share(0..size.min(PROBE_BYTES)).or_else(|cause| catchup.unless_resized(cause))?;
        // A filesystem that does not tell its maps is cloned in one call.
        let Ok(map) = PhysicalMap::read(&clone.file) else { return Ok(catchup) };
        if map.extents().len() < FEW_EXTENTS {
            return Ok(catchup);
        }
        task.begin(image::Phase::Clone, size);
        match catchup.share_all(&map, task) {
            Ok(target_map) => catchup.state = State::Shared { target_map },
            Err(error) => catchup.unless_resized(error)?,
        }
        Ok(catchup)
    }

    /// Shares all blocks in short calls.
    fn share_all(&self, map: &PhysicalMap, task: &Task) -> Result<PhysicalMap> {
        let size = self.clone.size_bytes;
        self.target.file().set_len(size).map_err(|cause| clone_failed(self.clone, cause))?;
        let mut start = 0;
        for last in map.extents().chunks(EXTENTS_PER_CALL).filter_map(<[_]>::last) {
            task.checkpoint()?;
            let end = (last.offset + last.len_bytes).min(size);
            if end > start {
                self.share(start..end)?;
                task.advance(end - start);
                start = end;
            }
        }
        // What lies behind the last extent was a hole on both sides.
        self.read_target_map(0)
    }

    /// Ranges cannot be shared any more if the source is not as large as it was: then one FICLONE in the frozen
    /// moment has to do.
    fn unless_resized(&self, error: Error) -> Result<()> {
        match self.is_resized() && error.kind() != ErrorKind::Cancelled {
            true => Ok(()),
            false => Err(error),
        }
    }

    fn is_resized(&self) -> bool {
        !self.clone.file.metadata().is_ok_and(|now| now.len() == self.clone.size_bytes)
    }

    /// Shares what has changed since. Returns whether little is left.
    pub(super) fn advance(&mut self) -> Result<bool> {
        let State::Shared { target_map } = &self.state else { return Ok(true) };
        if self.is_resized() {
            self.start_over()?;
            return Ok(true);
        }
        let expected = target_map.extents().len();
        let source_map = self.read_source_map(expected)?;
        let changed = source_map.differing(target_map, self.clone.size_bytes);
        let settled = changed.len() <= SETTLED_RANGES;
        for range in changed {
            if let Err(error) = self.share(range) {
                self.unless_resized(error)?;
                self.start_over()?;
                return Ok(true);
            }
        }
        self.state = State::Shared { target_map: self.read_target_map(expected)? };
        Ok(settled)
    }

    /// Completes the clone. Called while nothing can write to the source.
    pub(super) fn finish(&mut self) -> Result<Method> {
        let State::Shared { target_map } = &self.state else { return self.finish_whole() };
        if self.is_resized() {
            return self.finish_whole();
        }
        let frozen_map = self.read_source_map(target_map.extents().len() + SPARE_EXTENTS)?;
        let moved = frozen_map.differing(target_map, self.clone.size_bytes);
        for range in &moved {
            self.share(range.clone())?;
        }
        let frozen_bytes = moved.iter().map(|range| range.end - range.start).sum();
        self.state = State::Finished { frozen_map, moved };
        Ok(Method::ReflinkCatchup { frozen_bytes })
    }

    fn finish_whole(&mut self) -> Result<Method> {
        if self.is_resized() {
            // FICLONE makes a file longer, but never shorter.
            self.start_over()?;
        }
        sys::clone_whole(&self.clone.file, self.target.file())
            .map_err(|cause| clone_failed(self.clone, cause))?;
        Ok(Method::Reflink)
    }

    /// Whether the clone's extents are those that the source had in the frozen moment. Ranges whose place on the
    /// disk is not told were shared in that moment itself.
    pub(super) fn is_proven(&mut self) -> bool {
        let State::Finished { frozen_map, moved } = &self.state else { return true };
        let Ok(target_map) = self.read_target_map(frozen_map.extents().len()) else { return false };
        let opaque = |range: &Range<u64>| {
            let within =
                moved.iter().any(|moved| moved.start <= range.start && range.end <= moved.end);
            within && frozen_map.is_untold_within(range)
        };
        frozen_map.differing(&target_map, self.clone.size_bytes).iter().all(opaque)
    }

    /// Forgets what is shared.
    pub(super) fn start_over(&mut self) -> Result<()> {
        self.target.file().set_len(0).map_err(|cause| clone_failed(self.clone, cause))?;
        self.state = State::Whole;
        Ok(())
    }

    fn share(&self, range: Range<u64>) -> Result<()> {
        sys::clone_range(&self.clone.file, self.target.file(), range)
            .map_err(|cause| clone_failed(self.clone, cause))
    }

    fn read_source_map(&self, expected: usize) -> Result<PhysicalMap> {
        self.map_error(PhysicalMap::read_reserving(&self.clone.file, expected))
    }

    fn read_target_map(&self, expected: usize) -> Result<PhysicalMap> {
        self.map_error(PhysicalMap::read_reserving(self.target.file(), expected))
    }

    fn map_error(&self, map: io::Result<PhysicalMap>) -> Result<PhysicalMap> {
        map.map_err(|cause| {
            let name = self.clone.source.display().to_string();
            Error::io(format!("cannot read the extent map of {name}"), cause).at(name, None)
        })
    }
}

/// Room for extents that come into being between the last look and the frozen moment.
const SPARE_EXTENTS: usize = 10_000;
