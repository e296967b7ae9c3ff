//! One function per ioctl that no library wraps, each with the lines of the kernel header that it comes from.

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use libc::{c_int, c_ulong, c_void};

use crate::Access;

/// `linux/fs.h`: `#define BLKGETSIZE64 _IOR(0x12,114,size_t)`: size in bytes.
const BLKGETSIZE64: c_ulong = 0x8008_1272;
/// `linux/fs.h`: `#define BLKSSZGET _IO(0x12,104)`: logical sector size.
const BLKSSZGET: c_ulong = 0x1268;
/// `linux/fs.h`: `#define BLKPBSZGET _IO(0x12,123)`: physical sector size.
const BLKPBSZGET: c_ulong = 0x127b;
/// `linux/fs.h`: `#define BLKDISCARD _IO(0x12,119)`: takes `uint64_t range[2]`, start and length.
const BLKDISCARD: c_ulong = 0x1277;
/// `linux/fs.h`: `#define BLKZEROOUT _IO(0x12,127)`: takes `uint64_t range[2]`, start and length.
const BLKZEROOUT: c_ulong = 0x127f;
/// `linux/fs.h`: `#define BLKROGET _IO(0x12,94)`: whether the device is read-only.
const BLKROGET: c_ulong = 0x125e;
/// `linux/fs.h`: `#define FICLONE _IOW(0x94, 9, int)`.
const FICLONE: c_ulong = 0x4004_9409;
/// `linux/fs.h`: `#define FICLONERANGE _IOW(0x94, 13, struct file_clone_range)`.
const FICLONERANGE: c_ulong = 0x4020_940d;
/// `linux/fs.h`: `#define FIFREEZE _IOWR('X', 119, int)`.
const FIFREEZE: c_ulong = 0xc004_5877;
/// `linux/fs.h`: `#define FITHAW _IOWR('X', 120, int)`.
const FITHAW: c_ulong = 0xc004_5878;
/// `linux/fiemap.h`: `#define FS_IOC_FIEMAP _IOWR('f', 11, struct fiemap)`.
const FS_IOC_FIEMAP: c_ulong = 0xc020_660b;
/// `linux/fs.h`: `#define FS_IOC_FSGETXATTR _IOR('X', 31, struct fsxattr)`.
const FS_IOC_FSGETXATTR: c_ulong = 0x801c_581f;
/// `linux/loop.h`: `#define LOOP_GET_STATUS64 0x4C05`.
const LOOP_GET_STATUS64: c_ulong = 0x4c05;
/// `linux/loop.h`: `#define LOOP_CONFIGURE 0x4C0A`: takes `struct loop_config`.
const LOOP_CONFIGURE: c_ulong = 0x4c0a;
/// `linux/loop.h`: `#define LOOP_CTL_GET_FREE 0x4C82`: returns the number of a device.
const LOOP_CTL_GET_FREE: c_ulong = 0x4c82;
/// `linux/fs.h`: `#define BLKRRPART _IO(0x12,95)`: read the partition table again.
const BLKRRPART: c_ulong = 0x125f;
/// `linux/btrfs.h`: `#define BTRFS_IOC_FS_INFO _IOR(0x94, 31, struct btrfs_ioctl_fs_info_args)`.
const BTRFS_IOC_FS_INFO: c_ulong = 0x8400_941f;

/// `linux/fs.h: struct fsxattr`.
#[repr(C)]
struct FsXattr {
    flags: u32,
    rest: [u32; 6],
}
const _: () = assert!(size_of::<FsXattr>() == 28);

/// `linux/fs.h: struct file_clone_range`.
#[repr(C)]
struct FileCloneRange {
    src_fd: i64,
    src_offset: u64,
    src_length: u64,
    dest_offset: u64,
}
const _: () = assert!(size_of::<FileCloneRange>() == 32);

/// `linux/fiemap.h: struct fiemap_extent`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct FiemapExtent {
    pub(crate) logical: u64,
    pub(crate) physical: u64,
    pub(crate) length: u64,
    reserved64: [u64; 2],
    pub(crate) flags: u32,
    reserved: [u32; 3],
}
const _: () = assert!(size_of::<FiemapExtent>() == 56);

/// How many extents one call of [`fiemap`] brings.
pub(crate) const FIEMAP_BATCH: usize = 256;

/// `linux/fiemap.h: struct fiemap`, with room for the answer.
#[repr(C)]
pub(crate) struct Fiemap {
    start: u64,
    length: u64,
    flags: u32,
    pub(crate) mapped_extents: u32,
    extent_count: u32,
    reserved: u32,
    pub(crate) extents: [FiemapExtent; FIEMAP_BATCH],
}
const _: () = assert!(std::mem::offset_of!(Fiemap, extents) == 32);

