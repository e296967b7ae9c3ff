//! A second descriptor that moves bytes without the page cache, used where a request is aligned for it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use image::AlignedBuf;

/// A descriptor with O_DIRECT.
#[derive(Debug)]
pub(crate) struct Direct {
    file: File,
    alignment: u64,
}

impl Direct {
    /// Opens `path` once more, if the filesystem or device permits direct access there.
    pub(crate) fn open(path: &Path, write: bool, alignment: u32) -> Option<Direct> {
        let file = OpenOptions::new()
            .read(true)
            .write(write)
            .custom_flags(libc::O_DIRECT)
            .open(path)
            .ok()?;
        Some(Direct { file, alignment: u64::from(alignment).max(512) })
    }

    /// The descriptor, if this request is aligned for it.
    pub(crate) fn for_request(&self, buf: &[u8], offset: u64) -> Option<&File> {
        let aligned = (buf.as_ptr() as usize).is_multiple_of(AlignedBuf::ALIGNMENT)
            && (buf.len() as u64).is_multiple_of(self.alignment)
            && offset.is_multiple_of(self.alignment);
        (aligned && !buf.is_empty()).then_some(&self.file)
    }
}
