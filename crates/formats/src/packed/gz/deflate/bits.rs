//! Bits in the order of DEFLATE, appended to bytes eight at a time.

/// Writes bits to the end of a vector.
pub(super) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    /// Where the next whole byte goes. What lies behind in `out` is room.
    at: usize,
    held: u64,
    held_bits: u32,
}

impl<'a> BitWriter<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        let at = out.len();
        BitWriter { out, at, held: 0, held_bits: 0 }
    }

    /// Makes room for `len_bytes` more, and for what a flush writes beyond its bits.
    pub(super) fn reserve(&mut self, len_bytes: usize) {
        self.out.resize(self.at + len_bytes + 16, 0);
    }

    /// Takes the low `count` bits of `bits`; the others are 0. Between two flushes there is space for 56.
    #[inline(always)]
    pub(super) fn put(&mut self, bits: u64, count: u32) {
        self.held |= bits << self.held_bits;
        self.held_bits += count;
    }

    /// Writes the whole bytes that are held.
    #[inline(always)]
    pub(super) fn flush(&mut self) {
        self.out[self.at..self.at + 8].copy_from_slice(&self.held.to_le_bytes());
        self.at += (self.held_bits >> 3) as usize;
        self.held >>= self.held_bits & 56;
        self.held_bits &= 7;
    }

    /// Fills up the byte with zeros.
    pub(super) fn align(&mut self) {
        self.held_bits = (self.held_bits + 7) & !7;
        self.flush();
    }

    /// Writes whole bytes; only where a byte begins.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        debug_assert_eq!(self.held_bits, 0);
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    /// Bits since the last whole byte.
    pub(super) fn held_bits(&self) -> u32 {
        self.held_bits & 7
    }

    /// Gives back the room that was not used.
    pub(super) fn finish(self) {
        self.out.truncate(self.at);
    }
}
