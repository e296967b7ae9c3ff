//! Opens the index of a blob where it lies.

use std::path::Path;

use chunks::index::{Flags, Index};
use image::Result;
use sys::{Access, FileMedium};

/// What to do about feature flags in an index that nobody knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lenience {
    /// Refuse it, as casync does.
    #[default]
    Strict,
    /// Ignore them; for a blob they tell no more than the digest.
    Lenient,
}

/// Opens the index in the file at `path`, and checks all of it.
///
/// # Errors
///
/// `NotFound`, `Denied`; `Damaged` with the place of the wrong bytes; `Unsupported` for unknown flags.
pub(crate) fn open_index(path: &Path, lenience: Lenience) -> Result<Index> {
    let flags = match lenience {
        Lenience::Strict => Flags::Known,
        Lenience::Lenient => Flags::Any,
    };
    Index::open(FileMedium::open(path, Access::Read)?, flags)
}
