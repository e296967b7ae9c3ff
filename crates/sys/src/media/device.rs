//! A block device as a medium: fixed size, kernel zeroing, discard, direct I/O.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use image::{Error, ErrorKind, Extent, ExtentKind, Medium, Result};

use super::claim::SharedClaim;
use super::direct::Direct;
use super::{
    Access, WRITEBACK_EVERY_BYTES, begin_writeback, failed, is_unsupported, read_all, write_all,
    write_zeroes,
};
use crate::ioctl;

/// A block device.
///
/// Aligned requests go past the page cache (O_DIRECT), all others through it; the kernel keeps the two
/// coherent. [`punch`](Medium::punch) has the kernel zero the range (BLKZEROOUT, which devices do without
/// moving data where they can), else writes zeroes; what is not aligned to its sectors is written.
#[derive(Debug)]
pub struct DeviceMedium {
    file: File,
    name: String,
    size_bytes: u64,
    logical_sector_bytes: u32,
    physical_sector_bytes: u32,
    direct: Option<Direct>,
    /// Keeps others away from what is only read.
    _claim: Option<SharedClaim>,
    cannot_zero: AtomicBool,
    cannot_discard: AtomicBool,
    /// Bytes written since it was opened.
    written_bytes: AtomicU64,
}

impl DeviceMedium {
    /// Opens a block device. For writing it is claimed (O_EXCL): nobody can mount it meanwhile.
    ///
    /// # Errors
    ///
    /// `NotFound`, `Denied`; `InUse` if it is mounted or claimed by somebody else; `Invalid` if it is no block
    /// device.
    pub fn open(path: &Path, access: Access) -> Result<Self> {
        DeviceMedium::open_as(path, access, None)
    }

    /// Opens a block device for reading, and claims it as for writing: nobody can mount it meanwhile, so that what is
    /// read stays what it is. Others of this process may do the same with it.
    ///
    /// # Errors
    ///
    /// As [`open`](DeviceMedium::open).
    pub fn open_claimed(path: &Path) -> Result<Self> {
        let claim = SharedClaim::of(path).map_err(|cause| cannot_open(path, cause))?;
        DeviceMedium::open_as(path, Access::Read, Some(claim))
    }

    fn open_as(path: &Path, access: Access, claim: Option<SharedClaim>) -> Result<Self> {
        let write = access == Access::Write;
        let look = || -> io::Result<(File, u64, (u32, u32))> {
            let flags = if write { libc::O_EXCL } else { 0 };
            let file = OpenOptions::new().read(true).write(write).custom_flags(flags).open(path)?;
            if !file.metadata()?.file_type().is_block_device() {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no block device"));
            }
            if write && ioctl::device_is_read_only(file.as_fd())? {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is read-only"));
            }
            let size_bytes = ioctl::device_size_bytes(file.as_fd())?;
            let sectors = ioctl::sector_sizes_bytes(file.as_fd())?;
            Ok((file, size_bytes, sectors))
        };
        let (file, size_bytes, (logical, physical)) =
            look().map_err(|cause| cannot_open(path, cause))?;
        let direct = Direct::open(path, write, logical);
        Ok(DeviceMedium {
            file,
            name: path.display().to_string(),
            size_bytes,
            logical_sector_bytes: logical,
            physical_sector_bytes: physical,
            direct,
            _claim: claim,
            cannot_zero: AtomicBool::new(false),
            cannot_discard: AtomicBool::new(false),
            written_bytes: AtomicU64::new(0),
        })
    }

    /// The smallest unit that can be addressed, in bytes.
    pub fn logical_sector_bytes(&self) -> u32 {
        self.logical_sector_bytes
    }

    /// The smallest unit that is written without reading before, in bytes.
    pub fn physical_sector_bytes(&self) -> u32 {
        self.physical_sector_bytes
    }

    /// From now on moves all bytes through the page cache. Where one thread writes what is not aligned to pages beside what
    /// another one writes past the cache, the kernel can lose one of the two.
    #[must_use]
    pub fn through_cache(mut self) -> Self {
        self.direct = None;
        self
    }

