//! Blocks: what was found, in codes that fit it.

use super::bits::{BitWriter, Burst};
use super::head::Head;
use super::huffman;
use super::matching::Found;

/// Codes for literals and lengths are this long at most, so that four of them fit between two flushes.
const MAX_LITERAL_BITS: usize = 14;
const MAX_DISTANCE_BITS: usize = 15;
const END_OF_BLOCK: usize = 256;
/// What one stored block can hold, in bytes.
const MAX_STORED: usize = 65535;

/// The symbol of each length (less 257) and how many extra bits it has.
const LENGTHS: [(u8, u8); 259] = lengths();
/// The class of each distance below 257, and then of each 128.
const SLOTS: [u8; 512] = slots();

const fn lengths() -> [(u8, u8); 259] {
    let mut table = [(0, 0); 259];
    let mut len = 3;
    while len < 258 {
        let from = len - 3;
        if from < 8 {
            table[len] = (from as u8, 0);
        } else {
            let extra = (from as u32).ilog2() - 2;
            table[len] = ((4 * extra + (from as u32 >> extra)) as u8, extra as u8);
        }
        len += 1;
    }
    table[258] = (28, 0);
    table
}

const fn slots() -> [u8; 512] {
    let mut table = [0; 512];
    let mut at = 0;
    while at < 512 {
        let from: u32 = if at < 256 { at } else { (at - 256) << 7 };
        table[at as usize] = if from < 4 {
            from as u8
        } else {
            let bits = from.ilog2();
            (2 * bits + (from >> (bits - 1) & 1)) as u8
        };
        at += 1;
    }
    table
}

/// The class of a distance of 1 to 32,768.
#[inline(always)]
pub(super) fn distance_slot(distance: usize) -> usize {
    let from = distance - 1;
    let place = if from < 256 { from } else { 256 + (from >> 7) };
    SLOTS[place & 511] as usize & 31
}

const fn extra_of_slot(slot: usize) -> u32 {
    if slot < 4 { 0 } else { (slot as u32 >> 1) - 1 }
}

/// The codes of one block, and room to make them.
pub(super) struct Codes {
    /// For each literal its code, and from bit 16 on how many bits it has.
    literals: [u32; 256],
    /// For each length its code with extra bits, and from bit 24 on how many bits it has.
    lens: [u32; 259],
    /// For each class of distances its code, and from bit 16 on how many bits it has.
    slots: [u32; 32],
}

impl Codes {
    pub(super) fn new() -> Self {
        Codes { literals: [0; 256], lens: [0; 259], slots: [0; 32] }
    }

    /// Writes the block of `content`, which is what `found` says.
    pub(super) fn write(&mut self, content: &[u8], found: &Found, writer: &mut BitWriter<'_>) {
        let literals = found.literals();
        let mut frequencies = histogram(literals);
        let mut extra_bits = 0;
        for (len, &count) in found.lens.iter().enumerate().skip(3) {
            let (symbol, extra) = LENGTHS[len];
            frequencies[257 + symbol as usize] += count;
            extra_bits += u64::from(count) * u64::from(extra);
        }
        for (slot, &count) in found.slots.iter().enumerate() {
            extra_bits += u64::from(count) * u64::from(extra_of_slot(slot));
        }
        frequencies[END_OF_BLOCK] = 1;
        let mut lens = [0; 286 + 30];
        huffman::lengths(&frequencies, MAX_LITERAL_BITS, &mut lens[..286]);
        huffman::lengths(&found.slots[..30], MAX_DISTANCE_BITS, &mut lens[286..]);
        let head = Head::new(&lens);
        let code_bits: u64 = frequencies
            .iter()
            .chain(&found.slots[..30])
            .zip(&lens)
            .map(|(&count, &len)| u64::from(count) * u64::from(len))
            .sum();
        let bits = 3 + head.bits() + code_bits + extra_bits;
        let stored_bits = 8 * (content.len() + 5 * content.len().div_ceil(MAX_STORED)) as u64;
        if stored_bits <= bits {
            return content.chunks(MAX_STORED).for_each(|piece| writer.stored(piece));
        }
        self.prepare(&lens);
        writer.burst((bits / 8 + 1) as usize, |burst| {
            burst.put(0b100, 3);
            head.write(burst);
            self.write_sequences(found, burst);
            burst.put(u64::from(self.lens[0] & 0xff_ffff), self.lens[0] >> 24);
        });
    }

