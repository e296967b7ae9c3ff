//! Writing into a folder: under another name, many flushed at once, then renamed.
//!
//! | step of a batch | what a power cut after it leaves |
//! |---|---|
//! | each chunk is written to `<64 digits>.<16 digits>.tmp` | files that are no chunks, [`sweep`] takes them away |
//! | one flush of the filesystem | the same |
//! | each is renamed, never over another | some chunks, whole, and files that are no chunks |
//! | at the end of `flush`, one flush of the filesystem | all chunks |
//!
//! A flush of the filesystem instead of each file: thousands of small files cost one wait for the disk.
//!
//! [`sweep`]: super::LocalStore::sweep

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use image::{Error, ErrorKind, Result};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::layout::{Layout, Name};
use super::time::modified;
use super::{LocalStore, Sealed};
use crate::ChunkId;
use crate::store::Form;

/// A batch is full with so much, whatever comes first.
const BATCH_BYTES: u64 = 256 << 20;
const BATCH_CHUNKS: usize = 4096;
/// So often a folder is made again that somebody removes because it is empty.
const FOLDER_ATTEMPTS: usize = 16;

/// What was written and has its name not yet.
#[derive(Debug, Default)]
pub(super) struct Batch {
    waiting: Mutex<Waiting>,
    /// Held while a batch is flushed and renamed, one at a time: a failure to write is told to one flush only.
    finishing: Mutex<Finishing>,
    /// Chunks were found that others wrote, who knows how long ago.
    relies_on_others: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    chunks: HashMap<ChunkId, Written>,
    bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Written {
    /// In the name of its file.
    random: u64,
    replace: bool,
}

#[derive(Debug, Default)]
struct Finishing {
    /// Names were given since the last flush of the filesystem.
    is_named: bool,
    /// Why chunks were lost that somebody put; no later flush may claim otherwise.
    failure: Option<(ErrorKind, String)>,
}

impl Batch {
    /// Whether a chunk only waits for its name.
    pub(super) fn holds(&self, id: &ChunkId) -> bool {
        held(&self.waiting).chunks.contains_key(id)
    }

    /// A chunk was found; the next flush makes it durable too.
    pub(super) fn rely_on_others(&self) {
        if !self.relies_on_others.load(Ordering::Relaxed) {
            self.relies_on_others.store(true, Ordering::Release);
        }
    }

    /// Whether it need not be written again. If it is to replace another, it will.
    fn joins(&self, id: &ChunkId, replace: bool) -> bool {
        let mut waiting = held(&self.waiting);
        let Some(written) = waiting.chunks.get_mut(id) else { return false };
        written.replace |= replace;
        true
    }

    /// Takes a chunk; `None` if somebody was faster with the same. Says whether the batch is full.
    fn add(&self, id: &ChunkId, written: Written, len_bytes: u64) -> Option<bool> {
        let mut waiting = held(&self.waiting);
        if let Some(other) = waiting.chunks.get_mut(id) {
            other.replace |= written.replace;
            return None;
        }
        waiting.chunks.insert(*id, written);
        waiting.bytes += len_bytes;
        Some(waiting.is_full())
    }
}

impl Waiting {
    fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES || self.chunks.len() >= BATCH_CHUNKS
    }
}

impl LocalStore {
    pub(super) fn write(&self, chunk: &Sealed<'_>, replace: bool) -> Result<()> {
        let id = chunk.id();
        if chunk.form() != self.form {
            let sentence = format!(
                "a {} chunk cannot be put into {}, which keeps {} ones",
                chunk.form().name(),
                self.name,
                self.form.name()
            );
            return Err(Error::new(ErrorKind::Invalid, sentence).at(&self.name, None));
        }
        self.writer()?;
        if self.durable && self.batch.joins(id, replace) {
            return Ok(());
        }
        let written = Written { random: self.write_temporary(chunk)?, replace };
        if !self.durable {
            return self.give_name(id, written);
        }
        match self.batch.add(id, written, chunk.bytes().len() as u64) {
            None => {
                self.discard(id, written);
                Ok(())
            }
            Some(false) => Ok(()),
            Some(true) => {
                let mut finishing = held(&self.batch.finishing);
                // Whoever finished before may have taken this batch too.
                if held(&self.batch.waiting).is_full() {
                    self.finish_batch(&mut finishing)?;
                }
                Ok(())
            }
        }
    }

