//! casync's rolling hash: where a chunk may end.
//!
//! The hash of a position is that of the 48 bytes before it, so that all positions of a range can be looked at
//! in any order. A position is a *candidate* when `hash % divisor == divisor - 1`; which of the candidates become
//! cuts is decided by whoever knows the smallest and the largest chunk.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod divisor;
mod portable;
mod table;
#[cfg(test)]
mod tests;

use crate::Kernel;

use divisor::Divisor;
use table::TABLE;

/// How many bytes the hash of a position covers.
pub const WINDOW_BYTES: usize = 48;

/// Finds candidates for one divisor.
#[derive(Clone, Debug)]
pub struct Candidates {
    divisor: Divisor,
    kernel: Kernel,
}

impl Candidates {
    /// For a divisor of at least 1, with the best kernel that this processor has.
    pub fn new(divisor: u32) -> Self {
        Candidates { divisor: Divisor::new(divisor), kernel: Kernel::best() }
    }

    /// For a divisor of at least 1, with a certain kernel: for tests and measurements. All kernels find the same.
    ///
    /// # Panics
    ///
    /// If the processor does not have that kernel.
    pub fn with_kernel(divisor: u32, kernel: Kernel) -> Self {
        kernel.require();
        Candidates { divisor: Divisor::new(divisor), kernel }
    }

    /// Adds to `found`, in ascending order, each candidate of `bytes`: each `p` from [`WINDOW_BYTES`] to
    /// `bytes.len()` so that the window `bytes[p - 48..p]` passes. The first 47 bytes are context only.
    ///
    /// At most 2^31 bytes at a time.
    pub fn find(&self, bytes: &[u8], found: &mut Vec<u32>) {
        assert!(bytes.len() <= 1 << 31, "too many bytes at once");
        match self.kernel {
            // SAFETY: a kernel is chosen only where the processor has its instructions.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => unsafe { avx512::search(&self.divisor, bytes, found) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => unsafe { avx2::search(&self.divisor, bytes, found) },
            _ => portable::search(&self.divisor, bytes, WINDOW_BYTES..=bytes.len(), found),
        }
    }

    /// Whether a position with this hash is a candidate.
    pub fn passes(&self, hash: u32) -> bool {
        self.divisor.passes(hash)
    }

    /// Whether the positions within a run of this byte, from the 48th on, are candidates: all of them are, or none,
    /// so that a run needs no search.
    pub fn constant_passes(&self, byte: u8) -> bool {
        self.passes(window_hash(&[byte; WINDOW_BYTES]))
    }
}

/// The hash of a window.
pub fn window_hash(window: &[u8; WINDOW_BYTES]) -> u32 {
    window.iter().fold(0u32, |hash, byte| hash.rotate_left(1) ^ TABLE[usize::from(*byte)])
}
