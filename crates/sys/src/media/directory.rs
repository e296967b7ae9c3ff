//! A directory of the system as a folder of media.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use image::{Error, ErrorKind, Folder, Medium, Replace, Result};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::FileMedium;

/// A directory, held open: what happens to its path meanwhile does not matter.
#[derive(Debug)]
pub struct Directory {
    handle: File,
    path: PathBuf,
}

impl Directory {
    /// Opens the directory that `path` lies in.
    pub fn of(path: &Path) -> Result<Self> {
        match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => Directory::open(parent),
            _ => Directory::open(Path::new(".")),
        }
    }

    /// Opens the directory `path`.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|errno| {
            let name = path.display().to_string();
            Error::io(format!("cannot open the folder {name}"), errno.into()).at(name, None)
        })?;
        Ok(Directory { handle: handle.into(), path: path.to_owned() })
    }

    /// The path under which it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether names can be added to it, as far as permissions say.
    pub fn is_writable(&self) -> bool {
        let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
        rustix::fs::accessat(&self.handle, ".", access, AtFlags::EACCESS).is_ok()
    }

    fn error(&self, what: &str, name: &OsStr, errno: Errno) -> Error {
        let path = self.path.join(name).display().to_string();
        Error::io(format!("cannot {what} {path}"), errno.into()).at(path, None)
    }

    /// Makes an empty file under a name that is free, as a file.
    pub fn create_file(&self, name: &OsStr) -> Result<FileMedium> {
        self.open_named(name, OFlags::CREATE | OFlags::EXCL, "create")
    }

    fn open_named(&self, name: &OsStr, flags: OFlags, what: &str) -> Result<FileMedium> {
        let flags = flags | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        // What is under way is nobody else's to read; the final permissions are set before it is published.
        let mode = Mode::RUSR | Mode::WUSR;
        let file = rustix::fs::openat(&self.handle, name, flags, mode)
            .map_err(|errno| self.error(what, name, errno))?;
        FileMedium::from_file(file.into(), &self.path.join(name))
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl Folder for Directory {
    fn create(&self, name: &OsStr) -> Result<Box<dyn Medium>> {
        Ok(Box::new(self.create_file(name)?))
    }

    fn open(&self, name: &OsStr) -> Result<Box<dyn Medium>> {
        Ok(Box::new(self.open_named(name, OFlags::empty(), "open")?))
    }

    fn rename(&self, from: &OsStr, to: &OsStr, replace: Replace) -> Result<()> {
        let flags = match replace {
            Replace::Never => RenameFlags::NOREPLACE,
            Replace::Allowed => RenameFlags::empty(),
        };
        let renamed = match rustix::fs::renameat_with(&self.handle, from, &self.handle, to, flags) {
            // A filesystem without RENAME_NOREPLACE (NFS, older FUSE): a link never replaces either.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) if replace == Replace::Never => {
                rustix::fs::linkat(&self.handle, from, &self.handle, to, AtFlags::empty())
                    .and_then(|()| rustix::fs::unlinkat(&self.handle, from, AtFlags::empty()))
            }
            other => other,
        };
        renamed.map_err(|errno| match errno {
            Errno::EXIST => exists(&self.path.join(to)),
            errno => self.error("give the finished file its name", to, errno),
        })
    }

    fn remove(&self, name: &OsStr) -> Result<()> {
        match rustix::fs::unlinkat(&self.handle, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.error("remove", name, errno)),
        }
    }

    fn sync(&self) -> Result<()> {
        self.handle.sync_all().map_err(|cause| {
            let name = self.path.display().to_string();
            Error::io(format!("cannot make the folder {name} durable"), cause).at(name, None)
        })
    }
}

/// The error for a target that exists and may not be replaced.
pub(crate) fn exists(path: &Path) -> Error {
    let name = path.display().to_string();
    let sentence = format!("{name} exists already");
    Error::new(ErrorKind::Exists, sentence).at(name, None)
}
