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
    deflate: Option<Compressor>,
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
        let deflate = self.deflate.get_or_insert_with(|| compressor(LEVEL));
        let room = &mut self.slot[1..1 + most + SLACK_BYTES];
        deflate.gzip_compress(block, room).ok().filter(|len| *len <= most)
    }
}

fn compressor(level: i32) -> Compressor {
    Compressor::new(CompressionLvl::new(level).unwrap_or_default())
}
