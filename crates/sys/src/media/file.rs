//! A regular file as a medium: holes by SEEK_DATA, zeroing by punching.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use image::{Error, ErrorKind, Extent, ExtentKind, Medium, Result};
use rustix::fs::{Advice, FallocateFlags, SeekFrom, fadvise, fallocate, seek};

use super::direct::Direct;
use super::{
    Access, WRITEBACK_EVERY_BYTES, begin_writeback, failed, is_unsupported, read_all, write_all,
    write_zeroes,
};

/// A regular file.
///
/// [`punch`](Medium::punch) steps down this ladder, and remembers for the open file what was refused:
/// 1. punch a hole (FALLOC_FL_PUNCH_HOLE), which gives the space back;
/// 2. zero the range in the kernel (FALLOC_FL_ZERO_RANGE);
/// 3. write zeroes.
#[derive(Debug)]
pub struct FileMedium {
    file: File,
    path: PathBuf,
    name: String,
    rung: AtomicU8,
    block_size_bytes: u64,
    direct: Option<Direct>,
    /// Bytes written since it was opened.
    written_bytes: AtomicU64,
}

/// The rungs of the ladder of [`FileMedium`], best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ZeroRung {
    /// Punch a hole.
    PunchHole = 0,
    /// Zero the range in the kernel.
    ZeroRange = 1,
    /// Write zeroes.
    WriteZeroes = 2,
}

impl FileMedium {
    /// Opens an existing regular file.
    ///
    /// # Errors
    ///
    /// `NotFound`, `Denied`; `Invalid` if it is no regular file.
    pub fn open(path: &Path, access: Access) -> Result<Self> {
        let name = path.display().to_string();
        let file = OpenOptions::new()
            .read(true)
            .write(access == Access::Write)
            .open(path)
            .map_err(|cause| Error::io(format!("cannot open {name}"), cause).at(&name, None))?;
        FileMedium::from_file(file, path)
    }

    /// A medium over a file that is already open.
    pub fn from_file(file: File, path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let metadata = file
            .metadata()
            .map_err(|cause| Error::io(format!("cannot look at {name}"), cause).at(&name, None))?;
        if !metadata.file_type().is_file() {
            let what = if metadata.file_type().is_block_device() {
                "a block device"
            } else if metadata.is_dir() {
                "a folder"
            } else {
                "neither a file nor a block device"
            };
            let sentence = format!("{name} is {what}, where a regular file was expected");
            return Err(Error::new(ErrorKind::Invalid, sentence).at(name, None));
        }
        let block_size_bytes = metadata.blksize().clamp(512, 64 << 10).next_power_of_two();
        Ok(FileMedium {
            file,
            path: path.to_owned(),
            name,
            rung: AtomicU8::new(ZeroRung::PunchHole as u8),
            block_size_bytes,
            direct: None,
            written_bytes: AtomicU64::new(0),
        })
    }

    /// Begins the ladder of zeroing at `rung`: for filesystems known to lie, and for tests of each rung.
    #[must_use]
    pub fn starting_at(self, rung: ZeroRung) -> Self {
        self.rung.store(rung as u8, Ordering::Relaxed);
        self
    }

    /// From now on reads what stands on the disk: drops what the page cache holds of the file, and reads large
    /// requests without it where the filesystem permits. Call [`sync`](Medium::sync) before.
    #[must_use]
    pub fn bypassing_cache(mut self) -> Self {
        let _ = fadvise(&self.file, 0, None, Advice::DontNeed);
        self.direct = Direct::open(&self.path, false, self.block_size_bytes as u32);
        self
    }

    /// Says that the file will be read from front to back, so that the kernel reads far ahead.
    pub fn expect_sequential(&self) {
        let _ = fadvise(&self.file, 0, None, Advice::Sequential);
    }

