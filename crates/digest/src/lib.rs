//! Zero detection at the speed of memory; the hashes of chunks and blocks will stand beside it.

mod zero;

pub use zero::{first_nonzero, is_zero, zero_prefix_len};
