//! The map of a filesystem's used blocks, by partclone.

use std::path::Path;

use formats::partclone::{Header, UsedBlocks};
use image::{Result, Task};

use crate::partclone::{Partclone, Variant};

/// What is known of a filesystem's used blocks.
pub enum Used {
    /// All that partclone knows.
    Known {
        /// The header that partclone would write.
        header: Header,
        /// Which blocks are used.
        used: UsedBlocks,
    },
    /// Nothing: all of it has to be taken as data, for this reason, a sentence without a full stop.
    Unknown(String),
}

/// Asks partclone which blocks of the unmounted filesystem on `device` are used: starts it as for a clone, reads header
/// and bitmap from its stream, ends it. The map is believed only if its checksums are right, its numbers agree with each
/// other, and its size with that of the device and of the filesystem's own superblock.
///
/// # Errors
///
/// `Cancelled`; those of the system. That partclone does not know or refuses the filesystem is no error.
pub fn used_blocks(
    _partclone: &Partclone,
    _variant: Variant,
    _device: &Path,
    _task: &Task,
) -> Result<Used> {
    todo!()
}