    pub(super) fn write_out(&self) -> Result<()> {
        let mut finishing = held(&self.batch.finishing);
        self.finish_batch(&mut finishing)?;
        let relies_on_others = self.batch.relies_on_others.swap(false, Ordering::Acquire);
        if self.durable && (finishing.is_named || relies_on_others) {
            self.flush_filesystem(&mut finishing)?;
            finishing.is_named = false;
        }
        Ok(())
    }

    /// Removes the files of what was put and not flushed.
    pub(super) fn forget_batch(&mut self) {
        let chunks = std::mem::take(&mut held(&self.batch.waiting).chunks);
        for (id, written) in chunks {
            self.discard(&id, written);
        }
    }

    /// Makes all that waits durable, then gives it its names.
    fn finish_batch(&self, finishing: &mut Finishing) -> Result<()> {
        if let Some((kind, sentence)) = &finishing.failure {
            return Err(Error::new(*kind, sentence.clone()).at(&self.name, None));
        }
        let chunks = std::mem::take(&mut *held(&self.batch.waiting)).chunks;
        if chunks.is_empty() {
            return Ok(());
        }
        let mut result = self.flush_filesystem(finishing);
        for (id, written) in chunks {
            if result.is_err() {
                self.discard(&id, written);
                continue;
            }
            finishing.is_named = true;
            result = self.give_name(&id, written);
        }
        self.remember(result, finishing)
    }

    fn flush_filesystem(&self, finishing: &mut Finishing) -> Result<()> {
        let flushed = sys::flush_filesystem(&self.folder).map_err(|cause| {
            let sentence = format!("cannot make new chunks in {} durable", self.name);
            Error::io(sentence, cause).at(&self.name, None)
        });
        self.remember(flushed, finishing)
    }

    fn remember(&self, result: Result<()>, finishing: &mut Finishing) -> Result<()> {
        if let (Err(error), None) = (&result, &finishing.failure) {
            let sentence =
                format!("chunks put into {} were lost: {}", self.name, error.full_sentence());
            finishing.failure = Some((error.kind(), sentence));
        }
        result
    }

    /// Writes a chunk under another name, and gives the random part of it.
    fn write_temporary(&self, chunk: &Sealed<'_>) -> Result<u64> {
        let id = chunk.id();
        let (random, file) = self.create_temporary(id)?;
        let mut file = File::from(file);
        let written = file.write_all(chunk.bytes()).and_then(|()| {
            let made = modified(&rustix::fs::fstat(&file)?);
            let writer = self.writers.join(&self.folder)?;
            Ok(writer.made(made)?)
        });
        written.map_err(|cause| {
            self.discard(id, Written { random, replace: false });
            let sentence = format!("cannot write chunk {id} to {}", self.name);
            Error::io(sentence, cause).at(self.shown(&Layout::temporary(id, random)), None)
        })?;
        Ok(random)
    }

