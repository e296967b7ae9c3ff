//! Two ends of a pipe that make one image like another: protocols over `Read + Write`, no processes, no paths.
//!
//! A *source* has the content, a *target* gets it. Both ends hold the same tree of digests against each other and
//! move only what differs.
//!
//! - [`diskrsync`] speaks as the program of that name does, byte for byte;
//! - [`native`] is used when both ends are blockprint.

pub mod diskrsync;
pub mod native;
mod target;
pub mod wire;

pub use target::Target;
pub use wire::{Hangup, Wire};
