//! The words of an index file, as casync 2 writes them. All integers are little-endian, of 64 bits.
//!
//! ```text
//! 0    INDEX   size 48, type, flags, min, avg, max
//! 48   TABLE   size all-ones, type
//! 64   items   end offset of the chunk in the blob, its ID (32 bytes); 40 bytes each
//! …    tail    0, 0, 48, size of the TABLE record, marker; 40 bytes
//! ```

pub(super) const INDEX_BYTES: u64 = 48;
pub(super) const INDEX_TYPE: u64 = 0x9682_4D9C_7B12_9FF9;
pub(super) const TABLE_SIZE: u64 = u64::MAX;
pub(super) const TABLE_TYPE: u64 = 0xE75B_9E11_2F17_417D;
pub(super) const TAIL_MARKER: u64 = 0x4B4F_050E_5549_ECD1;

/// Everything in front of the items.
pub(super) const HEAD_BYTES: u64 = 64;
/// An item, and the tail.
pub(super) const ITEM_BYTES: u64 = 40;
/// The header of the TABLE record, part of the head.
pub(super) const TABLE_HEADER_BYTES: u64 = 16;

/// The digest is SHA-512/256, else SHA-256.
pub(super) const FLAG_SHA512_256: u64 = 1 << 61;
/// What casync left out while it made an archive: what `.caexclude` files name, submounts, nodump files. It sets them for
/// a blob too, where they mean nothing.
pub(super) const FLAG_LISTED: u64 = 1 << 60;
pub(super) const FLAG_SUBMOUNTS: u64 = 1 << 62;
pub(super) const FLAG_NODUMP: u64 = 1 << 63;
/// Bits 0 to 32 are features of archives, 60 to 63 stand above; the rest has no meaning yet.
pub(super) const FLAGS_KNOWN: u64 = 0xF000_0001_FFFF_FFFF;

/// The first 64 bytes.
pub(super) fn head(flags: u64, min: u64, avg: u64, max: u64) -> [u8; HEAD_BYTES as usize] {
    words([INDEX_BYTES, INDEX_TYPE, flags, min, avg, max, TABLE_SIZE, TABLE_TYPE])
}

/// The last 40 bytes of an index of `count` chunks.
pub(super) fn tail(count: u64) -> [u8; ITEM_BYTES as usize] {
    let table = TABLE_HEADER_BYTES + ITEM_BYTES * count + ITEM_BYTES;
    words([0, 0, INDEX_BYTES, table, TAIL_MARKER])
}

/// The word at `offset`, which lies within `bytes`.
pub(super) fn word(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(*bytes[offset..].first_chunk().expect("eight bytes"))
}

fn words<const N: usize, const W: usize>(words: [u64; W]) -> [u8; N] {
    let mut bytes = [0; N];
    for (place, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *place = word.to_le_bytes();
    }
    bytes
}
