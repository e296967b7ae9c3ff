//! A decompressor for DEFLATE (RFC 1951) that can start and stop at any bit.

mod codes;
mod input;
mod window;

use image::Result;

use codes::{Codes, DISTANCE_BITS, END, LITERAL, LITERAL_BITS, LONGER, OTHER};
use input::Bits;
pub(super) use input::Input;
pub(super) use window::Window;

/// The order in which the lengths of the codes for code lengths are told.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Where in a stream of blocks it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Before a block.
    Between,
    /// In a block of bytes as they are, of which so many are left.
    Stored(u16),
    /// In a block with codes.
    Coded,
    /// Behind the last block.
    Done,
}

/// Unpacks blocks.
pub(super) struct Inflate {
    state: State,
    is_last: bool,
    /// Where the block began, in bits.
    block_bit: u64,
    codes: Codes,
}

impl Inflate {
    pub(super) fn new() -> Self {
        Inflate { state: State::Between, is_last: false, block_bit: 0, codes: Codes::new() }
    }

    /// Begins anew, before a block.
    pub(super) fn restart(&mut self) {
        (self.state, self.is_last) = (State::Between, false);
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Whether it stands in the last block.
    pub(super) fn is_last(&self) -> bool {
        self.is_last
    }

    /// Where the block that it stands in began, in bits.
    pub(super) fn block_bit(&self) -> u64 {
        self.block_bit
    }

    /// Goes on in the middle of a stored block, `left` bytes before its end.
    pub(super) fn resume_stored(&mut self, left: u16, is_last: bool) {
        (self.state, self.is_last) = (State::Stored(left), is_last);
    }

    /// Goes on at `bit` in a block with codes, which begins at `block_bit`.
    pub(super) fn resume_coded(
        &mut self,
        input: &mut Input<'_>,
        block_bit: u64,
        bit: u64,
    ) -> Result<()> {
        input.seek(block_bit)?;
        self.restart();
        self.begin(input)?;
        if self.state != State::Coded {
            return Err(input.damaged("here should begin a block with codes"));
        }
        input.seek(bit)
    }

    /// Unpacks until `window` is full or the last block ends.
    pub(super) fn run(&mut self, input: &mut Input<'_>, window: &mut Window) -> Result<()> {
        while !window.is_full() {
            match self.state {
                State::Between if self.is_last => self.state = State::Done,
                State::Between => self.begin(input)?,
                State::Stored(0) => self.state = State::Between,
                State::Stored(left) => {
                    let room = window.room();
                    let part = room.len().min(left as usize);
                    input.bytes(&mut room[..part])?;
                    window.add(part);
                    self.state = State::Stored(left - part as u16);
                }
                State::Coded => {
                    input.ready()?;
                    let mut bits = input.borrow();
                    let ended = decode(&self.codes, &mut bits, window);
                    let stopped = bits.stop();
                    input.settle(stopped);
                    if ended.map_err(|why| input.damaged(why))? {
                        self.state = State::Between;
                    }
                }
                State::Done => break,
            }
        }
        Ok(())
    }

    /// Reads the head of a block.
    fn begin(&mut self, input: &mut Input<'_>) -> Result<()> {
        self.block_bit = input.position_bits();
        self.is_last = input.take(1)? == 1;
        self.state = match input.take(2)? {
            0 => {
                let mut lens = [0; 4];
                input.bytes(&mut lens)?;
                let [a, b, c, d] = lens;
                if (a, b) != (!c, !d) {
                    return Err(input.damaged("a stored block says two lengths"));
                }
                State::Stored(u16::from_le_bytes([a, b]))
            }
            1 => {
                self.codes.set_fixed().map_err(|why| input.damaged(why))?;
                State::Coded
            }
            2 => {
                self.read_codes(input)?;
                State::Coded
            }
            _ => return Err(input.damaged("a block has a kind that there is not")),
        };
        Ok(())
    }

    fn read_codes(&mut self, input: &mut Input<'_>) -> Result<()> {
        let literals = input.take(5)? as usize + 257;
        let distances = input.take(5)? as usize + 1;
        let told = input.take(4)? as usize + 4;
        if literals > 286 || distances > 30 {
            return Err(input.damaged("a block has more codes than there are"));
        }
        let mut code_lens = [0; 19];
        for &at in &ORDER[..told] {
            code_lens[at] = input.take(3)? as u8;
        }
        let mut table = [0; 128];
        codes::build(&code_lens, 7, &mut table, |symbol| ((symbol as u32) << 16, 0))
            .map_err(|why| input.damaged(why))?;
        let mut lens = [0u8; 320];
        let mut at = 0;
        while at < literals + distances {
            input.ready()?;
            let mut bits = input.borrow();
            bits.refill();
            let entry = table[bits.low(7) as usize];
            bits.drop(entry & 0xff);
            let (value, extra, least) = match entry >> 16 {
                16 if at > 0 => (lens[at - 1], 2, 3),
                17 => (0, 3, 3),
                18 => (0, 7, 11),
                len @ 0..16 if entry & OTHER == 0 => (len as u8, 0, 1),
                _ => return Err(input.damaged("a block repeats a length before the first")),
            };
            let count = least + bits.low(extra) as usize;
            bits.drop(extra);
            let stopped = bits.stop();
            input.settle(stopped);
            if at + count > literals + distances {
                return Err(input.damaged("a block has more lengths than codes"));
            }
            lens[at..at + count].fill(value);
            at += count;
        }
        let (literals, distances) = lens[..at].split_at(literals);
        self.codes.set(literals, distances).map_err(|why| input.damaged(why))
    }
}

/// Unpacks until the block ends (which it says), the window is full, or bits have to be got.
fn decode(codes: &Codes, bits: &mut Bits<'_>, window: &mut Window) -> Result<bool, &'static str> {
    let mut ended = Ok(false);
    let (literals, distances) = (&codes.literals, &codes.distances);
    let look = |bits: &Bits<'_>| literals[bits.low(LITERAL_BITS) as usize];
    window.burst(|out| {
        while bits.is_enough() && !out.is_full() {
            bits.refill();
            let mut entry = look(bits);
            if entry & LITERAL != 0 {
                // Three short codes leave bits enough to look up one more.
                bits.drop(entry & 0xff);
                out.byte((entry >> 16) as u8);
                entry = look(bits);
                if entry & LITERAL != 0 {
                    bits.drop(entry & 0xff);
                    out.byte((entry >> 16) as u8);
                    entry = look(bits);
                    if entry & LITERAL != 0 {
                        bits.drop(entry & 0xff);
                        out.byte((entry >> 16) as u8);
                        continue;
                    }
                }
                bits.refill();
            }
            if entry & OTHER != 0 {
                if entry & LONGER != 0 {
                    bits.drop(LITERAL_BITS);
                    let at = (entry >> 16) as usize + bits.low(entry >> 8 & 31) as usize;
                    entry = literals[at & (literals.len() - 1)];
                    if entry & LITERAL != 0 {
                        bits.drop(entry & 0xff);
                        out.byte((entry >> 16) as u8);
                        continue;
                    }
                }
                if entry & OTHER != 0 {
                    bits.drop(entry & 0xff);
                    let why = "there is no such length";
                    ended = if entry & END != 0 { Ok(true) } else { Err(why) };
                    return;
                }
            }
            let len = value(bits, entry);
            let mut entry = distances[bits.low(DISTANCE_BITS) as usize];
            if entry & LONGER != 0 {
                bits.drop(DISTANCE_BITS);
                let at = (entry >> 16) as usize + bits.low(entry >> 8 & 31) as usize;
                entry = distances[at & (distances.len() - 1)];
            }
            if entry & OTHER != 0 {
                ended = Err("there is no such distance");
                return;
            }
            let distance = value(bits, entry);
            if !out.repeat(distance, len) {
                ended = Err("it looks back before its beginning");
                return;
            }
        }
    });
    ended
}

/// The length or distance of an entry, with its extra bits.
#[inline(always)]
fn value(bits: &mut Bits<'_>, entry: u32) -> usize {
    let extra = bits.low(entry & 0xff) >> (entry >> 8 & 31);
    bits.drop(entry & 0xff);
    (entry >> 16) as usize + extra as usize
}
