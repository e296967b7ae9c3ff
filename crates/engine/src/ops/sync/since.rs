//! Which ranges of a file changed since it was cloned: those that lie elsewhere on the disk than the clone's.
//!
//! XFS and Btrfs never overwrite a block that two files share: who writes gets a block of his own. So where both extent
//! maps name the same place on the disk, or both have a hole, both files hold the same bytes, and nothing has to be read to
//! know it. This holds whichever of the two was written since: a write to the clone moves its blocks as well, and its range
//! counts as changed. It also holds for blocks that were freed and given out again: as long as the clone is there, its
//! blocks are not free.
//!
//! What the maps leave open counts as changed. On Btrfs that is all that is compressed: the map of a compressed extent does
//! not tell which part of it a file shows.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use image::ranges::RangeSet;
use image::{Error, ErrorKind, Result, Task};
use sys::BlockSpace;

/// So many ranges at most: the nearest are joined, and what lies between them counts as changed.
const RANGES_MAX: usize = 1 << 20;

/// The ranges of the file `now` in which it may differ from its clone `then`. Reads no data of either.
///
/// Both are flushed before, since only what is on the disk has a place there. What is past the end of the shorter one
/// counts as changed. Whoever writes to `now` meanwhile, or later, must be found out by its time, as for each source.
///
/// # Errors
///
/// `Unsupported` where the filesystem has no clones or does not tell where extents lie; `Invalid` for what cannot be a
/// clone of `now`: a device, a file of another filesystem, or `now` itself; `Changed` if `then` is being written to.
pub(super) fn changed(now: &Path, then: &Path, task: &Task) -> Result<RangeSet> {
    let (now_file, then_file) = (open(now)?, open(then)?);
    let (size_bytes, before) = (state(&now_file, now)?.size_bytes, state(&then_file, then)?);
    if before.number == state(&now_file, now)?.number {
        let sentence = format!("{} is the source itself, and no clone of it", then.display());
        return Err(Error::new(ErrorKind::Invalid, sentence).at(then.display().to_string(), None));
    }
    let (now_space, then_space) = (space(&now_file, now)?, space(&then_file, then)?);
    if now_space != then_space {
        let sentence = format!(
            "{} is no clone of {}: they lie in different filesystems",
            then.display(),
            now.display()
        );
        return Err(Error::new(ErrorKind::Invalid, sentence).at(then.display().to_string(), None));
    }
    for (file, path) in [(&now_file, now), (&then_file, then)] {
        file.sync_all().map_err(|cause| failed("flush", path, cause))?;
    }
    let mut ranges = Ranges { found: Vec::new(), max: RANGES_MAX };
    let common_bytes = size_bytes.min(before.size_bytes);
    sys::each_differing(&now_file, &then_file, common_bytes, |range| {
        ranges.push(range);
        match task.is_cancelled() {
            true => Err(io::ErrorKind::Interrupted.into()),
            false => Ok(()),
        }
    })
    .or_else(|cause| task.checkpoint().and(Err(failed("read the extent map of", now, cause))))?;
    if size_bytes > common_bytes {
        ranges.push(common_bytes..size_bytes);
    }
    if state(&then_file, then)? != before {
        let sentence = format!(
            "{} was written to while it was compared with its source (a clone that is to be relied on must be left alone)",
            then.display()
        );
        return Err(Error::new(ErrorKind::Changed, sentence).at(then.display().to_string(), None));
    }
    Ok(ranges.finish())
}

fn open(path: &Path) -> Result<File> {
    let metadata = crate::registry::look(path)?;
    let name = path.display().to_string();
    if !metadata.is_file() {
        let sentence = format!(
            "{name} is no regular file: only of a file and its clone can it be told what changed"
        );
        return Err(Error::new(ErrorKind::Invalid, sentence).at(name, None));
    }
    File::open(path).map_err(|cause| failed("open", path, cause))
}

fn space(file: &File, path: &Path) -> Result<BlockSpace> {
    BlockSpace::of(file).map_err(|cause| failed("look at", path, cause))?.ok_or_else(|| {
        let name = path.display().to_string();
        let sentence = format!(
            "cannot tell what changed in {name} since it was cloned: it does not lie on XFS or Btrfs, whose extent maps say \
             it (sync without --since)"
        );
        Error::new(ErrorKind::Unsupported, sentence).at(name, None)
    })
}

/// What tells that a file was written to.
#[derive(PartialEq, Eq)]
struct State {
    /// Of its filesystem, and of the file in it.
    number: (u64, u64),
    size_bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

fn state(file: &File, path: &Path) -> Result<State> {
    let metadata = file.metadata().map_err(|cause| failed("look at", path, cause))?;
    Ok(State {
        number: (metadata.dev(), metadata.ino()),
        size_bytes: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

fn failed(what: &str, path: &Path, cause: io::Error) -> Error {
    let name = path.display().to_string();
    Error::io(format!("cannot {what} {name}"), cause).at(name, None)
}

/// Ranges in ascending order, a bounded number of them.
struct Ranges {
    found: Vec<Range<u64>>,
    max: usize,
}

impl Ranges {
    fn push(&mut self, range: Range<u64>) {
        match self.found.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.found.push(range),
        }
        // Twice the number, so that the work of joining is rare.
        if self.found.len() >= 2 * self.max {
            self.join_nearest();
        }
    }

    /// Joins neighbours, the nearest first, until there are no more than permitted.
    fn join_nearest(&mut self) {
        let excess = self.found.len().saturating_sub(self.max);
        if excess == 0 {
            return;
        }
        let mut gaps: Vec<u64> =
            self.found.windows(2).map(|pair| pair[1].start - pair[0].end).collect();
        let (_, &mut limit, _) = gaps.select_nth_unstable(excess - 1);
        self.found.dedup_by(|next, last| {
            let joined = next.start - last.end <= limit;
            if joined {
                last.end = next.end;
            }
            joined
        });
    }

    fn finish(mut self) -> RangeSet {
        self.join_nearest();
        self.found.into_iter().collect()
    }
}

#[cfg(test)]
mod tests;
