//! What the bytes of a medium mean: one folder for each image format.
//!
//! A format is pure: it stands on a [`Medium`](image::Medium) that it is given and never opens a path itself.

pub mod packed;
pub mod partclone;
pub mod probe;
pub mod raw;
pub mod spgz;
pub mod table;
