//! The header: a mark, and how large a slot is.

use image::{Error, ErrorKind, Medium, Result};

use super::layout::Layout;

/// What a container begins with.
const MAGIC: &[u8; 8] = b"SPGZ0001";
/// How much of the header carries meaning, in bytes; a new, empty container of the other program has no more.
const MEANING_BYTES: usize = 12;
/// The length of a slot is counted in these, in bytes.
const UNIT_BYTES: u64 = 4096;
/// The other program computes the length of a slot in 32 bits: it takes this count for 0, and the next for 1.
const COUNT_END: u32 = 1 << 20;
/// Slots of 64 MiB. A block is held in memory as a whole, so that a header must not be able to ask for more.
const COUNT_MAX: u32 = 16_384;

/// Length of a block in bytes, unless another is asked for.
pub(super) const BLOCK_BYTES_DEFAULT: u64 = 131_071;
const BLOCK_BYTES_MIN: u64 = 12_287;
const BLOCK_BYTES_MAX: u64 = 1_048_575;

/// Whether `head`, the first 4096 bytes of a medium (or all, if it has fewer), is the header of a container: the mark, a
/// possible length of slots, and zeroes.
///
/// Whoever writes to a disk decides what its first bytes are, and can make a raw image begin like this.
pub fn looks_like_spgz(head: &[u8]) -> bool {
    let Some((meaning, rest)) = head.split_first_chunk::<MEANING_BYTES>() else { return false };
    let end = rest.len().min(UNIT_BYTES as usize - MEANING_BYTES);
    meaning.starts_with(MAGIC)
        && (1..COUNT_END).contains(&count(meaning))
        && digest::is_zero(&rest[..end])
}

/// The length of a block that is made when `asked_bytes` are asked for: one less than a multiple of 4096, at least
/// 12287; 0 stands for 131071.
///
/// # Errors
///
/// [`ErrorKind::Invalid`] if that is above 1048575.
pub fn rounded_block_bytes(asked_bytes: u64) -> Result<u64> {
    if asked_bytes == 0 {
        return Ok(BLOCK_BYTES_DEFAULT);
    }
    let units = asked_bytes.saturating_add(1) / UNIT_BYTES;
    let block_bytes = (units * UNIT_BYTES).saturating_sub(1).max(BLOCK_BYTES_MIN);
    if block_bytes > BLOCK_BYTES_MAX {
        let sentence = format!(
            "a container cannot have blocks of {asked_bytes} bytes: they have {BLOCK_BYTES_MIN} to {BLOCK_BYTES_MAX}"
        );
        return Err(Error::new(ErrorKind::Invalid, sentence));
    }
    Ok(block_bytes)
}

/// What stands where in the container `medium`, which has `len_bytes`.
///
/// What stands behind the length of slots is ignored, as everybody does.
pub(super) fn read(medium: &dyn Medium, len_bytes: u64) -> Result<Layout> {
    let name = medium.name();
    let refuse = |kind, sentence: String| {
        Err(Error::new(kind, sentence).at(name, Some(0..len_bytes.min(MEANING_BYTES as u64))))
    };
    let mut head = [0; MEANING_BYTES];
    if len_bytes < MEANING_BYTES as u64 {
        let sentence = format!(
            "{name} is no spgz container: it has {len_bytes} bytes, and a header has {MEANING_BYTES}"
        );
        return refuse(ErrorKind::Damaged, sentence);
    }
    medium.read_at(&mut head, 0)?;
    if !head.starts_with(MAGIC) {
        let sentence = format!("{name} is no spgz container: it does not begin with SPGZ0001");
        return refuse(ErrorKind::Damaged, sentence);
    }
    match count(&head) {
        count @ 1..=COUNT_MAX => Ok(Layout::new(u64::from(count) * UNIT_BYTES)),
        count @ 1..COUNT_END => refuse(
            ErrorKind::Unsupported,
            format!(
                "{name} has blocks of {} MiB, and blockprint reads blocks of up to {} MiB, since it holds them in memory",
                (u64::from(count) * UNIT_BYTES) >> 20,
                (u64::from(COUNT_MAX) * UNIT_BYTES) >> 20,
            ),
        ),
        count => refuse(
            ErrorKind::Damaged,
            format!(
                "the header of {name} is damaged: it says that a block takes {count} pages, where 1 to {} are possible",
                COUNT_END - 1
            ),
        ),
    }
}

/// The meaning part of the header of a container of that `layout`.
pub(super) fn bytes(layout: Layout) -> [u8; MEANING_BYTES] {
    let mut bytes = [0; MEANING_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..].copy_from_slice(&((layout.slot_bytes() / UNIT_BYTES) as u32).to_le_bytes());
    bytes
}

fn count(head: &[u8; MEANING_BYTES]) -> u32 {
    u32::from_le_bytes([head[8], head[9], head[10], head[11]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_blocks_are_rounded_as_the_other_program_does() {
        let cases = [
            (0, 131_071),
            (1, 12_287),
            (4096, 12_287),
            (12_287, 12_287),
            (12_288, 12_287),
            (16_383, 16_383),
            (16_384, 16_383),
            (65_536, 65_535),
            (131_072, 131_071),
            (1_048_576, 1_048_575),
        ];
        for (asked, made) in cases {
            assert_eq!(rounded_block_bytes(asked).unwrap(), made, "{asked}");
        }
        for asked in [1_052_671, u64::MAX] {
            assert_eq!(rounded_block_bytes(asked).unwrap_err().kind(), ErrorKind::Invalid);
        }
    }

    #[test]
    fn a_header_is_the_mark_a_possible_count_and_zeroes() {
        let mut head = vec![0; 5000];
        head[..12].copy_from_slice(&bytes(Layout::new(131_072)));
        head[4096] = 1;
        assert!(looks_like_spgz(&head));
        assert!(looks_like_spgz(&head[..12]));
        assert!(!looks_like_spgz(&head[..11]));
        head[4095] = 1;
        assert!(!looks_like_spgz(&head));
        for (count, possible) in [(0u32, false), (1, true), (0xF_FFFF, true), (0x10_0000, false)] {
            head[8..12].copy_from_slice(&count.to_le_bytes());
            assert_eq!(looks_like_spgz(&head[..12]), possible, "{count}");
        }
    }
}
