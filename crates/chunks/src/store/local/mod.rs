//! A store in a folder, as casync and desync keep theirs.
//!
//! ```text
//! <store>/<first 4 digits of the ID>/<64 digits>.cacnk    one compressed frame
//! <store>/<first 4 digits of the ID>/<64 digits>          plain bytes
//! <store>/.blockprint/                                    who works here now; see `writers`
//! ```
//!
//! Sources: casync 2 and desync 0.9.6.

mod layout;
mod time;
mod walk;
mod write;
mod writers;

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use image::{Error, ErrorKind, Result};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;

pub use self::walk::Swept;

use self::layout::{Layout, Name};
use self::time::modified;
use self::write::Batch;
use self::writers::Writers;
use super::{Form, Packed, PruneStore, ReadStore, Removed, Sealed, Stored, WriteStore};
use crate::{ChunkId, MAX_CHUNK_BYTES};

/// A store in a folder.
///
/// One that is only read from writes nothing, and needs no permission to. Several programs may write and remove at
/// once: what one of them needs, no other of them takes away as long as this lives; casync and desync know nothing of
/// this and do. So it is to be dropped only when an index tells of its chunks, where whoever removes looks for one.
///
/// When dropped without a [`flush`](WriteStore::flush), what was put and is not there yet is forgotten.
#[derive(Debug)]
pub struct LocalStore {
    name: String,
    path: PathBuf,
    folder: OwnedFd,
    form: Form,
    durable: bool,
    layout: Layout,
    writers: Writers,
    batch: Batch,
}

/// How a store in a folder keeps new chunks. What is there already is read in each form.
#[derive(Clone, Debug)]
pub struct LocalOptions {
    /// The form of new chunks.
    pub form: Form,
    /// Whether [`flush`](WriteStore::flush) makes them durable. If not, each is there once it was put, and a power
    /// cut may leave any of the last ones empty or broken under its name, as with casync and desync.
    pub durable: bool,
    /// What the names of compressed chunks end with. Without it that is what the environment has in
    /// `CASYNC_COMPRESSED_CHUNK_SUFFIX`, else `.cacnk`.
    pub suffix: Option<String>,
}

impl Default for LocalOptions {
    /// Compressed, durable, `.cacnk`.
    fn default() -> Self {
        LocalOptions { form: Form::Compressed, durable: true, suffix: None }
    }
}

