//! casync's rolling hash: where a chunk may end.
//!
//! The hash of a position is that of the 48 bytes before it, so that all positions of a range can be looked at
//! in any order. A position is a *candidate* when `hash % divisor == divisor - 1`; which of the candidates become
//! cuts is decided by whoever knows the smallest and the largest chunk.

mod table;

use table::TABLE;

/// How many bytes the hash of a position covers.
pub const WINDOW_BYTES: usize = 48;

/// Finds candidates for one divisor.
#[derive(Clone, Debug)]
pub struct Candidates {
    divisor: u32,
}

impl Candidates {
    /// For a divisor of at least 1.
    pub fn new(divisor: u32) -> Self {
        assert!(divisor > 0, "a divisor of zero");
        Candidates { divisor }
    }

    /// Adds to `found`, in ascending order, each candidate of `bytes`: each `p` from [`WINDOW_BYTES`] to
    /// `bytes.len()` so that the window `bytes[p - 48..p]` passes. The first 47 bytes are context only.
    ///
    /// At most 2^31 bytes at a time.
    pub fn find(&self, bytes: &[u8], found: &mut Vec<u32>) {
        assert!(bytes.len() <= 1 << 31, "too many bytes at once");
        if bytes.len() < WINDOW_BYTES {
            return;
        }
        let mut hash = window_hash(bytes.first_chunk().expect("that many"));
        let mut test = |hash: u32, position: usize| {
            if self.passes(hash) {
                found.push(position as u32);
            }
        };
        test(hash, WINDOW_BYTES);
        for position in WINDOW_BYTES..bytes.len() {
            let (leaving, entering) = (bytes[position - WINDOW_BYTES], bytes[position]);
            hash = hash.rotate_left(1)
                ^ TABLE[usize::from(leaving)].rotate_left(16)
                ^ TABLE[usize::from(entering)];
            test(hash, position + 1);
        }
    }

    /// Whether a position with this hash is a candidate.
    pub fn passes(&self, hash: u32) -> bool {
        hash % self.divisor == self.divisor - 1
    }
}

/// The hash of a window.
pub fn window_hash(window: &[u8; WINDOW_BYTES]) -> u32 {
    window.iter().fold(0u32, |hash, byte| hash.rotate_left(1) ^ TABLE[usize::from(*byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_windows_have_the_known_hashes() {
        assert_eq!(window_hash(&[0; 48]), 0x9e48_9e48);
        assert_eq!(window_hash(&[0xff; 48]), 0xfdc4_023b);
        let counting: [u8; 48] = std::array::from_fn(|at| at as u8);
        assert_eq!(window_hash(&counting), 0x6b67_dec6);
    }
}
