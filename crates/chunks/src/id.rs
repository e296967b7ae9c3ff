//! The name of a chunk: the digest of its bytes.

use std::fmt;
use std::str::FromStr;

use digest::{Algorithm, DIGEST_BYTES, Hasher};
use image::{Error, ErrorKind};

/// The digest of a chunk's plain bytes, by which stores and indexes name it.
///
/// As text, 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId(pub [u8; DIGEST_BYTES]);

impl ChunkId {
    /// The name of `bytes`.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        ChunkId(algorithm.digest(bytes))
    }

    /// The name of so many zeroes. Takes the time to hash them.
    pub fn of_zeroes(algorithm: Algorithm, len_bytes: u64) -> Self {
        let zeroes = [0; 16 << 10];
        let mut hasher = Hasher::new(algorithm);
        let mut left = len_bytes;
        while left > 0 {
            let part = left.min(zeroes.len() as u64);
            hasher.update(&zeroes[..part as usize]);
            left -= part;
        }
        ChunkId(hasher.finish())
    }

    /// The 64 digits.
    pub fn hex(&self) -> String {
        self.to_string()
    }

    /// Reads exactly 64 lower-case digits, as casync writes them.
    pub fn from_hex(text: &[u8]) -> Option<Self> {
        let mut id = [0; DIGEST_BYTES];
        let (pairs, rest) = text.as_chunks::<2>();
        if pairs.len() != DIGEST_BYTES || !rest.is_empty() {
            return None;
        }
        for (byte, pair) in id.iter_mut().zip(pairs) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(ChunkId(id))
    }
}

fn digit(letter: u8) -> Option<u8> {
    match letter {
        b'0'..=b'9' => Some(letter - b'0'),
        b'a'..=b'f' => Some(letter - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 2 * DIGEST_BYTES];
        for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(&self.0) {
            *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
        }
        f.pad(std::str::from_utf8(&text).expect("digits only"))
    }
}

impl fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ChunkId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        ChunkId::from_hex(text.as_bytes()).ok_or_else(|| {
            let sentence = format!("{text:?} is no chunk ID: 64 hexadecimal digits in lower case");
            Error::new(ErrorKind::Invalid, sentence)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_lead_to_each_other() {
        let id = ChunkId::of(Algorithm::Sha512_256, b"");
        let text = "c672b8d1ef56ed28ab87c3622c5114069bdd3ad7b8f9737498d0c01ecef0967a";
        assert_eq!(id.hex(), text);
        assert_eq!(text.parse::<ChunkId>().unwrap(), id);
    }

    #[test]
    fn zeroes_have_the_known_names() {
        let name = |len_bytes| ChunkId::of_zeroes(Algorithm::Sha512_256, len_bytes).hex();
        assert_eq!(name(0), "c672b8d1ef56ed28ab87c3622c5114069bdd3ad7b8f9737498d0c01ecef0967a");
        assert_eq!(
            name(262_144),
            "1c8109946feed9f9e9fe4b5144d90f05a50fb3275e848cb72f4b9546d8c533f2"
        );
    }

    #[test]
    fn what_casync_would_not_take_is_refused() {
        let good = "c672b8d1ef56ed28ab87c3622c5114069bdd3ad7b8f9737498d0c01ecef0967a";
        for bad in
            ["", &good[1..], &format!("{good}0"), &good.to_uppercase(), &good.replace('c', "g")]
        {
            assert_eq!(bad.parse::<ChunkId>().unwrap_err().kind(), ErrorKind::Invalid);
        }
    }
}
