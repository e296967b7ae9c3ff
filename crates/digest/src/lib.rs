//! Digests of many chunks at once, casync's rolling hash, and zero detection, at the speed of the machine.

#![allow(unsafe_code)]

mod algorithm;
mod kernel;
mod lanes;
pub mod rolling;
mod zero;

pub use algorithm::{Algorithm, DIGEST_BYTES, Hasher};
pub use kernel::Kernel;
pub use lanes::{Lanes, Message};
pub use zero::{first_nonzero, is_zero, zero_prefix_len};
