//! What filesystem a partition holds, and which of its blocks are used: asked of the tools that know (blkid, partclone),
//! never believed blindly.

mod layer;
pub mod partclone;
mod probe;
mod size;
mod state;
mod superblock;
mod used;

pub use layer::UsedOnly;
pub use probe::{Filesystem, probe};
pub use state::unmapped;
pub use used::{Used, used_blocks};