    fn create_temporary(&self, id: &ChunkId) -> Result<(u64, std::os::fd::OwnedFd)> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mut attempts = 0;
        loop {
            let random = fastrand::u64(..);
            let name = Layout::temporary(id, random);
            let failed = |errno| self.error("write", id, &name, errno);
            match rustix::fs::openat(&self.folder, &*name, flags, Mode::from_raw_mode(0o444)) {
                Ok(file) => return Ok((random, file)),
                Err(Errno::EXIST) => {}
                Err(Errno::NOENT) if attempts < FOLDER_ATTEMPTS => {
                    attempts += 1;
                    let mode = Mode::from_raw_mode(0o777);
                    match rustix::fs::mkdirat(&self.folder, name.folder(), mode) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(errno) => return Err(failed(errno)),
                    }
                }
                Err(errno) => return Err(failed(errno)),
            }
        }
    }

    /// Gives a written chunk its name, or removes its file if one is there that will do.
    fn give_name(&self, id: &ChunkId, written: Written) -> Result<()> {
        let name = self.layout.chunk(id, self.form);
        self.rename(id, written, &name).map_err(|errno| {
            self.discard(id, written);
            self.error("give its name to", id, &name, errno)
        })
    }

    fn rename(&self, id: &ChunkId, written: Written, name: &Name) -> Result<(), Errno> {
        let temporary = Layout::temporary(id, written.random);
        let writer = self.writers.join(&self.folder)?;
        // Else somebody who looked at an old chunk removes the new one.
        let _still = writer.look()?;
        if !written.replace {
            match self.rename_unless_taken(&temporary, name) {
                Err(Errno::EXIST) if self.protect(writer, name)? => {
                    self.discard(id, written);
                    return Ok(());
                }
                // What is there is empty, or no file, or cannot be kept.
                Err(Errno::EXIST) => {}
                other => return other,
            }
        }
        rustix::fs::renameat(&self.folder, &*temporary, &self.folder, &**name)?;
        if written.replace {
            // What is there in the other form is no better, and another program may prefer it.
            let other = match self.form {
                Form::Compressed => Form::Plain,
                Form::Plain => Form::Compressed,
            };
            match rustix::fs::unlinkat(
                &self.folder,
                &*self.layout.chunk(id, other),
                AtFlags::empty(),
            ) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn rename_unless_taken(&self, from: &Name, to: &Name) -> Result<(), Errno> {
        let (folder, from, to) = (&self.folder, &**from, &**to);
        match rustix::fs::renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
            // A filesystem without RENAME_NOREPLACE (NFS, older FUSE): a link never replaces either.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            other => return other,
        }
        match rustix::fs::linkat(folder, from, folder, to, AtFlags::empty()) {
            Ok(()) => rustix::fs::unlinkat(folder, from, AtFlags::empty()),
            // No links either: two who put the same chunk at once then replace it by the same bytes.
            Err(Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP) => {
                match rustix::fs::statat(folder, to, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(_) => Err(Errno::EXIST),
                    Err(Errno::NOENT) => rustix::fs::renameat(folder, from, folder, to),
                    Err(errno) => Err(errno),
                }
            }
            Err(errno) => Err(errno),
        }
    }

    fn discard(&self, id: &ChunkId, written: Written) {
        let name = Layout::temporary(id, written.random);
        // What stays has a name that says what it is, and a sweep takes it away.
        let _ = rustix::fs::unlinkat(&self.folder, &*name, AtFlags::empty());
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use digest::Algorithm;
    use testkit::host::TempDir;

    use super::super::writers::Alone;
    use super::super::{LocalOptions, WriteStore};
    use super::*;
    use crate::store::Packer;

    #[test]
    fn no_chunk_gets_its_name_while_somebody_removes() {
        let scratch = TempDir::new("store");
        let options = LocalOptions { form: Form::Plain, durable: false, suffix: None };
        let store = LocalStore::open(scratch.path(), &options).unwrap();
        let (plain, mut packer) = (b"good".to_vec(), Packer::new(Form::Plain, 3).unwrap());
        let id = ChunkId::of(Algorithm::Sha512_256, &plain);
        let sealed = packer.seal(&id, &plain).unwrap();
        store.put(&sealed, false).unwrap();
        let hex = id.hex();
        let path = scratch.join(&hex[..4]).join(&hex);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "old").unwrap();
        let alone = Alone::with(&store.folder).unwrap();
        std::thread::scope(|scope| {
            let putting = scope.spawn(|| store.put(&sealed, true));
            std::thread::sleep(Duration::from_millis(50));
            // He looked at the old one, and would remove the new one under its name.
            assert_eq!(fs::read(&path).unwrap(), b"old");
            drop(alone);
            putting.join().unwrap().unwrap();
        });
        assert_eq!(fs::read(&path).unwrap(), b"good");
    }

    #[test]
    fn once_chunks_were_lost_no_flush_claims_otherwise() {
        let scratch = TempDir::new("store");
        let store = LocalStore::open(scratch.path(), &LocalOptions::default()).unwrap();
        let mut packer = Packer::new(Form::Compressed, 3).unwrap();
        let put = |packer: &mut Packer, plain: &Vec<u8>| {
            let id = ChunkId::of(Algorithm::Sha512_256, plain);
            store.put(&packer.seal(&id, plain).unwrap(), false).map(|()| id)
        };
        let id = put(&mut packer, &b"lost".to_vec()).unwrap();
        let folder = scratch.join(&id.hex()[..4]);
        fs::remove_dir_all(&folder).unwrap();
        let error = store.flush().unwrap_err();
        assert!(error.to_string().contains(&id.hex()), "{error}");
        put(&mut packer, &b"not lost".to_vec()).unwrap();
        let again = store.flush().unwrap_err();
        assert_eq!(again.kind(), error.kind());
        assert!(again.to_string().contains(&error.full_sentence()), "{again}");
    }
}
