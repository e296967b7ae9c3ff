//! casync's formats, byte for byte: chunks cut by their content, indexes of them, stores that keep them.
//!
//! - [`chunker`] finds where the chunks of a blob end, as casync would.
//! - [`index`] reads and writes `.caibx` files.
//! - [`ingest`] cuts, names and keeps the chunks of an image, on all cores.
//! - [`store`] keeps chunks by the digest of their bytes.

pub mod chunker;
mod id;
pub mod index;
pub mod ingest;
mod sizes;
pub mod store;

pub use digest::Algorithm;
pub use id::ChunkId;
pub use sizes::{ChunkSizes, MAX_CHUNK_BYTES, RARE_CUTS_ABOVE_BYTES};
