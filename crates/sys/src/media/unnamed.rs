//! A file without a name: written, flushed, and only then put under its name. If the program dies, it is gone.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use image::{Error, Folder, Replace, Result};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::Directory;
use super::directory::exists;
use crate::process::flush_filesystem;

/// A new file in a directory, not yet under its name.
///
/// Where the filesystem knows O_TMPFILE it has no name at all; elsewhere it has a temporary one, which is
/// removed when this is dropped unpublished.
#[derive(Debug)]
pub struct UnnamedFile {
    directory: Directory,
    file: File,
    target: OsString,
    temporary: Option<OsString>,
}

/// What was put into a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Bytes were written.
    Written,
    /// Only blocks of other files were shared with it.
    Shared,
}

/// What is flushed, and when, so that no name is durable before its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flush {
    /// The file, behind its name: the journal keeps the order.
    Behind,
    /// The file, before its name.
    File,
    /// The file and the filesystem that it lies in, before its name.
    Filesystem,
}

impl UnnamedFile {
    /// Begins the file that is to be `path`.
    pub fn create_for(path: &Path) -> Result<Self> {
        let directory = Directory::of(path)?;
        let shown = path.display().to_string();
        let error = |errno: Errno| {
            Error::io(format!("cannot create {shown}"), errno.into()).at(&shown, None)
        };
        let target = path.file_name().ok_or_else(|| error(Errno::ISDIR))?.to_owned();
        let mode = Mode::RUSR | Mode::WUSR;
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        // A name that the filesystem cannot hold is better known now than after the work.
        if let Err(Errno::NAMETOOLONG) =
            rustix::fs::statat(&directory, &target, AtFlags::SYMLINK_NOFOLLOW)
        {
            return Err(error(Errno::NAMETOOLONG));
        }
        match rustix::fs::openat(&directory, ".", flags | OFlags::TMPFILE, mode) {
            Ok(file) => Ok(UnnamedFile { directory, file: file.into(), target, temporary: None }),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let name = temporary_name();
                let file = rustix::fs::openat(
                    &directory,
                    &name,
                    flags | OFlags::CREATE | OFlags::EXCL,
                    mode,
                )
                .map_err(error)?;
                Ok(UnnamedFile { directory, file: file.into(), target, temporary: Some(name) })
            }
            Err(errno) => Err(error(errno)),
        }
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where it will be.
    pub fn target_path(&self) -> PathBuf {
        self.directory.path().join(&self.target)
    }

    /// Flushes it, gives it its name in one step, and flushes the directory. After a power cut the name stands
    /// for the old file, or nothing, or all of the new one, whoever else flushes the directory meanwhile.
    ///
    /// What is flushed when:
    /// 1. On XFS, content that only shares blocks ([`Content::Shared`]) is in the journal before its name is: one
    ///    flush behind both is enough, and half as long as two.
    /// 2. A file with a temporary name, and any on XFS and ext4, is flushed before it gets its name.
    /// 3. Elsewhere the whole filesystem is flushed too before the name is given. On Btrfs nothing less makes sure
    ///    of a file without a name, whose own flush does nothing on many kernels: whoever flushes the directory
    ///    next would make the new name durable without what it stands for, an empty file after a power cut.
    pub fn publish(self, replace: Replace, content: Content) -> Result<()> {
        let path = self.target_path();
        let durable = |flushed: io::Result<()>| {
            let shown = path.display().to_string();
            flushed.map_err(|cause| {
                Error::io(format!("cannot make {shown} durable"), cause).at(&shown, None)
            })
        };
        let flush = self.flush(content);
        if flush != Flush::Behind {
            durable(self.file.sync_all())?;
        }
        if flush == Flush::Filesystem {
            durable(flush_filesystem(&self.file))?;
        }
        let published = self.put_under_name(replace)?;
        if flush == Flush::Behind {
            durable(published.file.sync_all())?;
        }
        published.directory.sync()
    }

    /// What makes it durable in time. The filesystems that are trusted are named: one that stands on another, as
    /// overlayfs does, shows its own number and not that of the Btrfs below.
    fn flush(&self, content: Content) -> Flush {
        const XFS_SUPER_MAGIC: u64 = 0x5846_5342;
        const EXT4_SUPER_MAGIC: u64 = 0xef53;
        if self.temporary.is_some() {
            return Flush::File;
        }
        let kind = rustix::fs::fstatfs(&self.file).map(|status| status.f_type as u64);
        match (kind, content) {
            (Ok(XFS_SUPER_MAGIC), Content::Shared) => Flush::Behind,
            (Ok(XFS_SUPER_MAGIC | EXT4_SUPER_MAGIC), _) => Flush::File,
            _ => Flush::Filesystem,
        }
    }

    fn put_under_name(mut self, replace: Replace) -> Result<Self> {
        let path = self.target_path();
        let shown = path.display().to_string();
        let target = self.target.clone();
        match (&self.temporary, replace) {
            (None, Replace::Never) => match self.link(&target) {
                Err(Errno::EXIST) => return Err(exists(&path)),
                other => other.map_err(|errno| {
                    Error::io(format!("cannot give {shown} its name"), errno.into())
                        .at(&shown, None)
                })?,
            },
            (None, Replace::Allowed) => {
                let name = temporary_name();
                self.link(&name).map_err(|errno| {
                    Error::io(format!("cannot give {shown} a name"), errno.into()).at(&shown, None)
                })?;
                self.temporary = Some(name.clone());
                self.directory.rename(&name, &target, replace)?;
            }
            (Some(name), replace) => self.directory.rename(name, &target, replace)?,
        }
        self.temporary = None;
        Ok(self)
    }

    /// Puts the nameless file under `name`, which must be free.
    fn link(&self, name: &OsStr) -> Result<(), Errno> {
        let by_number = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        rustix::fs::linkat(CWD, by_number, &self.directory, name, AtFlags::SYMLINK_FOLLOW)
    }
}

impl AsFd for UnnamedFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for UnnamedFile {
    fn drop(&mut self) {
        if let Some(name) = &self.temporary {
            // Nothing better can be done in a destructor; the name says whose it was.
            let _ = self.directory.remove(name);
        }
    }
}

/// A short name that is free: process number and a count within it.
fn temporary_name() -> OsString {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!(".blockprint-{}-{count}.tmp", std::process::id()).into()
}
