//! Bits in the order of DEFLATE, appended to bytes eight at a time.

/// Writes bits to the end of a vector.
pub(super) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    /// Bits that do not make a whole byte yet.
    held: u64,
    held_bits: u32,
}

impl<'a> BitWriter<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        BitWriter { out, held: 0, held_bits: 0 }
    }

    /// Writes what `write` puts, which is at most `len_bytes`.
    pub(super) fn burst(&mut self, len_bytes: usize, write: impl FnOnce(&mut Burst<'_>)) {
        let at = self.out.len();
        // A flush writes eight bytes, whatever it has.
        self.out.resize(at + len_bytes + 16, 0);
        let mut burst = Burst { out: self.out, at, held: self.held, held_bits: self.held_bits };
        write(&mut burst);
        burst.flush();
        let Burst { at, held, held_bits, .. } = burst;
        self.out.truncate(at);
        (self.held, self.held_bits) = (held, held_bits);
    }

    /// Writes a stored block of at most 65,535 bytes, which is not the last. It ends where a byte does.
    pub(super) fn stored(&mut self, content: &[u8]) {
        let len = content.len() as u16;
        self.out.push(self.held as u8);
        if self.held_bits > 5 {
            self.out.push(0);
        }
        (self.held, self.held_bits) = (0, 0);
        self.out.extend_from_slice(&len.to_le_bytes());
        self.out.extend_from_slice(&(!len).to_le_bytes());
        self.out.extend_from_slice(content);
    }
}

/// Writes bits into room that is there. A value of its own and not behind a reference, so that it lives in registers.
pub(super) struct Burst<'a> {
    out: &'a mut [u8],
    at: usize,
    held: u64,
    held_bits: u32,
}

impl Burst<'_> {
    /// Takes the low `count` bits of `bits`; the others are 0. Between two flushes there is space for 56.
    #[inline(always)]
    pub(super) fn put(&mut self, bits: u64, count: u32) {
        self.held |= bits << (self.held_bits & 63);
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
}
