//! Bits out of a medium, from any bit on.

use image::{Error, ErrorKind, Medium, Result};

/// How much is read at once, in bytes.
const BUFFER_BYTES: usize = 256 << 10;
/// So many bytes can be taken after [`Input::ready`] without another look; behind the end of the medium they are 0.
const MARGIN_BYTES: usize = 64;
/// What a decoder may use up of them in one step.
const STEP_BYTES: usize = 24;

/// Reads a medium bit by bit, in DEFLATE's order.
pub(in super::super) struct Input<'a> {
    medium: &'a dyn Medium,
    /// Length of the medium in bytes.
    end: u64,
    buffer: Box<[u8]>,
    /// Where the first byte of the buffer stands in the medium.
    base: u64,
    /// How much of the buffer is from the medium.
    filled: usize,
    bits: Held,
}

/// Bits that were taken out of the buffer, and where the next ones stand.
#[derive(Clone, Copy, Default)]
struct Held {
    at: usize,
    bits: u64,
    count: u32,
}

impl<'a> Input<'a> {
    /// From bit `bit` of `medium` on.
    pub(in super::super) fn new(medium: &'a dyn Medium, bit: u64) -> Result<Self> {
        let end = medium.len()?;
        let buffer_bytes = end.min(BUFFER_BYTES as u64) as usize + MARGIN_BYTES;
        let mut input = Input {
            medium,
            end,
            buffer: vec![0; buffer_bytes].into(),
            base: 0,
            filled: 0,
            bits: Held::default(),
        };
        input.seek(bit)?;
        Ok(input)
    }

    /// Goes to bit `bit`.
    pub(in super::super) fn seek(&mut self, bit: u64) -> Result<()> {
        (self.base, self.filled, self.bits) = (bit / 8, 0, Held::default());
        self.take((bit % 8) as u32).map(drop)
    }

    /// The bit that comes next, counted from the beginning of the medium.
    pub(in super::super) fn position_bits(&self) -> u64 {
        (self.base + self.bits.at as u64) * 8 - u64::from(self.bits.count)
    }

    /// The byte that comes next, or is begun; at most the end of the medium.
    pub(in super::super) fn position(&self) -> u64 {
        self.position_bits().div_ceil(8).min(self.end)
    }

    pub(in super::super) fn is_at_end(&self) -> bool {
        self.position_bits() >= self.end * 8
    }

    /// Sees to it that there are [`MARGIN_BYTES`] to take.
    ///
    /// # Errors
    ///
    /// `Damaged` where more was taken than there is.
    pub(in super::super) fn ready(&mut self) -> Result<()> {
        if self.bits.at + MARGIN_BYTES <= self.filled {
            return Ok(());
        }
        if self.position_bits() > self.end * 8 {
            return Err(self.ends_early());
        }
        let next = self.base + self.filled as u64;
        if next < self.end {
            // Whole bytes that are held stay, too: they may be given back.
            let start = self.bits.at - (self.bits.count / 8) as usize;
            let kept = self.filled - start;
            self.buffer.copy_within(start..self.filled, 0);
            self.base += start as u64;
            self.bits.at -= start;
            let room = (self.buffer.len() - MARGIN_BYTES - kept) as u64;
            let more = room.min(self.end - next) as usize;
            self.medium.read_at(&mut self.buffer[kept..kept + more], next)?;
            self.filled = kept + more;
            self.buffer[self.filled..self.filled + MARGIN_BYTES].fill(0);
        }
        Ok(())
    }

    /// The next `count` bits, at most 32.
    pub(in super::super) fn take(&mut self, count: u32) -> Result<u32> {
        self.ready()?;
        let mut bits = self.borrow();
        bits.refill();
        let value = bits.low(count) as u32;
        bits.drop(count);
        let held = bits.held;
        self.bits = held;
        Ok(value)
    }

    /// Leaves out what remains of a begun byte.
    pub(in super::super) fn align(&mut self) {
        self.bits.at -= (self.bits.count / 8) as usize;
        (self.bits.bits, self.bits.count) = (0, 0);
    }

    /// Fills `out` with whole bytes; only where a byte begins.
    pub(in super::super) fn bytes(&mut self, out: &mut [u8]) -> Result<()> {
        self.align();
        let mut out = out;
        while !out.is_empty() {
            self.ready()?;
            let part = out.len().min(self.filled.saturating_sub(self.bits.at));
            if part == 0 {
                return Err(self.ends_early());
            }
            let (now, later) = out.split_at_mut(part);
            now.copy_from_slice(&self.buffer[self.bits.at..self.bits.at + part]);
            self.bits.at += part;
            out = later;
        }
        Ok(())
    }

    /// The bits for a decoder, which gives them back by [`settle`](Input::settle).
    pub(super) fn borrow(&self) -> Bits<'_> {
        let limit = self.bits.at + MARGIN_BYTES - STEP_BYTES;
        let limit = limit.max(self.filled.saturating_sub(STEP_BYTES));
        Bits { buffer: &self.buffer, held: self.bits, limit }
    }

    /// Goes to where a decoder has stopped.
    pub(super) fn settle(&mut self, stopped: Stopped) {
        self.bits = stopped.0;
    }

    pub(in super::super) fn ends_early(&self) -> Error {
        let name = self.medium.name();
        let sentence =
            format!("{name} is damaged: it ends at {}, in the middle of its content", self.end);
        Error::new(ErrorKind::Damaged, sentence).at(name, Some(self.end..self.end))
    }

    /// What is wrong at this place.
    pub(in super::super) fn damaged(&self, why: &str) -> Error {
        let name = self.medium.name();
        let at = self.position();
        let sentence = format!("{name} is damaged at {at}: {why}");
        Error::new(ErrorKind::Damaged, sentence).at(name, Some(at..at))
    }
}

/// Where a decoder has stopped.
#[derive(Clone, Copy)]
pub(super) struct Stopped(Held);

/// The bits of an [`Input`], in registers.
pub(super) struct Bits<'b> {
    buffer: &'b [u8],
    held: Held,
    limit: usize,
}

impl Bits<'_> {
    /// Whether there are enough for one more step.
    #[inline(always)]
    pub(super) fn is_enough(&self) -> bool {
        self.held.at < self.limit
    }

    /// Sees to it that at least 56 bits are held.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        let held = &mut self.held;
        let bytes = &self.buffer[held.at..held.at + 8];
        // Bits above the count may be there already: they are the same.
        held.bits |= u64::from_le_bytes(bytes.try_into().unwrap_or_default()) << (held.count & 63);
        held.at += ((63 - held.count) >> 3) as usize;
        held.count |= 56;
    }

    /// The next `count` bits, below 64, which stay.
    #[inline(always)]
    pub(super) fn low(&self, count: u32) -> u64 {
        self.held.bits & ((1 << (count & 63)) - 1)
    }

    #[inline(always)]
    pub(super) fn drop(&mut self, count: u32) {
        self.held.bits >>= count & 63;
        self.held.count = self.held.count.wrapping_sub(count);
    }

    pub(super) fn stop(self) -> Stopped {
        Stopped(self.held)
    }
}
