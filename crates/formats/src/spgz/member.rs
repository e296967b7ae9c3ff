//! What stands in a slot: a marker, and behind it the bytes of a block or one gzip member of them.

use libdeflater::{CompressionLvl, Compressor, DecompressionError, Decompressor};

/// The bytes behind it are those of the block.
const STORED: u8 = 0;
/// Behind it stands a gzip member (RFC 1952), then anything.
const PACKED: u8 = 1;

/// A member has to save so many bytes, two pages and a few, or the block is stored.
const SAVING_MIN_BYTES: usize = 8195;
/// Room behind what a member may be long, so that a limit of the library cannot be taken for one of ours.
const SLACK_BYTES: usize = 16;

/// Where the flags stand in a gzip header.
const GZIP_FLAGS_AT: usize = 3;
/// Those without a meaning. The library refuses them, the other program does not.
const GZIP_RESERVED: u8 = 0b1110_0000;

const LEVEL: i32 = 6;

/// Blocks from this length on are looked at before they are compressed: what cannot be compressed takes the longest.
const LOOK_FROM_BYTES: usize = 64 << 10;
/// So many windows are looked at, evenly spread.
const WINDOWS: usize = 16;
/// Of this part of a block in all: 1 in 16. Less finds fewer blocks that are not worth it, more costs time with all others.
const LOOK_SHARE: usize = 16;
/// The windows have to become shorter by this part, 1 in 100. A block has to by 1 in 16; so a part of it that can be
/// compressed well is met by some window. Among blocks of /usr and of packages none was given up that would have been
/// compressed, and 3 of 4 were that would not; looking takes a fortieth of the time that compressing does.
const LOOK_SAVING_SHARE: usize = 100;

/// Why the bytes in a slot are no block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// The marker is neither of the two.
    Marker(u8),
    /// The member is no gzip, or cut, or its digest or length does not fit what it unpacks to.
    Member,
    /// The member unpacks to more than a block has.
    TooLong,
}

/// What one thread needs to pack and unpack blocks; used again and again.
pub(super) struct Tools {
    /// Room for the bytes of a slot; grows to what was needed.
    slot: Vec<u8>,
    inflate: Decompressor,
    /// Made when it is first needed: readers do without.
    deflate: Option<Deflate>,
}

struct Deflate {
    thorough: Compressor,
    quick: Compressor,
    /// What is looked at of a block.
    windows: Vec<u8>,
}

impl Tools {
    pub(super) fn new() -> Self {
        Tools { slot: Vec::new(), inflate: Decompressor::new(), deflate: None }
    }

    /// Room for `len` bytes of a slot, to be filled and then unpacked.
    pub(super) fn room(&mut self, len: usize) -> &mut [u8] {
        if self.slot.len() < len {
            self.slot = vec![0; len];
        }
        &mut self.slot[..len]
    }

    /// Unpacks the block in the first `len` bytes of the room, and says how many bytes it has, at most those of `block`.
    pub(super) fn unpack(&mut self, len: usize, block: &mut [u8]) -> Result<usize, Flaw> {
        let Some((&mut marker, payload)) = self.slot[..len].split_first_mut() else { return Ok(0) };
        match marker {
            STORED if payload.len() > block.len() => Err(Flaw::TooLong),
            STORED => {
                block[..payload.len()].copy_from_slice(payload);
                Ok(payload.len())
            }
            PACKED => {
                if let Some(flags) = payload.get_mut(GZIP_FLAGS_AT) {
                    *flags &= !GZIP_RESERVED;
                }
                self.inflate.gzip_decompress(payload, block).map_err(|cause| match cause {
                    DecompressionError::BadData => Flaw::Member,
                    DecompressionError::InsufficientSpace => Flaw::TooLong,
                })
            }
            marker => Err(Flaw::Marker(marker)),
        }
    }

    /// What a slot holds of the bytes of `block`, which are not all zero: a marker and the payload.
    pub(super) fn pack(&mut self, block: &[u8]) -> &[u8] {
        self.room(1 + block.len() + SLACK_BYTES);
        match self.pack_member(block) {
            Some(member_bytes) => {
                self.slot[0] = PACKED;
                &self.slot[..1 + member_bytes]
            }
            None => {
                self.slot[0] = STORED;
                self.slot[1..1 + block.len()].copy_from_slice(block);
                &self.slot[..1 + block.len()]
            }
        }
    }

