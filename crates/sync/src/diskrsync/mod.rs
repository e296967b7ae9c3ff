//! diskrsync's protocol `BSNC0002`, both ends, byte for byte.

mod shape;

use image::{Image, Result, Task};

use crate::{Target, Wire};
pub use shape::Shape;

/// The first bytes that each end sends.
pub const MAGIC: [u8; 8] = *b"BSNC0002";

/// How an end works.
pub struct How<'a> {
    /// How many threads take digests.
    pub threads: usize,
    /// Asked by a source before it calls the work done: an error if the image was written to meanwhile.
    pub unchanged: &'a (dyn Fn() -> Result<()> + Sync),
}

/// What an end did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Size of the source in bytes.
    pub source_bytes: u64,
    /// Size that the target had, in bytes.
    pub target_bytes: u64,
    /// Bytes that were compared by their digests.
    pub compared_bytes: u64,
    /// Bytes of data that were sent, or came.
    pub data_bytes: u64,
    /// Bytes that were made zero without being sent.
    pub zeroed_bytes: u64,
}

/// The source end: sends what differs of `image`.
///
/// Phases of the task: `Hash` over the common size, then `Sync` over the size of the source.
pub fn source(image: &dyn Image, wire: Wire<'_>, how: &How<'_>, task: &Task) -> Result<Report> {
    let _ = (image, wire, how, task);
    todo!()
}

/// The target end: makes `target` what the other end sends.
///
/// Phases of the task: as [`source`].
pub fn target(
    target: &mut dyn Target,
    wire: Wire<'_>,
    how: &How<'_>,
    task: &Task,
) -> Result<Report> {
    let _ = (target, wire, how, task);
    todo!()
}
