//! So many chunks, and so many bytes.

/// Chunks, and their plain bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many chunks.
    pub chunks: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    /// One more chunk, of so many bytes.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.chunks += 1;
        self.bytes += bytes;
    }
}