    /// Puts a member of `block` behind the marker and says how long it is, if it saves enough.
    fn pack_member(&mut self, block: &[u8]) -> Option<usize> {
        let most = block.len().checked_sub(SAVING_MIN_BYTES)?;
        let deflate = self.deflate.get_or_insert_with(Deflate::new);
        let room = &mut self.slot[1..1 + most + SLACK_BYTES];
        if block.len() >= LOOK_FROM_BYTES && !deflate.is_worth_it(block, room) {
            return None;
        }
        deflate.thorough.gzip_compress(block, room).ok().filter(|len| *len <= most)
    }
}

impl Deflate {
    fn new() -> Self {
        let at = |level| Compressor::new(CompressionLvl::new(level).unwrap_or_default());
        Deflate { thorough: at(LEVEL), quick: at(1), windows: Vec::new() }
    }

    /// Whether a few windows of `block` can be compressed. Uses `room`, which is longer than they are.
    fn is_worth_it(&mut self, block: &[u8], room: &mut [u8]) -> bool {
        self.windows.clear();
        let stride = block.len() / WINDOWS;
        for window in block.chunks_exact(stride) {
            self.windows.extend_from_slice(&window[..stride / LOOK_SHARE]);
        }
        let most = self.windows.len() - self.windows.len() / LOOK_SAVING_SHARE;
        self.quick.deflate_compress(&self.windows, room).is_ok_and(|len| len < most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        let mut rng = fastrand::Rng::with_seed(len as u64);
        (0..len).map(|_| rng.u8(..)).collect()
    }

    fn unpacked(slot: &[u8], block_len: usize) -> Result<Vec<u8>, Flaw> {
        let mut tools = Tools::new();
        tools.room(slot.len()).copy_from_slice(slot);
        let mut block = vec![0xa5; block_len];
        let len = tools.unpack(slot.len(), &mut block)?;
        block.truncate(len);
        Ok(block)
    }

    #[test]
    fn what_was_packed_unpacks_to_the_same() {
        let mut tools = Tools::new();
        for len in [1, 8195, 8196, 12_287, 65_535, 131_071, 1_048_575] {
            for block in
                [noise(len), vec![7; len], [noise(len / 2), vec![0; len - len / 2]].concat()]
            {
                let packed = tools.pack(&block).to_vec();
                assert!(packed.len() <= 1 + len);
                assert!(unpacked(&packed, len).unwrap() == block);
            }
        }
    }

    #[test]
    fn a_block_of_which_a_part_can_be_compressed_is_compressed_wherever_that_part_lies() {
        let mut tools = Tools::new();
        let text: Vec<u8> =
            (0..).flat_map(|line| format!("line {line}\n").into_bytes()).take(14_000).collect();
        for at in (0..131_071 - text.len()).step_by(1500) {
            let mut block = noise(131_071);
            block[at..at + text.len()].copy_from_slice(&text);
            assert_eq!(tools.pack(&block)[0], PACKED, "at {at}");
        }
        assert_eq!(tools.pack(&noise(131_071))[0], STORED);
    }

    #[test]
    fn flags_without_a_meaning_and_whatever_follows_are_ignored() {
        let mut slot = Tools::new().pack(&[9; 12_287]).to_vec();
        slot.extend(noise(100));
        slot[1 + GZIP_FLAGS_AT] |= GZIP_RESERVED;
        assert_eq!(unpacked(&slot, 12_287).unwrap(), [9; 12_287]);
    }

    #[test]
    fn each_way_to_be_damaged_has_its_name() {
        let whole = Tools::new().pack(&[9; 12_287]).to_vec();
        assert_eq!(unpacked(&whole, 12_286), Err(Flaw::TooLong));
        assert_eq!(unpacked(&whole[..whole.len() - 1], 12_287), Err(Flaw::Member));
        assert_eq!(unpacked(&[1], 12_287), Err(Flaw::Member));
        assert_eq!(unpacked(&[2, 0, 0], 12_287), Err(Flaw::Marker(2)));
        // Whatever bit of a member is wrong, no other block comes out of it.
        let bits = 8..8 * whole.len();
        let is_found = |bit: &usize| {
            let mut slot = whole.clone();
            slot[bit / 8] ^= 1 << (bit % 8);
            unpacked(&slot, 12_287).map(|block| assert!(block == [9; 12_287], "bit {bit}")).is_err()
        };
        let found = bits.clone().filter(is_found).count();
        // Time and system in the header, codes that are not used, and bits that fill up a byte say nothing.
        assert!(found > bits.len() / 2, "{found} of {}", bits.len());
    }
}
