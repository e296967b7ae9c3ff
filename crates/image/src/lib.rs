//! The waist of blockprint: what a disk's content is, where bytes lie, and how work reports and stops.
//!
//! Everything else in blockprint stands on four nouns of this crate:
//!
//! - a [`Medium`] is bytes somewhere: a file, a block device, memory;
//! - an [`Image`] is the content of a disk: a size, and runs ([`Extent`]) of data, zero or unspecified;
//! - a [`Task`] goes along with a piece of work: progress goes up through it, the wish to stop goes down;
//! - an [`Error`] has a kind for programs, a sentence for people, a location and a cause.
//!
//! The crate is pure: it opens no path and calls no operating system.
//!
//! ```
//! use image::{ExtentKind, Image, ImageExt, Medium, MemoryMedium};
//!
//! let medium = MemoryMedium::new("scratch", 1 << 20);
//! medium.write_at(b"hello", 4096)?;
//! assert_eq!(medium.extent_at(0)?.kind, ExtentKind::Zero);
//! # Ok::<(), image::Error>(())
//! ```

mod buffer;
mod error;
mod extent;
mod folder;
mod image;
pub mod layers;
mod medium;
mod memory;
pub mod ranges;
mod task;
pub mod units;

pub use buffer::AlignedBuf;
pub use error::{Error, ErrorKind, Location, Result};
pub use extent::{Extent, ExtentKind};
pub use folder::{Folder, Replace};
pub use image::{Extents, Image, ImageExt, ImageMut};
pub use medium::Medium;
pub use memory::MemoryMedium;
pub use task::{Listener, Phase, Progress, Task};
