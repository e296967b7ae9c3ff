//! Blocks: what was found, in codes that fit it.

use super::bits::BitWriter;
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

/// The order in which the lengths of the codes for code lengths are told.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

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
        let literals = &found.literals[..found.literals_len];
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
            return store(content, writer);
        }
        writer.reserve(bits as usize / 8 + 16);
        writer.put(0b100, 3);
        head.write(writer);
        self.prepare(&lens);
        self.write_sequences(literals, found, writer);
        writer.put(u64::from(self.lens[0] & 0xff_ffff), self.lens[0] >> 24);
        writer.flush();
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
        for len in 3..259 {
            let (symbol, extra) = LENGTHS[len];
            let symbol = 257 + symbol as usize;
            let value = if len == 258 { 0 } else { (len as u32 - 3) & ((1 << extra) - 1) };
            let code = u32::from(codes[symbol]) | value << lens[symbol];
            self.lens[len] = code | u32::from(lens[symbol] + extra) << 24;
        }
        for slot in 0..30 {
            self.slots[slot] = u32::from(codes[286 + slot]) | u32::from(lens[286 + slot]) << 16;
        }
    }

    fn write_sequences(&self, literals: &[u8], found: &Found, writer: &mut BitWriter<'_>) {
        let mut rest = literals;
        for sequence in &found.sequences {
            let (run, behind) = rest.split_at(sequence.literals as usize);
            rest = behind;
            let mut chunks = run.chunks_exact(4);
            for four in &mut chunks {
                for &literal in four {
                    let code = self.literals[literal as usize];
                    writer.put(u64::from(code & 0xffff), code >> 16);
                }
                writer.flush();
            }
            let remainder = chunks.remainder();
            if !remainder.is_empty() {
                for &literal in remainder {
                    let code = self.literals[literal as usize];
                    writer.put(u64::from(code & 0xffff), code >> 16);
                }
                writer.flush();
            }
            if sequence.len == 0 {
                break;
            }
            let code = self.lens[sequence.len as usize];
            writer.put(u64::from(code & 0xff_ffff), code >> 24);
            let slot = distance_slot(sequence.distance as usize);
            let code = self.slots[slot];
            writer.put(u64::from(code & 0xffff), code >> 16);
            let extra = extra_of_slot(slot);
            let value = (u64::from(sequence.distance) - 1) & ((1 << extra) - 1);
            writer.put(value, extra);
            writer.flush();
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

/// Writes `content` as it is.
fn store(content: &[u8], writer: &mut BitWriter<'_>) {
    writer.reserve(content.len() + 8 * content.len().div_ceil(MAX_STORED));
    for piece in content.chunks(MAX_STORED) {
        writer.put(0, 3);
        writer.align();
        let len = piece.len() as u16;
        writer.bytes(&len.to_le_bytes());
        writer.bytes(&(!len).to_le_bytes());
        writer.bytes(piece);
    }
}

/// The head of a block with codes of its own: which lengths they have.
struct Head {
    literals: usize,
    distances: usize,
    /// Symbols of the code for code lengths, and from bit 8 on their extra bits.
    symbols: Vec<u16>,
    lens: [u8; 19],
    codes: [u16; 19],
    told: usize,
}

impl Head {
    fn new(lens: &[u8; 316]) -> Self {
        let used = |lens: &[u8], least: usize| {
            lens.iter().rposition(|&len| len > 0).map_or(least, |last| (last + 1).max(least))
        };
        let (literals, distances) = (used(&lens[..286], 257), used(&lens[286..], 1));
        let mut all = lens[..literals].to_vec();
        all.extend_from_slice(&lens[286..286 + distances]);
        let symbols = runs(&all);
        let mut frequencies = [0; 19];
        for symbol in &symbols {
            frequencies[(symbol & 31) as usize] += 1;
        }
        let mut lens = [0; 19];
        huffman::lengths(&frequencies, 7, &mut lens);
        let mut codes = [0; 19];
        huffman::codes(&lens, &mut codes);
        let told = ORDER.iter().rposition(|&at| lens[at] > 0).map_or(4, |last| (last + 1).max(4));
        Head { literals, distances, symbols, lens, codes, told }
    }

    fn bits(&self) -> u64 {
        let symbols: u64 = self
            .symbols
            .iter()
            .map(|symbol| (symbol & 31) as usize)
            .map(|symbol| u64::from(self.lens[symbol]) + u64::from(extra_of_run(symbol)))
            .sum();
        14 + 3 * self.told as u64 + symbols
    }

    fn write(&self, writer: &mut BitWriter<'_>) {
        writer.put(self.literals as u64 - 257, 5);
        writer.put(self.distances as u64 - 1, 5);
        writer.put(self.told as u64 - 4, 4);
        writer.flush();
        for &at in &ORDER[..self.told] {
            writer.put(u64::from(self.lens[at]), 3);
            writer.flush();
        }
        for &entry in &self.symbols {
            let symbol = (entry & 31) as usize;
            writer.put(u64::from(self.codes[symbol]), u32::from(self.lens[symbol]));
            writer.put(u64::from(entry >> 8), extra_of_run(symbol));
            writer.flush();
        }
    }
}

fn extra_of_run(symbol: usize) -> u32 {
    match symbol {
        16 => 2,
        17 => 3,
        18 => 7,
        _ => 0,
    }
}

/// Code lengths with repetitions made short.
fn runs(lens: &[u8]) -> Vec<u16> {
    let mut symbols = Vec::with_capacity(lens.len());
    let mut rest = lens;
    while let Some(&len) = rest.first() {
        let mut run = rest.iter().take_while(|&&other| other == len).count();
        rest = &rest[run..];
        if len == 0 {
            while run >= 11 {
                let part = run.min(138);
                symbols.push(18 | (part as u16 - 11) << 8);
                run -= part;
            }
            if run >= 3 {
                symbols.push(17 | (run as u16 - 3) << 8);
                run = 0;
            }
        } else {
            symbols.push(u16::from(len));
            run -= 1;
            while run >= 3 {
                let part = run.min(6);
                symbols.push(16 | (part as u16 - 3) << 8);
                run -= part;
            }
        }
        symbols.extend(std::iter::repeat_n(u16::from(len), run));
    }
    symbols
}