/// `linux/loop.h: struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct LoopInfo64 {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) rdevice: u64,
    pub(crate) offset: u64,
    pub(crate) size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}
const _: () = assert!(size_of::<LoopInfo64>() == 232);

/// `linux/loop.h: struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}
const _: () = assert!(size_of::<LoopConfig>() == 304);

/// `linux/loop.h`: `LO_FLAGS_READ_ONLY`, `LO_FLAGS_AUTOCLEAR`, `LO_FLAGS_DIRECT_IO`.
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;

/// What a loop device is to show of the file below.
pub(crate) struct LoopSetup {
    pub(crate) offset: u64,
    pub(crate) size_limit: u64,
    pub(crate) sector_bytes: u32,
    pub(crate) access: Access,
}

/// `linux/btrfs.h: struct btrfs_ioctl_fs_info_args`, of which only the identifier matters here.
#[repr(C)]
struct BtrfsFsInfo {
    max_id: u64,
    num_devices: u64,
    fsid: [u8; 16],
    rest: [u8; 992],
}
const _: () = assert!(size_of::<BtrfsFsInfo>() == 1024);

/// Issues `request` with a pointer to `argument`.
///
/// # Safety
///
/// The kernel must read and write no more than a `T` for this request, or what follows it as `T` says.
unsafe fn with_pointer<T>(
    fd: BorrowedFd<'_>,
    request: c_ulong,
    argument: *mut T,
) -> io::Result<c_int> {
    // SAFETY: the descriptor is open for the length of the borrow; the caller vouches for `argument`.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request, argument.cast::<c_void>()) })
}

fn check(answer: c_int) -> io::Result<c_int> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// Size of a block device in bytes.
pub(crate) fn device_size_bytes(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut size = 0u64;
    // SAFETY: the kernel writes one u64.
    unsafe { with_pointer(fd, BLKGETSIZE64, &raw mut size) }?;
    Ok(size)
}

/// Logical and physical sector size of a block device in bytes.
pub(crate) fn sector_sizes_bytes(fd: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    let (mut logical, mut physical) = (0u32, 0u32);
    // SAFETY: the kernel writes one int.
    unsafe { with_pointer(fd, BLKSSZGET, &raw mut logical) }?;
    // SAFETY: the kernel writes one unsigned int.
    unsafe { with_pointer(fd, BLKPBSZGET, &raw mut physical) }?;
    Ok((logical, physical))
}

/// Whether a block device refuses writes.
pub(crate) fn device_is_read_only(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut read_only: c_int = 0;
    // SAFETY: the kernel writes one int.
    unsafe { with_pointer(fd, BLKROGET, &raw mut read_only) }?;
    Ok(read_only != 0)
}

/// Tells a device that `range` is no longer needed. Offsets must be multiples of its logical sector.
pub(crate) fn discard(fd: BorrowedFd<'_>, range: &Range<u64>) -> io::Result<()> {
    let mut pair = [range.start, range.end - range.start];
    // SAFETY: the kernel reads two u64.
    unsafe { with_pointer(fd, BLKDISCARD, pair.as_mut_ptr()) }?;
    Ok(())
}

/// Has the kernel make `range` of a device read as zeroes. Offsets must be multiples of its logical sector.
pub(crate) fn zero_out(fd: BorrowedFd<'_>, range: &Range<u64>) -> io::Result<()> {
    let mut pair = [range.start, range.end - range.start];
    // SAFETY: the kernel reads two u64.
    unsafe { with_pointer(fd, BLKZEROOUT, pair.as_mut_ptr()) }?;
    Ok(())
}

/// Makes all of `target` share the blocks of all of `source`.
pub(crate) fn ficlone(target: BorrowedFd<'_>, source: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the argument is a descriptor by value, open for the length of the borrow.
    check(unsafe { libc::ioctl(target.as_raw_fd(), FICLONE, source.as_raw_fd()) })?;
    Ok(())
}

/// Makes a range of `target` share the blocks of a range of `source`; a length of 0 means "to the end".
pub(crate) fn ficlonerange(
    target: BorrowedFd<'_>,
    target_offset: u64,
    source: BorrowedFd<'_>,
    source_offset: u64,
    len_bytes: u64,
) -> io::Result<()> {
    let mut argument = FileCloneRange {
        src_fd: i64::from(source.as_raw_fd()),
        src_offset: source_offset,
        src_length: len_bytes,
        dest_offset: target_offset,
    };
    // SAFETY: the kernel reads one file_clone_range.
    unsafe { with_pointer(target, FICLONERANGE, &raw mut argument) }?;
    Ok(())
}

