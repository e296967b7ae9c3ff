//! Whether blocks are to be shared between files, and when a filesystem cannot.

use std::io;

/// Whether a copy or clone shares the blocks of its source (copy-on-write).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reflink {
    /// Where the filesystem can; elsewhere the data is copied.
    #[default]
    Auto,
    /// Or fail.
    Always,
    /// Never: the data is copied.
    Never,
}

/// Whether the filesystem, or this pair of filesystems, knows no reflinks.
pub(crate) fn is_unsupported(cause: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, InvalidInput, Unsupported};
    const ENOTTY: i32 = 25;
    matches!(cause.kind(), Unsupported | CrossesDevices | InvalidInput)
        || cause.raw_os_error() == Some(ENOTTY)
}
