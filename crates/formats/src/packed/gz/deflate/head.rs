//! The head of a block: how long its codes are, said in few bits.

use super::bits::Burst;
use super::huffman;

/// The order in which the lengths of the codes for code lengths are told.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// The head of a block with codes of its own: which lengths they have.
pub(super) struct Head {
    literals: usize,
    distances: usize,
    /// Symbols of the code for code lengths, and from bit 8 on their extra bits.
    symbols: Vec<u16>,
    lens: [u8; 19],
    codes: [u16; 19],
    told: usize,
}

impl Head {
    pub(super) fn new(lens: &[u8; 316]) -> Self {
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

    pub(super) fn bits(&self) -> u64 {
        let symbols: u64 = self
            .symbols
            .iter()
            .map(|symbol| (symbol & 31) as usize)
            .map(|symbol| u64::from(self.lens[symbol]) + u64::from(extra_of_run(symbol)))
            .sum();
        14 + 3 * self.told as u64 + symbols
    }

    pub(super) fn write(&self, writer: &mut Burst<'_>) {
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