/// Flushes the filesystem of a directory and blocks its writers. Takes a bare number because the watchdog,
/// after a fork, has nothing else.
pub(crate) fn fifreeze(directory: RawFd) -> io::Result<()> {
    // SAFETY: the argument is not used by the kernel; a number that is not open gives EBADF.
    check(unsafe { libc::ioctl(directory, FIFREEZE, 0) })?;
    Ok(())
}

/// Undoes [`fifreeze`]. EINVAL means that it was not frozen. Safe to call after a fork: no memory is taken.
pub(crate) fn fithaw(directory: RawFd) -> io::Result<()> {
    // SAFETY: the argument is not used by the kernel; a number that is not open gives EBADF.
    check(unsafe { libc::ioctl(directory, FITHAW, 0) })?;
    Ok(())
}

/// The flags `FS_XFLAG_…` of a file.
pub(crate) fn extended_flags(fd: BorrowedFd<'_>) -> io::Result<u32> {
    let mut argument = FsXattr { flags: 0, rest: [0; 6] };
    // SAFETY: the kernel writes one fsxattr.
    unsafe { with_pointer(fd, FS_IOC_FSGETXATTR, &raw mut argument) }?;
    Ok(argument.flags)
}

/// Physical extents from `start` on, into `answer`, [`FIEMAP_BATCH`] at most.
pub(crate) fn fiemap(
    fd: BorrowedFd<'_>,
    start: u64,
    flags: u32,
    answer: &mut Fiemap,
) -> io::Result<()> {
    answer.start = start;
    answer.length = u64::MAX - start;
    answer.flags = flags;
    answer.mapped_extents = 0;
    answer.extent_count = FIEMAP_BATCH as u32;
    answer.reserved = 0;
    // SAFETY: the kernel writes the header and at most `extent_count` extents, for which there is room.
    unsafe { with_pointer(fd, FS_IOC_FIEMAP, std::ptr::from_mut(answer)) }?;
    Ok(())
}

impl Fiemap {
    /// Room for one batch, on the heap (it is 14 KiB, which stays in a core's own cache).
    pub(crate) fn boxed() -> Box<Fiemap> {
        // SAFETY: all fields are integers, for which zero bytes are a value.
        unsafe { Box::<Fiemap>::new_zeroed().assume_init() }
    }
}

/// What a loop device says of itself.
pub(crate) fn loop_status(fd: BorrowedFd<'_>) -> io::Result<LoopInfo64> {
    // SAFETY: all fields are integers, for which zero bytes are a value.
    let mut info: LoopInfo64 = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one loop_info64.
    unsafe { with_pointer(fd, LOOP_GET_STATUS64, &raw mut info) }?;
    Ok(info)
}

/// The number of a loop device that nothing is attached to, by `/dev/loop-control`.
pub(crate) fn free_loop_device(control: BorrowedFd<'_>) -> io::Result<c_int> {
    // SAFETY: the request takes no argument.
    check(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) })
}

/// Attaches `below` to a loop device until nobody has that open any more.
pub(crate) fn configure_loop(
    device: BorrowedFd<'_>,
    below: BorrowedFd<'_>,
    setup: &LoopSetup,
) -> io::Result<()> {
    let read_only = if setup.access == Access::Read { LO_FLAGS_READ_ONLY } else { 0 };
    // SAFETY: the structure is integers and arrays of them, for all of which zero is a value.
    let mut config: LoopConfig = unsafe { std::mem::zeroed() };
    config.fd = below.as_raw_fd() as u32;
    config.block_size = setup.sector_bytes;
    config.info.offset = setup.offset;
    config.info.size_limit = setup.size_limit;
    config.info.flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO | read_only;
    // SAFETY: the kernel reads one structure.
    unsafe { with_pointer(device, LOOP_CONFIGURE, &raw mut config) }.map(drop)
}

/// Has the kernel read the partition table of a disk again.
pub(crate) fn reread_partitions(disk: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the request takes no argument.
    check(unsafe { libc::ioctl(disk.as_raw_fd(), BLKRRPART) }).map(drop)
}

/// The identifier of the Btrfs that a file or directory lies in; fails on other filesystems.
pub(crate) fn btrfs_fsid(fd: BorrowedFd<'_>) -> io::Result<[u8; 16]> {
    let mut info = BtrfsFsInfo { max_id: 0, num_devices: 0, fsid: [0; 16], rest: [0; 992] };
    // SAFETY: the kernel reads and writes one btrfs_ioctl_fs_info_args of 1024 bytes.
    unsafe { with_pointer(fd, BTRFS_IOC_FS_INFO, &raw mut info) }?;
    Ok(info.fsid)
}