    /// Makes the tables that codes are looked up in. The end of the block stands at length 0.
    fn prepare(&mut self, lens: &[u8; 316]) {
        let mut codes = [0; 316];
        huffman::codes(&lens[..286], &mut codes[..286]);
        huffman::codes(&lens[286..], &mut codes[286..]);
        for (literal, entry) in self.literals.iter_mut().enumerate() {
            *entry = u32::from(codes[literal]) | u32::from(lens[literal]) << 16;
        }
        self.lens[0] = u32::from(codes[256]) | u32::from(lens[256]) << 24;
        for (len, (symbol, extra)) in LENGTHS.into_iter().enumerate().skip(3) {
            let symbol = 257 + symbol as usize;
            let value = if len == 258 { 0 } else { (len as u32 - 3) & ((1 << extra) - 1) };
            let code = u32::from(codes[symbol]) | value << lens[symbol];
            self.lens[len] = code | u32::from(lens[symbol] + extra) << 24;
        }
        for slot in 0..30 {
            self.slots[slot] = u32::from(codes[286 + slot]) | u32::from(lens[286 + slot]) << 16;
        }
    }

    fn write_sequences(&self, found: &Found, burst: &mut Burst<'_>) {
        let literals = found.literals_and_room();
        let code = |literal: u8, wanted: bool| {
            let code = if wanted { self.literals[literal as usize] } else { 0 };
            (u64::from(code & 0xffff), code >> 16)
        };
        let mut at = 0;
        for sequence in found.sequences() {
            let mut left = sequence.literals as usize;
            while let (4.., Some(&[a, b, c, d])) = (left, literals.get(at..at + 4)) {
                let ((a, a_bits), (b, b_bits)) = (code(a, true), code(b, true));
                let ((c, c_bits), (d, d_bits)) = (code(c, true), code(d, true));
                burst.put(a | b << a_bits, a_bits + b_bits);
                burst.put(c | d << c_bits, c_bits + d_bits);
                burst.flush();
                at += 4;
                left -= 4;
            }
            // The last three are written without a branch on how many there are: guessing that wrong costs more.
            let Some(&[a, b, c]) = literals.get(at..at + 3) else { break };
            let ((a, a_bits), (b, b_bits)) = (code(a, left > 0), code(b, left > 1));
            let (c, c_bits) = code(c, left > 2);
            burst.put(a | b << a_bits, a_bits + b_bits);
            burst.put(c, c_bits);
            burst.flush();
            at += left;
            if sequence.len == 0 {
                break;
            }
            let len = self.lens[sequence.len as usize];
            let slot = distance_slot(sequence.distance as usize);
            let (distance, extra_bits) = (self.slots[slot], extra_of_slot(slot));
            let extra = (u64::from(sequence.distance) - 1) & ((1 << extra_bits) - 1);
            let distance_bits = distance >> 16;
            burst.put(u64::from(len & 0xff_ffff), len >> 24);
            burst.put(
                u64::from(distance & 0xffff) | extra << distance_bits,
                distance_bits + extra_bits,
            );
            burst.flush();
        }
    }
}

/// How often each literal occurs, with room for the other symbols.
fn histogram(literals: &[u8]) -> [u32; 286] {
    let mut tables = [[0u32; 256]; 4];
    let mut fours = literals.chunks_exact(4);
    for four in &mut fours {
        for (table, &literal) in tables.iter_mut().zip(four) {
            table[literal as usize] += 1;
        }
    }
    for &literal in fours.remainder() {
        tables[0][literal as usize] += 1;
    }
    let mut sums = [0; 286];
    for (literal, sum) in sums.iter_mut().enumerate().take(256) {
        *sum = tables.iter().map(|table| table[literal]).sum();
    }
    sums
}
