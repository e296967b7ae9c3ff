//! The CRC-32 of a whole out of those of its parts.

/// The polynomial of gzip's CRC-32, its highest power in the lowest bit.
const POLYNOMIAL: u32 = 0xedb8_8320;
/// x⁰ in that order.
const ONE: u32 = 1 << 31;

/// The checksum of parts that follow each other.
#[derive(Default)]
pub(super) struct Combined {
    crc32: u32,
    /// What moves a checksum over so many bytes: mostly all parts but the last have one length.
    shift: (u32, u32),
}

impl Combined {
    /// A part follows that has this checksum and length.
    pub(super) fn add(&mut self, crc32: u32, len_bytes: u32) {
        if self.shift.0 != len_bytes {
            self.shift = (len_bytes, power(u64::from(len_bytes) * 8));
        }
        self.crc32 = multiply(self.shift.1, self.crc32) ^ crc32;
    }

    pub(super) fn crc32(&self) -> u32 {
        self.crc32
    }
}

/// The product of two polynomials over GF(2), modulo [`POLYNOMIAL`].
fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    for bit in (0..32).rev() {
        if a >> bit & 1 != 0 {
            product ^= b;
        }
        b = if b & 1 != 0 { b >> 1 ^ POLYNOMIAL } else { b >> 1 };
    }
    product
}

/// xⁿ modulo [`POLYNOMIAL`].
fn power(mut n: u64) -> u32 {
    let mut square = ONE >> 1;
    let mut product = ONE;
    while n > 0 {
        if n & 1 != 0 {
            product = multiply(square, product);
        }
        square = multiply(square, square);
        n >>= 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_parts_is_that_of_the_whole() {
        let mut rng = fastrand::Rng::with_seed(1);
        let bytes: Vec<u8> = (0..100_000).map(|_| rng.u8(..)).collect();
        let mut combined = Combined::default();
        assert_eq!(combined.crc32(), libdeflater::crc32(b""));
        let mut at = 0;
        while at < bytes.len() {
            let len = rng.usize(0..9000).min(bytes.len() - at);
            combined.add(libdeflater::crc32(&bytes[at..at + len]), len as u32);
            at += len;
            assert_eq!(combined.crc32(), libdeflater::crc32(&bytes[..at]));
        }
    }
}
