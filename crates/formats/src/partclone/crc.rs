//! Partclone's checksums: CRC-32 without the final inversion, and what version 0001 made of it.

use libdeflater::Crc;

use super::Version;

/// Length of a stored checksum in bytes.
pub(super) const CHECKSUM_BYTES: u64 = 4;

/// What every checksum begins with, unless it goes on from another.
pub(super) const START: u32 = u32::MAX;

/// The checksum of `bytes`.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    !libdeflater::crc32(bytes)
}

/// A checksum over stored blocks, given in any parts.
pub(super) struct Running {
    crc: Crc,
    /// Version 0001 took the first byte of a block as often as the block has bytes: what is left of the block, and that
    /// byte.
    first_byte_of: Option<FirstByte>,
}

struct FirstByte {
    block_bytes: usize,
    left_bytes: usize,
}

impl Running {
    /// Nothing was taken yet, after a checksum of `before`.
    pub(super) fn new(version: Version, block_bytes: u32, before: u32) -> Self {
        let block_bytes = block_bytes as usize;
        let first_byte_of = match version {
            Version::V1 => Some(FirstByte { block_bytes, left_bytes: 0 }),
            Version::V2 => None,
        };
        Running { crc: Crc::with_initial(!before), first_byte_of }
    }

    /// The next bytes.
    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        let Some(state) = &mut self.first_byte_of else { return self.crc.update(bytes) };
        while !bytes.is_empty() {
            if state.left_bytes == 0 {
                let row = [bytes[0]; 512];
                for at in (0..state.block_bytes).step_by(row.len()) {
                    self.crc.update(&row[..row.len().min(state.block_bytes - at)]);
                }
                state.left_bytes = state.block_bytes;
            }
            let taken = bytes.len().min(state.left_bytes);
            state.left_bytes -= taken;
            bytes = &bytes[taken..];
        }
    }

    /// The checksum so far.
    pub(super) fn value(&self) -> u32 {
        !self.crc.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bit at a time.
    fn slow(before: u32, bytes: impl Iterator<Item = u8>) -> u32 {
        bytes.fold(before, |crc, byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| {
                if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
            })
        })
    }

    #[test]
    fn checksums_agree_with_the_definition_however_the_bytes_are_given() {
        let mut rng = fastrand::Rng::with_seed(1);
        let bytes: Vec<u8> = (0..3 * 1024).map(|_| rng.u8(..)).collect();
        assert_eq!(checksum(&bytes), slow(START, bytes.iter().copied()));
        let firsts = bytes.chunks(1024).flat_map(|block| std::iter::repeat_n(block[0], 1024));
        for before in [START, 0, 0x1234_5678] {
            for step in [1, 7, 512, 1024, 1500, 3072] {
                let taken = |version| {
                    let mut running = Running::new(version, 1024, before);
                    bytes.chunks(step).for_each(|part| running.update(part));
                    running.value()
                };
                assert_eq!(taken(Version::V2), slow(before, bytes.iter().copied()));
                assert_eq!(taken(Version::V1), slow(before, firsts.clone()));
            }
        }
    }
}
