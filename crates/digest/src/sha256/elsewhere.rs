//! SHA-256, one message, on processors for which this crate has no kernels: `sha2` knows the instructions of many.

use super::BLOCK_BYTES;

/// Compresses whole blocks.
pub(super) fn compress(state: &mut [u32; 8], blocks: &[u8]) {
    sha2::block_api::compress256(state, blocks.as_chunks::<BLOCK_BYTES>().0);
}
