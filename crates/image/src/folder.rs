//! A place where media have names: what publishing a finished file needs, and no more.

use std::ffi::OsStr;

use crate::{Medium, Result};

/// A place where media have names, such as a directory. A name is one component: no separator, not `..`.
///
/// A medium that is open stays so when it is renamed.
///
/// What a power cut may leave: of the namings since the last [`sync`](Folder::sync) that returned, any number
/// from the first on (a journal keeps their order); a medium under its new name has the bytes that were synced
/// on it, no more.
pub trait Folder: Send + Sync {
    /// Makes an empty medium under a name that is free, else [`ErrorKind::Exists`].
    ///
    /// [`ErrorKind::Exists`]: crate::ErrorKind::Exists
    fn create(&self, name: &OsStr) -> Result<Box<dyn Medium>>;

    /// Opens for reading and writing what stands under `name`, else [`ErrorKind::NotFound`].
    ///
    /// [`ErrorKind::NotFound`]: crate::ErrorKind::NotFound
    fn open(&self, name: &OsStr) -> Result<Box<dyn Medium>>;

    /// Gives `from` the name `to`, in one step: nobody sees neither, or half.
    fn rename(&self, from: &OsStr, to: &OsStr, replace: Replace) -> Result<()>;

    /// Takes the name away. It is no error if it is gone already.
    fn remove(&self, name: &OsStr) -> Result<()>;

    /// The namings that returned before are durable once this returns.
    fn sync(&self) -> Result<()>;
}

/// Whether a name that is taken may be given to something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// A taken name is an error ([`ErrorKind::Exists`](crate::ErrorKind::Exists)), decided by the system in
    /// the same step, so that a file which came into being a moment ago is safe too.
    Never,
    /// What had the name before goes.
    Allowed,
}
