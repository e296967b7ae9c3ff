//! What stands around the blocks of one of our files, and how a block is read.

use image::{Error, ErrorKind, Medium, Result};

use super::Lz4Packing;
use super::frame::{OURS, PLAIN};
use crate::packed::tabled::{Codec, check_around, check_bytes, check_end};
use crate::packed::{Entry, Table};

/// What one of our files begins with: blocks of at most 4 MiB, which stand alone; no length and no checksum of the
/// whole, which nobody knows before the end. There are no checksums of blocks either: the table has them, and `lz4`
/// (1.9.4) that finds these and no checksum of the whole does not find what stands behind the frame.
///
/// Blocks that are shorter than the longest although others follow, which the tool does not make, are what tells one of
/// our files that has lost its table from a whole one by somebody else.
pub(super) const HEAD: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73];
/// The last bytes of our files.
const END_MARK: [u8; 8] = *b"BPSEGEND";
/// The end of a frame: the length of a block that is none.
const NO_BLOCK: [u8; 4] = [0; 4];
/// Length of the end of the skippable frame in bytes: the length of the table, and the mark.
const FOOTER_BYTES: usize = 12;
const SKIPPABLE_HEAD_BYTES: usize = 8;

/// What stands behind `segments`.
///
/// # Panics
///
/// Above 2²⁷ segments, for whose table a skippable frame has no length.
pub(super) fn tail(segments: &[Entry]) -> Vec<u8> {
    assert!(segments.len() <= 1 << 27, "{} segments are too many", segments.len());
    let table = Table::new(HEAD.len() as u32, segments.to_vec()).encode();
    let mut tail = NO_BLOCK.to_vec();
    tail.extend(OURS.to_le_bytes());
    tail.extend(((table.len() + FOOTER_BYTES) as u32).to_le_bytes());
    tail.extend(&table);
    tail.extend((table.len() as u32).to_le_bytes());
    tail.extend(END_MARK);
    tail
}

/// The table of one of our files; `None` where the file does not end as one of ours.
///
/// # Errors
///
/// `Damaged` where the end says that it is ours, and the table is not what it should be.
pub(super) fn find_table(medium: &dyn Medium) -> Result<Option<Table>> {
    let len = medium.len()?;
    let Some(footer_start) = len.checked_sub(FOOTER_BYTES as u64) else { return Ok(None) };
    let mut footer = [0; FOOTER_BYTES];
    medium.read_at(&mut footer, footer_start)?;
    if footer[4..] != END_MARK {
        return Ok(None);
    }
    let table_bytes = u64::from(u32::from_le_bytes([footer[0], footer[1], footer[2], footer[3]]));
    let damaged = |start: u64| {
        let sentence = format!(
            "{} is damaged: it ends like one of our files, and its table is not as it should be",
            medium.name()
        );
        Error::new(ErrorKind::Damaged, sentence).at(medium.name(), Some(start..len))
    };
    let Some(start) = footer_start.checked_sub(table_bytes) else {
        return Err(damaged(footer_start));
    };
    let mut bytes = vec![0; table_bytes as usize];
    medium.read_at(&mut bytes, start)?;
    let table = Table::decode(&bytes, start).map_err(|error| damaged(start).because(error))?;
    let end = table.packed_end() + (NO_BLOCK.len() + SKIPPABLE_HEAD_BYTES) as u64;
    if table.head_bytes() != HEAD.len() as u64 || end != start {
        return Err(damaged(start));
    }
    Ok(Some(table))
}

/// Reads blocks of one frame that stand alone.
pub(super) struct Blocks {
    around: Around,
}

/// What stands around the blocks of a frame.
pub(super) enum Around {
    /// What stands in one of our files, which follows from its table.
    Ours,
    /// What stood there when the file by somebody else was looked at.
    Others(Others),
}

/// What is known of a file by somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Others {
    /// What stood before the first block.
    pub(super) head: Vec<u8>,
    /// What stood behind the last: usually four or eight bytes.
    pub(super) tail: Vec<u8>,
}

impl Blocks {
    pub(super) fn ours() -> Self {
        Blocks { around: Around::Ours }
    }

    pub(super) fn others(others: Others) -> Self {
        Blocks { around: Around::Others(others) }
    }

    pub(super) fn around(&self) -> &Around {
        &self.around
    }
}

impl Codec for Blocks {
    /// `packed` is the length, the block, and its checksum if there is one. That need not be looked at: who calls has
    /// checked all of `packed`.
    fn unpack(&self, packed: &[u8], out: &mut [u8]) -> Result<(), String> {
        let Some((length, behind)) = packed.split_first_chunk::<4>() else {
            return Err("it is too short for a block".to_string());
        };
        let length = u32::from_le_bytes(*length);
        let len = (length & !PLAIN) as usize;
        let Some((block, 0 | 4)) = behind.get(..len).map(|block| (block, behind.len() - len))
        else {
            return Err("its block has another length than the table says".to_string());
        };
        if length & PLAIN == 0 {
            return match lz4_flex::block::decompress_into(block, out) {
                Ok(len) if len == out.len() => Ok(()),
                Ok(len) => Err(format!("its content has {len} bytes instead of {}", out.len())),
                Err(error) => Err(format!("lz4: {error}")),
            };
        }
        if len != out.len() {
            return Err(format!("its content has {len} bytes instead of {}", out.len()));
        }
        out.copy_from_slice(block);
        Ok(())
    }

    fn check_rest(&self, file: &dyn Medium, table: &Table) -> Result<()> {
        match &self.around {
            Around::Ours => check_around(file, table, &Lz4Packing),
            Around::Others(others) => {
                check_bytes(file, 0, &others.head)?;
                check_bytes(file, table.packed_end(), &others.tail)?;
                check_end(file, table.packed_end() + others.tail.len() as u64)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packed::lz4::frame::Descriptor;

    #[test]
    fn the_head_of_our_files_says_what_they_are() {
        let descriptor = Descriptor {
            is_independent: true,
            block_bytes_max: 4 << 20,
            len_bytes: 3,
            ..Descriptor::default()
        };
        assert_eq!(Descriptor::parse(&HEAD[4..]), Ok(descriptor));
    }
}