    /// The rung that the ladder of zeroing stands at.
    pub fn zero_rung(&self) -> ZeroRung {
        match self.rung.load(Ordering::Relaxed) {
            0 => ZeroRung::PunchHole,
            1 => ZeroRung::ZeroRange,
            _ => ZeroRung::WriteZeroes,
        }
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    fn learn(&self, rung: ZeroRung) {
        self.rung.fetch_max(rung as u8, Ordering::Relaxed);
    }

    fn fallocate(&self, flags: FallocateFlags, range: &Range<u64>) -> io::Result<()> {
        Ok(fallocate(&self.file, flags, range.start, range.end - range.start)?)
    }

    /// What lseek says: the offset, or `None` behind the last data.
    fn seek(&self, target: SeekFrom) -> io::Result<Option<u64>> {
        match seek(&self.file, target) {
            Ok(offset) => Ok(Some(offset)),
            Err(rustix::io::Errno::NXIO) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for FileMedium {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Medium for FileMedium {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> Result<u64> {
        let metadata = self.file.metadata();
        let metadata = metadata.map_err(|cause| {
            Error::io(format!("cannot look at {}", self.name), cause).at(&self.name, None)
        })?;
        Ok(metadata.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let direct = self.direct.as_ref().and_then(|direct| direct.for_request(buf, offset));
        read_all(direct.unwrap_or(&self.file), &self.name, buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        write_all(&self.file, &self.name, buf, offset)?;
        let before = self.written_bytes.fetch_add(buf.len() as u64, Ordering::Relaxed);
        let after = before + buf.len() as u64;
        if before / WRITEBACK_EVERY_BYTES != after / WRITEBACK_EVERY_BYTES {
            begin_writeback(&self.file);
        }
        Ok(())
    }

    fn set_len(&self, len_bytes: u64) -> Result<()> {
        self.file.set_len(len_bytes).map_err(|cause| {
            let sentence = format!("cannot make {} {len_bytes} bytes long", self.name);
            Error::io(sentence, cause).at(&self.name, None)
        })
    }

    fn punch(&self, range: Range<u64>) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let zero = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
        if self.zero_rung() == ZeroRung::PunchHole {
            match self.fallocate(hole, &range) {
                Ok(()) => return Ok(()),
                Err(error) if is_unsupported(&error) => self.learn(ZeroRung::ZeroRange),
                Err(error) => return Err(failed("zero", &self.name, &range, error)),
            }
        }
        if self.zero_rung() == ZeroRung::ZeroRange {
            match self.fallocate(zero, &range) {
                Ok(()) => return Ok(()),
                Err(error) if is_unsupported(&error) => self.learn(ZeroRung::WriteZeroes),
                Err(error) => return Err(failed("zero", &self.name, &range, error)),
            }
        }
        write_zeroes(range, |zeroes, at| self.write_at(zeroes, at))
    }

    /// Punches a hole where that is possible, else does nothing.
    fn discard(&self, range: Range<u64>) -> Result<()> {
        if self.zero_rung() == ZeroRung::PunchHole { self.punch(range) } else { Ok(()) }
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        let look = || -> io::Result<Extent> {
            let end = self.file.metadata()?.len();
            let data = match self.seek(SeekFrom::Data(offset)) {
                Ok(data) => data.unwrap_or(end).min(end),
                // A filesystem without holes: everything is data.
                Err(error) if is_unsupported(&error) => offset,
                Err(error) => return Err(error),
            };
            if data > offset {
                return Ok(Extent::new(offset..data, ExtentKind::Zero));
            }
            let hole = self.seek(SeekFrom::Hole(offset)).ok().flatten().unwrap_or(end).min(end);
            if hole <= offset {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(Extent::new(offset..hole, ExtentKind::Data))
        };
        look().map_err(|cause| {
            if cause.kind() == io::ErrorKind::UnexpectedEof {
                let sentence = format!("{} became shorter than {offset} bytes", self.name);
                return Error::new(ErrorKind::Changed, sentence).at(&self.name, None);
            }
            let sentence = format!("cannot read the map of {} at offset {offset}", self.name);
            Error::io(sentence, cause).at(&self.name, None)
        })
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|cause| {
            Error::io(format!("cannot make {} durable", self.name), cause).at(&self.name, None)
        })
    }

    fn block_size_bytes(&self) -> u64 {
        self.block_size_bytes
    }
}
