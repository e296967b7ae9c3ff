//! Digests of many chunks at once, casync's rolling hash, and zero detection, at the speed of the machine.

#![allow(unsafe_code)]

mod algorithm;
pub mod blake2b;
pub mod blake3;
mod block;
mod kernel;
mod lanes;
mod queue;
pub mod rolling;
#[cfg(target_arch = "x86_64")]
mod rounds;
mod sha256;
mod sha512;
#[cfg(target_arch = "x86_64")]
mod transpose;
mod zero;

pub use algorithm::{Algorithm, DIGEST_BYTES, Hasher};
pub use kernel::Kernel;
pub use lanes::{Lanes, Message};
pub use zero::{first_nonzero, is_zero, zero_prefix_len};
