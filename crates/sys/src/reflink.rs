//! Sharing blocks between files (copy-on-write), on filesystems that can.

use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

use crate::ioctl;

/// Makes `target` an exact clone of `source`: the same size, the same blocks, copy-on-write (FICLONE).
///
/// # Errors
///
/// EOPNOTSUPP or EINVAL where the filesystem has no reflinks, EXDEV across filesystems, ENOSPC.
pub fn clone_whole(source: impl AsFd, target: impl AsFd) -> io::Result<()> {
    ioctl::ficlone(target.as_fd(), source.as_fd())
}

/// Makes `range` of `target` share the blocks of the same range of `source` (FICLONERANGE). Both ends must be
/// multiples of the filesystem's block, except for an end that is the end of `source`.
pub fn clone_range(source: impl AsFd, target: impl AsFd, range: Range<u64>) -> io::Result<()> {
    // To the kernel a length of 0 is "all the rest".
    if range.is_empty() {
        return Ok(());
    }
    ioctl::ficlonerange(target.as_fd(), source.as_fd(), range.start, range.end - range.start)
}
