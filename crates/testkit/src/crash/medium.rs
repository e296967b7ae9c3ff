//! One medium of a disk whose power can be cut.

use std::ops::Range;

use ::image::{Error, ErrorKind, Extent, ExtentKind, Medium, Result};

use super::picture::{Change, Op};
use super::{CrashDisk, File, FileId};

/// A medium of a [`CrashDisk`]. Clones are the same medium; it stays open when its name goes.
#[derive(Clone)]
pub struct CrashMedium {
    disk: CrashDisk,
    id: FileId,
    name: String,
}

impl CrashMedium {
    pub(super) fn new(disk: CrashDisk, id: FileId, name: String) -> Self {
        CrashMedium { disk, id, name }
    }

    /// The disk that it is on.
    pub fn disk(&self) -> &CrashDisk {
        &self.disk
    }

    /// What `look` finds in the live file, while there is power.
    fn look<T>(&self, what: &str, look: impl FnOnce(&File) -> Result<T>) -> Result<T> {
        let mut state = self.disk.state();
        state.powered(what).map_err(|error| self.located(error, None))?;
        look(&state.live.files[&self.id])
    }

    /// Makes a change that `permit` lets pass.
    fn change(&self, change: Change, permit: impl FnOnce(&File) -> Result<()>) -> Result<()> {
        let range = change.range();
        let mut state = self.disk.state();
        state
            .perform(Op::Change(self.id, change), |live| permit(&live.files[&self.id]))
            .map_err(|error| self.located(error, Some(range)))
    }

    fn located(&self, error: Error, range: Option<Range<u64>>) -> Error {
        error.at(&self.name, range)
    }

    fn inside(&self, range: &Range<u64>, file: &File) -> Result<()> {
        let len_bytes = file.content.len_bytes();
        if range.end <= len_bytes {
            return Ok(());
        }
        let sentence = format!("{range:?} is not within the {len_bytes} bytes of {}", self.name);
        Err(self.located(Error::new(ErrorKind::Changed, sentence), Some(range.clone())))
    }
}

impl Medium for CrashMedium {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> Result<u64> {
        self.look("ask for the length", |file| Ok(file.content.len_bytes()))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let range = offset..offset.saturating_add(buf.len() as u64);
        self.look(&format!("read {range:?}"), |file| {
            self.inside(&range, file)?;
            file.content.read(buf, offset);
            Ok(())
        })
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        if buf.is_empty() {
            return Ok(());
        }
        let range = offset..offset + buf.len() as u64;
        self.change(Change::Write { offset, bytes: buf.into() }, |file| {
            if !file.fixed || range.end <= file.content.len_bytes() {
                return Ok(());
            }
            let sentence = format!("cannot write {range:?} of {}: it cannot grow", self.name);
            Err(Error::new(ErrorKind::Full, sentence))
        })
    }

    fn set_len(&self, len_bytes: u64) -> Result<()> {
        self.change(Change::SetLen(len_bytes), |file| {
            if !file.fixed || len_bytes == file.content.len_bytes() {
                return Ok(());
            }
            let sentence = format!("{} cannot become {len_bytes} bytes long", self.name);
            Err(Error::new(ErrorKind::Unsupported, sentence))
        })
    }

    /// Gives back what space it can: whole blocks of 4096 bytes.
    fn punch(&self, range: Range<u64>) -> Result<()> {
        self.change(Change::Punch(range.clone()), |file| self.inside(&range, file))
    }

    /// Fills `range` with garbage, since nobody may rely on it.
    fn discard(&self, range: Range<u64>) -> Result<()> {
        self.change(Change::Discard(range.clone()), |file| self.inside(&range, file))
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.look("ask for a run", |file| {
            let (data, end) = file.content.run_at(offset);
            let kind = if data { ExtentKind::Data } else { ExtentKind::Zero };
            Ok(Extent::new(offset..end, kind))
        })
    }

    fn sync(&self) -> Result<()> {
        let mut state = self.disk.state();
        state.perform(Op::Sync(self.id), |_| Ok(())).map_err(|error| self.located(error, None))
    }
}
