//! Going through a folder of chunks, and taking away what nobody needs.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::SystemTime;

use image::{Error, Result};
use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;

use super::layout::{Entry, is_folder};
use super::time::modified;
use super::writers::Alone;
use super::{LocalStore, Removed, Stored, is_file};
use crate::ChunkId;

/// So much is removed before those who wait for the lock come in.
const REMOVED_AT_ONCE: usize = 64;

/// What is found in the folders of a store.
pub(super) enum Found<'a> {
    Chunk(Stored),
    /// A file under way, by its folder and name.
    Temporary {
        folder: &'a OwnedFd,
        name: &'a CStr,
        modified: SystemTime,
        len_bytes: u64,
    },
}

/// What a [`sweep`](LocalStore::sweep) took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// How many files.
    pub files: u64,
    /// The space that they took, in bytes.
    pub len_bytes: u64,
}

impl LocalStore {
    /// Takes away what writers left that were killed, or lost their power: files of chunks under way, of our own, of
    /// casync and of desync. Those that are younger than `unused_since`, or than the oldest writer that works now,
    /// stay; since casync and desync do not say that they work, `unused_since` should lie some hours back. Folders
    /// that are empty then go too.
    ///
    /// # Errors
    ///
    /// `Denied`, `Io`. What was taken away until then is gone.
    pub fn sweep(&self, unused_since: SystemTime) -> Result<Swept> {
        let mut swept = Swept::default();
        // Forgets the dead, also where they left nothing else.
        drop(self.alone()?);
        self.walk(&mut |found| {
            // Who works is asked anew for each: it may belong to somebody who began just now.
            if let Found::Temporary { folder, name, modified, len_bytes } = found
                && modified < unused_since
                && modified < self.alone()?.limit(unused_since)
            {
                match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
                    Ok(()) => {
                        swept.files += 1;
                        swept.len_bytes += len_bytes;
                    }
                    Err(Errno::NOENT) => {}
                    Err(errno) => return Err(self.walking("sweep", errno)),
                }
            }
            Ok(())
        })?;
        self.each_folder(&mut |name| {
            let _ = rustix::fs::unlinkat(&self.folder, name, AtFlags::REMOVEDIR);
            Ok(())
        })?;
        Ok(swept)
    }

    /// Calls `visit` with all that is found in the folders of the store.
    pub(super) fn walk(&self, visit: &mut dyn FnMut(Found<'_>) -> Result<()>) -> Result<()> {
        self.each_folder(&mut |folder_name| {
            let failed = |errno| self.walking("read", errno);
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let opened = rustix::fs::openat(&self.folder, folder_name, flags, Mode::empty());
            let folder = match opened {
                Ok(folder) => folder,
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
                Err(errno) => return Err(failed(errno)),
            };
            for file in Dir::read_from(&folder).map_err(failed)? {
                let file = file.map_err(failed)?;
                let name = file.file_name();
                let entry = self.layout.entry(folder_name.to_bytes(), name.to_bytes());
                if entry == Entry::Foreign {
                    continue;
                }
                let status = match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(status) if is_file(&status) => status,
                    Ok(_) | Err(Errno::NOENT) => continue,
                    Err(errno) => return Err(failed(errno)),
                };
                let (modified, len_bytes) = (modified(&status), status.st_size as u64);
                visit(match entry {
                    Entry::Chunk(id, form) => {
                        Found::Chunk(Stored { id, form, len_bytes, modified })
                    }
                    _ => Found::Temporary { folder: &folder, name, modified, len_bytes },
                })?;
            }
            Ok(())
        })
    }

    fn each_folder(&self, visit: &mut dyn FnMut(&CStr) -> Result<()>) -> Result<()> {
        let failed = |errno| self.walking("read", errno);
        for entry in Dir::read_from(&self.folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if is_folder(entry.file_name().to_bytes()) {
                visit(entry.file_name())?;
            }
        }
        Ok(())
    }

    pub(super) fn take_away(
        &self,
        ids: &[ChunkId],
        unused_since: SystemTime,
        done: &mut dyn FnMut(&ChunkId, Removed),
    ) -> Result<()> {
        for ids in ids.chunks(REMOVED_AT_ONCE) {
            // Taken anew for each part: those who come in between may be new writers.
            let alone = self.alone()?;
            let limit = alone.limit(unused_since);
            for id in ids {
                let removed = self.take_one_away(id, limit)?;
                done(id, removed);
            }
        }
        Ok(())
    }

    fn take_one_away(&self, id: &ChunkId, limit: SystemTime) -> Result<Removed> {
        let names = self.forms().map(|form| self.layout.chunk(id, form));
        let mut is_there = [false; 2];
        for (name, is_there) in names.iter().zip(&mut is_there) {
            match rustix::fs::statat(&self.folder, &**name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(status) if !is_file(&status) => {}
                Ok(status) if modified(&status) >= limit => return Ok(Removed::Kept),
                Ok(_) => *is_there = true,
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(self.error("remove", id, name, errno)),
            }
        }
        if is_there == [false; 2] {
            return Ok(Removed::Absent);
        }
        for (name, _) in names.iter().zip(is_there).filter(|(_, is_there)| *is_there) {
            match rustix::fs::unlinkat(&self.folder, &**name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(self.error("remove", id, name, errno)),
            }
        }
        // The last one takes its folder along; any other finds it not empty.
        let _ = rustix::fs::unlinkat(&self.folder, names[0].folder(), AtFlags::REMOVEDIR);
        Ok(Removed::Yes)
    }

    pub(super) fn settled_before(&self) -> Result<SystemTime> {
        match Alone::with(self.folder.as_fd()).and_then(|alone| alone.settled()) {
            Ok(settled) => Ok(settled),
            // Who may not write here cannot remove anything either: he only wonders what he could.
            Err(Errno::ROFS | Errno::ACCESS | Errno::PERM) => Ok(SystemTime::now()),
            Err(errno) => Err(self.walking("lock", errno)),
        }
    }

    fn alone(&self) -> Result<Alone> {
        Alone::with(self.folder.as_fd()).map_err(|errno| self.walking("lock", errno))
    }

    fn walking(&self, what: &str, errno: Errno) -> Error {
        let sentence = format!("cannot {what} the chunk store {}", self.name);
        Error::io(sentence, errno.into()).at(&self.name, None)
    }
}
