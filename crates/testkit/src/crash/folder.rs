//! The names of a disk whose power can be cut.

use std::ffi::OsStr;

use ::image::{Error, ErrorKind, Folder, Medium, Replace, Result};

use super::picture::{Naming, Op};
use super::{CrashDisk, FileId, Image};

/// All media of a [`CrashDisk`] by their names.
#[derive(Clone)]
pub struct CrashFolder(pub(super) CrashDisk);

impl Folder for CrashFolder {
    fn create(&self, name: &OsStr) -> Result<Box<dyn Medium>> {
        let mut state = self.0.state();
        let id = state.new_id();
        let naming = Naming::Create(name.to_owned(), id);
        state.perform(Op::Naming(naming), |live| refuse_taken(live, name))?;
        Ok(Box::new(self.0.handle(id, name)))
    }

    fn open(&self, name: &OsStr) -> Result<Box<dyn Medium>> {
        let mut state = self.0.state();
        state.powered(format_args!("open {}", name.display()))?;
        let id = find(&state.live, name)?;
        Ok(Box::new(self.0.handle(id, name)))
    }

    fn rename(&self, from: &OsStr, to: &OsStr, replace: Replace) -> Result<()> {
        let naming = Naming::Rename(from.to_owned(), to.to_owned());
        self.0.state().perform(Op::Naming(naming), |live| {
            find(live, from)?;
            if replace == Replace::Never { refuse_taken(live, to) } else { Ok(()) }
        })
    }

    fn remove(&self, name: &OsStr) -> Result<()> {
        let naming = Naming::Remove(name.to_owned());
        self.0.state().perform(Op::Naming(naming), |_| Ok(()))
    }

    fn sync(&self) -> Result<()> {
        self.0.state().perform(Op::SyncNames, |_| Ok(()))
    }
}

fn find(live: &Image, name: &OsStr) -> Result<FileId> {
    let nothing = || Error::new(ErrorKind::NotFound, format!("there is no {}", name.display()));
    live.names.get(name).copied().ok_or_else(nothing)
}

fn refuse_taken(live: &Image, name: &OsStr) -> Result<()> {
    if live.names.contains_key(name) {
        let sentence = format!("{} is there already", name.display());
        return Err(Error::new(ErrorKind::Exists, sentence));
    }
    Ok(())
}
