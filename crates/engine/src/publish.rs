//! Giving a finished file its name, so that a power cut leaves the old state or the new one.

use std::ffi::OsStr;

use image::{Folder, Medium, Replace, Result};

use crate::Steps;

/// Puts `medium`, which stands in `folder` under `partial`, under `name`.
///
/// Flush, rename, flush of the folder: after a power cut at any moment, `name` stands for what it stood for
/// before, or for all of the new content, never for a part of it.
pub(crate) fn publish(
    folder: &dyn Folder,
    medium: &dyn Medium,
    partial: &OsStr,
    name: &OsStr,
    replace: Replace,
    steps: &Steps,
) -> Result<()> {
    medium.sync()?;
    steps.reach("flushed");
    folder.rename(partial, name, replace)?;
    steps.reach("renamed");
    folder.sync()?;
    steps.reach("published");
    Ok(())
}

/// Writes a small file as a whole: under `temporary` first, then under `name`, replacing what stood there.
pub(crate) fn replace_small(
    folder: &dyn Folder,
    temporary: &OsStr,
    name: &OsStr,
    content: &[u8],
) -> Result<()> {
    folder.remove(temporary)?;
    let medium = folder.create(temporary)?;
    let published = medium.write_at(content, 0).and_then(|()| {
        publish(folder, &medium, temporary, name, Replace::Allowed, &Steps::default())
    });
    if published.is_err() {
        // What is said of is the error before.
        let _ = folder.remove(temporary);
    }
    published
}
