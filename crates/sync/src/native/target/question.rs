//! What a source wants to know of blocks, and the answer.

use image::Result;

use super::super::content::{Content, Zeroes};
use super::super::cut::{Cut, block_range};
use super::super::frame::{Frame, breach};
use super::super::{BLOCK_BYTES, PAGE_BYTES, QUESTION_BLOCKS};

/// What the source wants to know.
pub(super) struct Question {
    id: u32,
    pub(super) blocks: Vec<u64>,
    of_pages: bool,
    /// How many make the answer.
    pub(super) digests: u64,
}

impl Question {
    pub(super) fn of_blocks(cut: &Cut, id: u32, first: u64, count: u16) -> Result<Self> {
        let end = first.checked_add(u64::from(count)).filter(|end| *end <= blocks_of(cut));
        let Some(end) = end.filter(|_| (1..=QUESTION_BLOCKS).contains(&u64::from(count))) else {
            return Err(breach(format!("asked for {count} blocks from block {first} on")));
        };
        let blocks = cut.blocks(first..end);
        let digests = blocks.len() as u64;
        Question { id, blocks, of_pages: false, digests }.checked()
    }

    pub(super) fn of_pages(cut: &Cut, id: u32, blocks: Vec<u64>) -> Result<Self> {
        let is_sorted = blocks.is_sorted_by(|one, next| one < next);
        let is_inside = blocks.last().is_some_and(|last| *last < blocks_of(cut));
        if !is_sorted || !is_inside || blocks.len() as u64 > QUESTION_BLOCKS {
            return Err(breach(format!("asked for the pages of {} blocks", blocks.len())));
        }
        let parts = blocks.iter().flat_map(|block| cut.parts(block_range(*block)));
        let digests = parts.map(|part| (part.end - part.start).div_ceil(PAGE_BYTES)).sum();
        Question { id, blocks, of_pages: true, digests }.checked()
    }

    fn checked(self) -> Result<Self> {
        if self.digests == 0 {
            return Err(breach("asked for what is not compared"));
        }
        Ok(self)
    }

    pub(super) fn answer(
        &self,
        content: &Content<'_>,
        cut: &Cut,
        zeroes: &Zeroes,
        buf: &mut [u8],
    ) -> Result<Frame> {
        let (id, blocks) = (self.id, &self.blocks);
        Ok(match self.of_pages {
            true => Frame::Pages { id, digests: content.pages(cut, blocks, zeroes, buf)? },
            false => Frame::Blocks { id, digests: content.blocks(cut, blocks, zeroes, buf)? },
        })
    }
}

fn blocks_of(cut: &Cut) -> u64 {
    cut.shape().size_bytes.div_ceil(BLOCK_BYTES)
}