    /// Zeroes by writing, as if the kernel could not: for tests of that rung.
    #[must_use]
    pub fn writing_zeroes(self) -> Self {
        self.cannot_zero.store(true, Ordering::Relaxed);
        self
    }

    /// The part of `range` that whole sectors cover; empty if none does.
    fn whole_sectors(&self, range: &Range<u64>) -> Range<u64> {
        let sector = u64::from(self.logical_sector_bytes);
        let start = range.start.next_multiple_of(sector);
        start..(range.end - range.end % sector).max(start)
    }

    fn check_end(&self, range: &Range<u64>) -> Result<()> {
        if range.end <= self.size_bytes {
            return Ok(());
        }
        let sentence = format!(
            "cannot write up to offset {} of {}: it has {} bytes",
            range.end, self.name, self.size_bytes
        );
        Err(Error::new(ErrorKind::Full, sentence).at(&self.name, Some(range.clone())))
    }
}

impl AsFd for DeviceMedium {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Medium for DeviceMedium {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> Result<u64> {
        Ok(self.size_bytes)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let direct = self.direct.as_ref().and_then(|direct| direct.for_request(buf, offset));
        read_all(direct.unwrap_or(&self.file), &self.name, buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        if buf.is_empty() {
            return Ok(());
        }
        self.check_end(&(offset..offset.saturating_add(buf.len() as u64)))?;
        let direct = self.direct.as_ref().and_then(|direct| direct.for_request(buf, offset));
        write_all(direct.unwrap_or(&self.file), &self.name, buf, offset)?;
        if direct.is_none() {
            let len = buf.len() as u64;
            let before = self.written_bytes.fetch_add(len, Ordering::Relaxed);
            if before / WRITEBACK_EVERY_BYTES != (before + len) / WRITEBACK_EVERY_BYTES {
                begin_writeback(&self.file);
            }
        }
        Ok(())
    }

    fn set_len(&self, len_bytes: u64) -> Result<()> {
        if len_bytes == self.size_bytes {
            return Ok(());
        }
        let sentence =
            format!("{} has {} bytes and cannot have {len_bytes}", self.name, self.size_bytes);
        Err(Error::new(ErrorKind::Unsupported, sentence).at(&self.name, None))
    }

    fn punch(&self, range: Range<u64>) -> Result<()> {
        self.check_end(&range)?;
        let inner = self.whole_sectors(&range);
        if !inner.is_empty() && !self.cannot_zero.load(Ordering::Relaxed) {
            match ioctl::zero_out(self.file.as_fd(), &inner) {
                Ok(()) => {
                    write_zeroes(range.start..inner.start, |zeroes, at| self.write_at(zeroes, at))?;
                    return write_zeroes(inner.end..range.end, |zeroes, at| {
                        self.write_at(zeroes, at)
                    });
                }
                Err(error) if is_unsupported(&error) => {
                    self.cannot_zero.store(true, Ordering::Relaxed);
                }
                Err(error) => return Err(failed("zero", &self.name, &range, error)),
            }
        }
        write_zeroes(range, |zeroes, at| self.write_at(zeroes, at))
    }

    fn discard(&self, range: Range<u64>) -> Result<()> {
        self.check_end(&range)?;
        let inner = self.whole_sectors(&range);
        if inner.is_empty() || self.cannot_discard.load(Ordering::Relaxed) {
            return Ok(());
        }
        match ioctl::discard(self.file.as_fd(), &inner) {
            Ok(()) => Ok(()),
            Err(error) if is_unsupported(&error) => {
                self.cannot_discard.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(failed("discard", &self.name, &range, error)),
        }
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        Ok(Extent::new(offset..self.size_bytes, ExtentKind::Data))
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|cause| {
            Error::io(format!("cannot make {} durable", self.name), cause).at(&self.name, None)
        })
    }

    fn block_size_bytes(&self) -> u64 {
        u64::from(self.physical_sector_bytes).clamp(512, 64 << 10).next_power_of_two()
    }
}

fn cannot_open(path: &Path, cause: io::Error) -> Error {
    let name = path.display().to_string();
    Error::io(format!("cannot open {name}"), cause).at(name, None)
}
