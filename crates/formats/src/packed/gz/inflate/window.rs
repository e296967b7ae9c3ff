//! What was unpacked last: what blocks look back at, and what is handed out.

/// How far a block can look back, in bytes.
const BACK_BYTES: usize = 32 << 10;
/// How much is unpacked before it is handed out, in bytes.
const PIECE_BYTES: usize = 256 << 10;
/// Room for what one step may write beyond that: three literals, the longest repetition, and a copy that is rounded up.
const SLACK_BYTES: usize = 320;

/// Memory that content is unpacked to.
pub(in super::super) struct Window {
    bytes: Box<[u8]>,
    /// The oldest byte that may be looked back at.
    floor: usize,
    /// Where the next byte goes.
    at: usize,
    /// What was handed out ends here.
    taken: usize,
}

impl Window {
    pub(in super::super) fn new() -> Self {
        let bytes = vec![0; BACK_BYTES + PIECE_BYTES + SLACK_BYTES].into();
        Window { bytes, floor: 0, at: 0, taken: 0 }
    }

    /// Begins anew behind `past`, of which only the end matters.
    pub(in super::super) fn restart(&mut self, past: &[u8]) {
        let past = &past[past.len().saturating_sub(BACK_BYTES)..];
        self.bytes[..past.len()].copy_from_slice(past);
        (self.floor, self.at, self.taken) = (0, past.len(), past.len());
    }

    /// From here on nothing looks back before this place.
    pub(in super::super) fn forget(&mut self) {
        self.floor = self.at;
    }

    /// What may be looked back at.
    pub(in super::super) fn past(&self) -> &[u8] {
        &self.bytes[self.floor.max(self.at.saturating_sub(BACK_BYTES))..self.at]
    }

    /// What was unpacked and not handed out.
    pub(in super::super) fn ready(&self) -> &[u8] {
        &self.bytes[self.taken..self.at]
    }

    /// So many bytes of it were handed out.
    pub(in super::super) fn take(&mut self, len: usize) {
        self.taken += len;
        // All is out: make room.
        if self.taken == self.at && self.at > BACK_BYTES + PIECE_BYTES / 2 {
            let kept = self.at - BACK_BYTES;
            self.bytes.copy_within(kept..self.at, 0);
            self.floor = self.floor.saturating_sub(kept);
            (self.at, self.taken) = (BACK_BYTES, BACK_BYTES);
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.at >= BACK_BYTES + PIECE_BYTES
    }

    /// Room for bytes as they are.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.at..BACK_BYTES + PIECE_BYTES]
    }

    /// So many bytes were written to the [`room`](Window::room).
    pub(super) fn add(&mut self, len: usize) {
        self.at += len;
    }

    /// Writes what `write` unpacks.
    #[inline(always)]
    pub(super) fn burst(&mut self, write: impl FnOnce(&mut Burst<'_>)) {
        let mut burst = Burst { bytes: &mut self.bytes, floor: self.floor, at: self.at };
        write(&mut burst);
        self.at = burst.at;
    }
}

/// A window in registers.
pub(super) struct Burst<'w> {
    bytes: &'w mut [u8],
    floor: usize,
    at: usize,
}

impl Burst<'_> {
    #[inline(always)]
    pub(super) fn is_full(&self) -> bool {
        self.at >= BACK_BYTES + PIECE_BYTES
    }

    #[inline(always)]
    pub(super) fn byte(&mut self, byte: u8) {
        self.bytes[self.at] = byte;
        self.at += 1;
    }

    /// Repeats `len` bytes, at most 258, from `distance` bytes ago; says whether they were there.
    #[inline(always)]
    pub(super) fn repeat(&mut self, distance: usize, len: usize) -> bool {
        if distance > self.at - self.floor {
            return false;
        }
        let from = self.at - distance;
        match distance {
            16.. => self.copy::<16>(from, len),
            8.. => self.copy::<8>(from, len),
            1 => {
                let byte = self.bytes[from];
                self.bytes[self.at..self.at + len].fill(byte);
            }
            _ => (0..len).for_each(|done| self.bytes[self.at + done] = self.bytes[from + done]),
        }
        self.at += len;
        true
    }

    /// Copies `N` bytes at a time; what is too much is overwritten by what comes next.
    #[inline(always)]
    fn copy<const N: usize>(&mut self, from: usize, len: usize) {
        let mut done = 0;
        while done < len {
            let mut part = [0; N];
            part.copy_from_slice(&self.bytes[from + done..from + done + N]);
            self.bytes[self.at + done..self.at + done + N].copy_from_slice(&part);
            done += N;
        }
    }
}
