//! Sharing blocks between files (copy-on-write), on filesystems that can.

use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

use rustix::fs::IFlags;

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
    let start = range.start;
    clone_range_to(source, range, target, start)
}

/// Makes `target` share, from `target_offset` on, the blocks of `range` of `source` (FICLONERANGE). Both offsets and
/// the length must be multiples of the filesystem's block, except for an end that is the end of `source`. Within one
/// file the ranges must not overlap.
pub fn clone_range_to(
    source: impl AsFd,
    range: Range<u64>,
    target: impl AsFd,
    target_offset: u64,
) -> io::Result<()> {
    // To the kernel a length of 0 is "all the rest".
    if range.is_empty() {
        return Ok(());
    }
    let (source, target) = (source.as_fd(), target.as_fd());
    ioctl::ficlonerange(target, target_offset, source, range.start, range.end - range.start)
}

/// One space of addresses on disks: two files in the same one, that name the same address, share the blocks there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockSpace {
    /// The data section of an XFS, by the number of its device.
    Xfs(u64),
    /// A Btrfs, by its identifier: all its subvolumes, whatever disks they lie on.
    Btrfs([u8; 16]),
}

impl BlockSpace {
    /// That of a regular file; `None` on a filesystem that has no reflinks, or of which it is not known that its extent
    /// maps name each block in one way only. (bcachefs counts from zero on each of its disks, and XFS does in the realtime
    /// section; overlayfs shows the map of a layer.)
    pub fn of(file: impl AsFd) -> io::Result<Option<Self>> {
        /// `linux/magic.h`: `XFS_SUPER_MAGIC`, `BTRFS_SUPER_MAGIC`.
        const XFS: u64 = 0x5846_5342;
        const BTRFS: u64 = 0x9123_683e;
        /// `linux/fs.h`: `#define FS_XFLAG_REALTIME 0x00000001`: data in realtime volume.
        const REALTIME: u32 = 1;
        let file = file.as_fd();
        match rustix::fs::fstatfs(file)?.f_type as u64 {
            XFS if ioctl::extended_flags(file)? & REALTIME == 0 => {
                Ok(Some(BlockSpace::Xfs(rustix::fs::fstat(file)?.st_dev)))
            }
            BTRFS => Ok(Some(BlockSpace::Btrfs(ioctl::btrfs_fsid(file)?))),
            _ => Ok(None),
        }
    }
}

/// Lets a new, empty `target` on Btrfs be written in place if `source` is (`chattr +C`, usual for disk images):
/// blocks are shared only between files that agree in that. Elsewhere, or if it is not permitted, nothing happens.
pub fn match_copy_on_write(source: impl AsFd, target: impl AsFd) {
    let flags = |file| rustix::fs::ioctl_getflags(file);
    let (Ok(wanted), Ok(mut flags_now)) = (flags(source.as_fd()), flags(target.as_fd())) else {
        return;
    };
    if wanted.contains(IFlags::NOCOW) != flags_now.contains(IFlags::NOCOW) {
        flags_now.set(IFlags::NOCOW, wanted.contains(IFlags::NOCOW));
        let _ = rustix::fs::ioctl_setflags(target, flags_now);
    }
}
