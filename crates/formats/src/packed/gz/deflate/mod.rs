//! A compressor for DEFLATE (RFC 1951) that gives up a little size for much speed: segments, each by itself.
//!
//! It looks up each position in one table of hashes, takes what it finds there or at the next position, and writes
//! blocks with codes of their own. Long runs without matches are stepped over faster and faster.

mod bits;
mod block;
mod head;
mod huffman;
mod matching;

use bits::BitWriter;
use block::Codes;
use matching::Finder;

/// Content of one block in bytes: codes fit what they are made for, and cost some 80 bytes to tell. Six of them make
/// a segment.
const BLOCK_BYTES: usize = 86 << 10;

/// Compresses segments. What it keeps between two of them is memory only, so a segment's bytes depend on its content
/// alone.
pub(super) struct Deflater {
    finder: Finder,
    codes: Codes,
}

impl Deflater {
    pub(super) fn new() -> Self {
        Deflater { finder: Finder::new(), codes: Codes::new() }
    }

    /// Appends `segment` to `out`: blocks none of which is the last or looks back before the segment, and an empty
    /// stored block, so that the next one begins at a byte.
    pub(super) fn append(&mut self, segment: &[u8], out: &mut Vec<u8>) {
        self.finder.forget();
        let mut writer = BitWriter::new(out);
        let mut from = 0;
        while from < segment.len() {
            let end = segment.len().min(from + BLOCK_BYTES);
            let found = self.finder.find(segment, from..end);
            self.codes.write(&segment[from..end], found, &mut writer);
            from = end;
        }
        writer.stored(&[]);
    }
}