impl LocalStore {
    /// Opens the store in the folder `path`.
    ///
    /// # Errors
    ///
    /// `NotFound`, `Denied`; `Invalid` for a suffix that cannot end a name; `Io` if it is no folder.
    pub fn open(path: &Path, options: &LocalOptions) -> Result<Self> {
        let layout = Layout::new(options.suffix.as_deref())?;
        let name = path.display().to_string();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|errno| {
            Error::io(format!("cannot open the chunk store {name}"), errno.into()).at(&name, None)
        })?;
        Ok(LocalStore {
            name,
            path: path.to_owned(),
            folder,
            form: options.form,
            durable: options.durable,
            layout,
            writers: Writers::default(),
            batch: Batch::default(),
        })
    }

    /// Opens the store in the folder `path`, and makes the folder if it is not there, but none above it.
    ///
    /// # Errors
    ///
    /// As [`open`](LocalStore::open).
    pub fn create(path: &Path, options: &LocalOptions) -> Result<Self> {
        match rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => LocalStore::open(path, options),
            Err(errno) => {
                let name = path.display().to_string();
                let sentence = format!("cannot make the chunk store {name}");
                Err(Error::io(sentence, errno.into()).at(name, None))
            }
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The order in which forms are looked for: first the one that this store keeps.
    fn forms(&self) -> [Form; 2] {
        match self.form {
            Form::Compressed => [Form::Compressed, Form::Plain],
            Form::Plain => [Form::Plain, Form::Compressed],
        }
    }

    /// Opens one file and reads it, if it is there.
    fn read(&self, id: &ChunkId, form: Form) -> Result<Option<Packed>> {
        let name = self.layout.chunk(id, form);
        let cannot_read = |errno| self.error("read", id, &name, errno);
        // A pipe in place of a chunk is not waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.folder, &*name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(self.no_file(&name, "a symbolic link")),
            Err(errno) => return Err(cannot_read(errno)),
        };
        let status = rustix::fs::fstat(&file).map_err(cannot_read)?;
        if !is_file(&status) {
            return Err(self.no_file(&name, "no regular file"));
        }
        let limit = largest_file(form);
        let too_large = |len_bytes| {
            let origin = self.shown(&name);
            let sentence = format!(
                "{origin}: {len_bytes} bytes are no chunk: a {} one has at most {limit}",
                form.name()
            );
            Error::new(ErrorKind::Damaged, sentence).at(origin, None)
        };
        let len_bytes = status.st_size as u64;
        if len_bytes > limit {
            return Err(too_large(len_bytes));
        }
        let mut bytes = Vec::with_capacity(len_bytes as usize);
        File::from(file).take(limit + 1).read_to_end(&mut bytes).map_err(|cause| {
            let shown = self.shown(&name);
            Error::io(format!("cannot read the chunk {shown}"), cause).at(shown, None)
        })?;
        if bytes.len() as u64 > limit {
            return Err(too_large(bytes.len() as u64));
        }
        Ok(Some(Packed { bytes, form, origin: self.shown(&name) }))
    }

    /// What stands under the name of a chunk, if it can be one.
    fn look(&self, name: &Name) -> Result<Option<Stat>, Errno> {
        match rustix::fs::statat(&self.folder, &**name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(status) if is_file(&status) && status.st_size > 0 => Ok(Some(status)),
            Ok(_) | Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Makes sure that nobody removes the chunk in this form while this store lives. `false` if it is not there, or
    /// cannot be kept: it is somebody else's, whose time only he may change. A new one in its place can.
    ///
    /// The caller holds the shared lock.
    fn protect(&self, writer: &writers::Writer, name: &Name) -> Result<bool, Errno> {
        let Some(status) = self.look(name)? else { return Ok(false) };
        if modified(&status) >= writer.beginning() {
            return Ok(true);
        }
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        match rustix::fs::utimensat(&self.folder, &**name, &times, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::PERM | Errno::ACCESS | Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(errno),
        }
        // The clock may have been set back since this writer began.
        match self.look(name)? {
            Some(status) => writer.made(modified(&status)).map(|()| true),
            None => Ok(false),
        }
    }

    /// This store as a writer, which it becomes here if it was not yet.
    fn writer(&self) -> Result<&writers::Writer> {
        self.writers.join(&self.folder).map_err(|errno| {
            let sentence = format!("cannot write to the chunk store {}", self.name);
            Error::io(sentence, errno.into()).at(&self.name, None)
        })
    }

    fn shown(&self, name: &Name) -> String {
        format!("{}/{name}", self.name)
    }

    fn error(&self, what: &str, id: &ChunkId, name: &Name, errno: Errno) -> Error {
        let sentence = format!("cannot {what} chunk {id} in {}", self.name);
        Error::io(sentence, errno.into()).at(self.shown(name), None)
    }

    fn no_file(&self, name: &Name, found: &str) -> Error {
        let shown = self.shown(name);
        let sentence = format!("{shown} is {found}, where a chunk should be: remove it");
        Error::new(ErrorKind::Damaged, sentence).at(shown, None)
    }
}

impl ReadStore for LocalStore {
    fn name(&self) -> &str {
        &self.name
    }

    fn has(&self, id: &ChunkId) -> Result<bool> {
        for form in self.forms() {
            let name = self.layout.chunk(id, form);
            let found = self.look(&name);
            if found.map_err(|errno| self.error("look for", id, &name, errno))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Of a chunk that is there in both forms, that of this store is preferred, unless it is empty.
    fn fetch(&self, id: &ChunkId) -> Result<Option<Packed>> {
        let mut empty = None;
        for form in self.forms() {
            match self.read(id, form)? {
                Some(packed) if packed.bytes.is_empty() => empty = empty.or(Some(packed)),
                Some(packed) => return Ok(Some(packed)),
                None => {}
            }
        }
        Ok(empty)
    }
}

impl WriteStore for LocalStore {
    fn form(&self) -> Form {
        self.form
    }

    /// Refreshes the time of a chunk that is older than this writer. One whose time may not be changed, since it is
    /// somebody else's, is to be put: then a new one takes its place. What was put and not flushed counts as there.
    fn reuse(&self, id: &ChunkId) -> Result<bool> {
        let writer = self.writer()?;
        if self.batch.holds(id) {
            return Ok(true);
        }
        let cannot_use =
            |errno| self.error("make use of", id, &self.layout.chunk(id, self.form), errno);
        let _still = writer.look().map_err(cannot_use)?;
        for form in self.forms() {
            let name = self.layout.chunk(id, form);
            if self.protect(writer, &name).map_err(cannot_use)? {
                self.batch.rely_on_others();
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// One that is there already is left alone, but made safe from being removed. Until the next
    /// [`flush`](WriteStore::flush) a power cut, or the end of the program, may leave a file `….tmp` in its place,
    /// which a [`sweep`](LocalStore::sweep) takes away.
    fn put(&self, chunk: &Sealed<'_>, replace: bool) -> Result<()> {
        self.write(chunk, replace)
    }

    fn flush(&self) -> Result<()> {
        self.write_out()
    }
}

impl PruneStore for LocalStore {
    /// A chunk that lies there in both forms comes twice. An empty file, as a power cut leaves it, comes too.
    fn list(&self, visit: &mut dyn FnMut(Stored) -> Result<()>) -> Result<()> {
        self.walk(&mut |found| match found {
            walk::Found::Chunk(stored) => visit(stored),
            walk::Found::Temporary { .. } => Ok(()),
        })
    }

    fn settled(&self) -> Result<SystemTime> {
        self.settled_before()
    }

    fn sweep(&self, unused_since: SystemTime) -> Result<Swept> {
        LocalStore::sweep(self, unused_since)
    }

    fn remove(&self, id: &ChunkId, unused_since: SystemTime) -> Result<Removed> {
        let mut outcome = Removed::Absent;
        self.remove_many(&[*id], unused_since, &mut |_, removed| outcome = removed)?;
        Ok(outcome)
    }

    fn remove_many(
        &self,
        ids: &[ChunkId],
        unused_since: SystemTime,
        done: &mut dyn FnMut(&ChunkId, Removed),
    ) -> Result<()> {
        self.take_away(ids, unused_since, done)
    }
}

impl Drop for LocalStore {
    fn drop(&mut self) {
        self.forget_batch();
        self.writers.leave(self.folder.as_fd());
    }
}

fn is_file(status: &Stat) -> bool {
    FileType::from_raw_mode(status.st_mode) == FileType::RegularFile
}

/// The largest file that can hold a chunk, in bytes: zstd's bound lies above those of xz and gzip.
fn largest_file(form: Form) -> u64 {
    match form {
        Form::Plain => MAX_CHUNK_BYTES,
        Form::Compressed => zstd_safe::compress_bound(MAX_CHUNK_BYTES as usize) as u64,
    }
}
