//! casync's formats, byte for byte: chunks cut by their content, indexes of them, stores that keep them.
//!
//! - [`chunker`] finds where the chunks of a blob end, as casync would.
//! - [`index`] reads and writes `.caibx` files.
//! - [`ingest`] cuts, names and keeps the chunks of an image, on all cores.
//! - [`store`] keeps chunks by the digest of their bytes.
//! - [`IndexImage`] is what an index and stores make readable.

pub mod chunker;
mod id;
mod image;
pub mod index;
pub mod ingest;
mod sizes;
pub mod store;

pub use self::image::IndexImage;
pub use digest::Algorithm;
pub use id::ChunkId;
pub use sizes::{ChunkSizes, MAX_CHUNK_BYTES, RARE_CUTS_ABOVE_BYTES};
