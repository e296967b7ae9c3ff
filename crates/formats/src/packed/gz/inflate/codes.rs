//! Tables that codes are looked up in.

/// How many bits are looked up at once: of literals and lengths, of distances.
pub(super) const LITERAL_BITS: u32 = 11;
pub(super) const DISTANCE_BITS: u32 = 9;
/// Room for the longest tables that there can be (2,342 and 594 entries), up to a power of two.
const LITERAL_ENTRIES: usize = 4096;
const DISTANCE_ENTRIES: usize = 1024;

/// A literal: its value stands from bit 16 on.
pub(super) const LITERAL: u32 = 1 << 31;
/// Neither a literal nor a length or distance.
pub(super) const OTHER: u32 = 1 << 15;
/// The code is longer than what was looked up: it goes on in another table.
pub(super) const LONGER: u32 = 1 << 14;
/// The end of a block. What is [`OTHER`] and none of these two is no code.
pub(super) const END: u32 = 1 << 13;

/// An entry has in bits 0 to 7 how many bits it uses up, extra bits included; in bits 8 to 12 how many of them are the
/// code; and from bit 16 on its value: a literal, the least length or distance, or where the other table begins, whose
/// size stands in bits 8 to 12.
pub(super) struct Codes {
    pub(super) literals: Box<[u32; LITERAL_ENTRIES]>,
    pub(super) distances: Box<[u32; DISTANCE_ENTRIES]>,
}

impl Codes {
    pub(super) fn new() -> Self {
        Codes {
            literals: Box::new([0; LITERAL_ENTRIES]),
            distances: Box::new([0; DISTANCE_ENTRIES]),
        }
    }

    /// Takes the lengths of all codes; says why they make none.
    pub(super) fn set(&mut self, literals: &[u8], distances: &[u8]) -> Result<(), &'static str> {
        if literals[256] == 0 {
            return Err("a block has no code for its end");
        }
        build(literals, LITERAL_BITS, &mut self.literals[..], literal)?;
        build(distances, DISTANCE_BITS, &mut self.distances[..], distance)
    }

    /// The codes that need not be told.
    pub(super) fn set_fixed(&mut self) -> Result<(), &'static str> {
        let mut literals = [8; 288];
        literals[144..256].fill(9);
        literals[256..280].fill(7);
        self.set(&literals, &[5; 32])
    }
}

/// What a symbol of the code for literals and lengths means, and how many extra bits it has.
fn literal(symbol: usize) -> (u32, u32) {
    match symbol {
        0..256 => (LITERAL | (symbol as u32) << 16, 0),
        256 => (OTHER | END, 0),
        257..265 => ((symbol as u32 - 254) << 16, 0),
        265..285 => {
            let from = symbol as u32 - 261;
            let extra = from / 4;
            ((3 + ((4 + from % 4) << extra)) << 16, extra)
        }
        285 => (258 << 16, 0),
        _ => (OTHER, 0),
    }
}

/// What a symbol of the code for distances means, and how many extra bits it has.
fn distance(symbol: usize) -> (u32, u32) {
    match symbol {
        0..4 => ((symbol as u32 + 1) << 16, 0),
        4..30 => {
            let extra = symbol as u32 / 2 - 1;
            ((1 + ((2 + symbol as u32 % 2) << extra)) << 16, extra)
        }
        _ => (OTHER, 0),
    }
}

/// Makes the table for codes of these lengths.
pub(super) fn build(
    lens: &[u8],
    bits: u32,
    table: &mut [u32],
    meaning: impl Fn(usize) -> (u32, u32),
) -> Result<(), &'static str> {
    let mut of_length = [0u32; 16];
    for &len in lens {
        of_length[len as usize] += 1;
    }
    of_length[0] = 0;
    let used: u32 = of_length.iter().sum();
    let space: u32 = (1..16).map(|len| of_length[len] << (15 - len)).sum();
    // A code of one symbol has one bit, and the other value of it means nothing; one of none is never looked up.
    let is_incomplete = used == 0 || (used == 1 && of_length[1] == 1);
    if space != 1 << 15 && !is_incomplete {
        return Err("the codes of a block are no complete set");
    }
    if is_incomplete {
        table[..1 << bits].fill(OTHER | 1);
    }
    let mut next = [0u32; 17];
    for len in 1..16 {
        next[len + 1] = (next[len] + of_length[len]) << 1;
    }
    let first = next;
    let reversed = |code: u32, len: u32| code.reverse_bits() >> (32 - len);
    // Other tables lie behind the first, each as large as the longest code in it needs.
    let mut end = 1 << bits;
    if of_length[bits as usize + 1..].iter().any(|&count| count > 0) {
        let mut longest = [0u8; 1 << LITERAL_BITS];
        for len in bits + 1..16 {
            for code in first[len as usize]..first[len as usize] + of_length[len as usize] {
                longest[reversed(code >> (len - bits), bits) as usize] = len as u8;
            }
        }
        for (at, &len) in longest[..1 << bits].iter().enumerate() {
            if len > 0 {
                let more = u32::from(len) - bits;
                table[at] = OTHER | LONGER | bits | more << 8 | (end as u32) << 16;
                end += 1 << more;
            }
        }
    }
    for (symbol, &len) in lens.iter().enumerate().filter(|(_, len)| **len > 0) {
        let len = u32::from(len);
        let code = reversed(next[len as usize], len) as usize;
        next[len as usize] += 1;
        let (meaning, extra) = meaning(symbol);
        if len <= bits {
            let entry = meaning | (len + extra) | len << 8;
            for place in table[..1 << bits][code..].iter_mut().step_by(1 << len) {
                *place = entry;
            }
        } else {
            let outer = table[code & ((1 << bits) - 1)];
            let (start, more) = ((outer >> 16) as usize, outer >> 8 & 31);
            let len = len - bits;
            let entry = meaning | (len + extra) | len << 8;
            for place in
                table[start..start + (1 << more)][code >> bits..].iter_mut().step_by(1 << len)
            {
                *place = entry;
            }
        }
    }
    Ok(())
}
