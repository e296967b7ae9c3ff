//! BLAKE3, as the crate `blake3` computes it: it is the reference, and uses all lanes for one message already.

use crate::DIGEST_BYTES;

/// The digest of `bytes`, on one thread.
pub fn hash(bytes: &[u8]) -> [u8; DIGEST_BYTES] {
    *::blake3::hash(bytes).as_bytes()
}

/// One digest over bytes that come piece by piece. Pieces of 16 KiB and more keep all lanes busy.
#[derive(Default)]
pub struct Hasher(::blake3::Hasher);

impl Hasher {
    /// Nothing hashed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `bytes` behind those before.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes that were added.
    pub fn finish(self) -> [u8; DIGEST_BYTES] {
        *self.0.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_of_a_message_do_not_matter_and_the_known_answer_comes_out() {
        let hex = |digest: [u8; 32]| digest.map(|byte| format!("{byte:02x}")).concat();
        let empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(hex(hash(&[])), empty);

        let bytes: Vec<u8> = (0..100_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
        let mut hasher = Hasher::new();
        for piece in bytes.chunks(1234) {
            hasher.update(piece);
        }
        assert_eq!(hasher.finish(), hash(&bytes));
    }
}
