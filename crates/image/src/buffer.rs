//! Memory for transfers, aligned so that the kernel may move bytes straight to and from a device.

use std::ops::{Deref, DerefMut};

/// Bytes whose first one lies at a multiple of [`AlignedBuf::ALIGNMENT`], as direct I/O asks.
#[derive(Debug, Default)]
pub struct AlignedBuf {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBuf {
    /// The page size of the machines we know; no device asks for more.
    pub const ALIGNMENT: usize = 4096;

    /// `len` zeroes.
    pub fn new(len: usize) -> Self {
        let mut buf = AlignedBuf::default();
        buf.grow_to(len);
        buf
    }

    /// Makes it at least `len` bytes long; what was in it may be lost.
    pub fn grow_to(&mut self, len: usize) {
        if len > self.len {
            // Zeroed memory comes from the system untouched: pages that are never used cost nothing.
            self.memory = vec![0; len + Self::ALIGNMENT];
            self.start = self.memory.as_ptr().align_offset(Self::ALIGNMENT);
            self.len = len;
        }
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_also_after_it_has_grown() {
        let mut buf = AlignedBuf::new(0);
        for len in [1, 511, 4096, 100_000] {
            buf.grow_to(len);
            assert_eq!(buf.len(), len);
            assert_eq!(buf.as_ptr() as usize % AlignedBuf::ALIGNMENT, 0);
        }
    }
}
