//! The work of blockprint: from a text to an image, and one module for each operation on images.
//!
//! An operation is plain functions: `plan(request, task)` writes nothing, holds every refusal and claims the
//! target; `perform(plan, task)` does the work and returns a report. Nothing here prints: a face (the program,
//! a daemon) listens to the [`Task`] and shows the report in its own form.

mod amount;
pub mod backup_name;
pub mod devices;
mod folders;
mod indexes;
pub mod jobs;
mod journal;
mod kept;
pub mod location;
pub mod mapfile;
mod matching;
pub mod ops;
mod partclone;
mod pipeline;
mod publish;
mod reflink;
pub mod registry;
pub mod remote;
mod scan;
mod steps;
pub mod stores;
mod target;
mod used;

/// The words of chunking that a face needs to speak with an operation.
pub mod chunking {
    pub use chunks::chunker::Rule;
    pub use chunks::index::{Excluded, Span};
    pub use chunks::ingest::{Existing, Totals};
    pub use chunks::store::{DEFAULT_LEVEL, Form, Stored};
    pub use chunks::{Algorithm, ChunkId, ChunkSizes};
}

/// The words of partition images that a face needs to speak with an operation.
pub mod partitions {
    pub use crate::partclone::{OnReport, PartcloneFailure};
    pub use filesystems::partclone::{Partclone, Report, Variant};
    pub use filesystems::{Filesystem, probe};
    pub use formats::packed::Compression;
}

pub use amount::Amount;
pub use indexes::Lenience;
pub use pipeline::Threads;
pub use reflink::Reflink;
pub use scan::Findings;
pub use steps::Steps;

// The words of the crates below that a face needs to speak with an operation.
pub use image::ranges::RangeSet;
pub use image::units::Bytes;
pub use image::{Error, ErrorKind, Extent, ExtentKind, Listener, Phase, Progress, Result, Task};
pub use sys::holders::{Holders, HoldingDevice, HoldingKind};
pub use sys::{LocalTime, MountEntry, Namespace, ProcessGroup, kill_self, raise_stop};
