//! What a target begins with: an empty file, or a clone of the old one, which takes its place in the end.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use formats::raw::RawImage;
use image::{Error, ErrorKind, Folder, Image, Medium, Result, Task};
use sys::{Access, Directory, FileMedium};

use crate::Threads;
use crate::ops::copy::OnReadError;
use crate::ops::copy::transfer::{Ledger, Shape, Transfer};
use crate::reflink::is_unsupported;
use crate::target::{create_partial, lock_alone};

/// A new, empty partial file, locked. What stands under its name is removed, unless somebody is writing it.
pub(super) fn anew(directory: &Directory, partial: &OsString, path: &Path) -> Result<FileMedium> {
    match FileMedium::open(path, Access::Write) {
        Ok(old) => lock_alone(&old, path)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    directory.remove(partial)?;
    create_partial(directory, partial, path)
}

/// Fills the new file `target` with all of `old`: shares its blocks where the filesystem can, else copies them.
pub(super) fn fill_with(
    old: &FileMedium,
    target: &FileMedium,
    threads: Threads,
    task: &Task,
) -> Result<()> {
    sys::match_copy_on_write(old.file(), target.file());
    match sys::clone_whole(old.file(), target.file()) {
        Ok(()) => return Ok(()),
        Err(cause) if is_unsupported(&cause) => {}
        Err(cause) => {
            let sentence = format!("cannot clone {}", old.name());
            return Err(Error::io(sentence, cause).at(old.name(), None));
        }
    }
    task.note(format!(
        "this filesystem cannot share blocks: {} is copied as a whole first, so that it can be replaced in one step",
        old.name()
    ));
    let source = RawImage::open(old)?;
    let size_bytes = source.size();
    let image = RawImage::create(target, size_bytes)?;
    task.begin(image::Phase::Copy, size_bytes);
    let transfer = Transfer {
        source: &source,
        target: &image,
        ranges: std::iter::once(0..size_bytes).filter(|all| !all.is_empty()).collect(),
        shape: Shape::cached(target.block_size_bytes(), true),
        on_read_error: OnReadError::Stop,
        threads,
    };
    transfer.run(task, &Ledger::default(), Duration::from_secs(3600), |_| Ok(()))
}
