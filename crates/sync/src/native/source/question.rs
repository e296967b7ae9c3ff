//! What a source asks about a region that differs, and what it makes of the answer.

use std::ops::Range;

use image::Result;

use super::super::content::{Content, Zeroes, short};
use super::super::cut::{Cut, block_range};
use super::super::frame::{Frame, Short};
use super::super::{BLOCK_BYTES, PAGE_BYTES};

/// Pages are asked for if no more than one in so many blocks differs; else the blocks are sent.
const FEW: usize = 4;

/// What the target was asked, or will be.
pub(super) struct Question {
    /// The region.
    pub(super) number: u64,
    pub(super) blocks: Vec<u64>,
    pub(super) of_pages: bool,
    /// How many make the answer.
    pub(super) digests: u64,
}

impl Question {
    pub(super) fn to_frame(&self, id: u32) -> Frame {
        if self.of_pages {
            return Frame::AskPages { id, blocks: self.blocks.clone() };
        }
        // Never empty, and at most `QUESTION_BLOCKS` apart.
        let first = self.blocks[0];
        let count = self.blocks.last().map_or(0, |last| last + 1 - first) as u16;
        Frame::AskBlocks { id, first, count }
    }

    /// What is to be sent, and what is to be asked next, after `theirs` came for an answer.
    pub(super) fn differing(
        &self,
        content: &Content<'_>,
        cut: &Cut,
        zeroes: &Zeroes,
        theirs: &[Short],
        buf: &mut [u8],
    ) -> Result<(Vec<Range<u64>>, Option<Question>)> {
        if self.of_pages {
            let ours = content.pages(cut, &self.blocks, zeroes, buf)?;
            let pages = self.blocks.iter().flat_map(|block| pages_of(cut, *block));
            let mut ranges: Vec<Range<u64>> = Vec::new();
            for (page, (ours, theirs)) in pages.zip(ours.iter().zip(theirs)) {
                match ranges.last_mut() {
                    _ if ours == theirs => {}
                    Some(last) if last.end == page.start => last.end = page.end,
                    _ => ranges.push(page),
                }
            }
            return Ok((ranges, None));
        }
        let ours = content.blocks(cut, &self.blocks, zeroes, buf)?;
        let zero = short(&zeroes.of(BLOCK_BYTES));
        let mut differing = Vec::new();
        let mut at_once = Vec::new();
        for (block, (ours, theirs)) in self.blocks.iter().zip(ours.iter().zip(theirs)) {
            match ours == theirs {
                true => {}
                // Zeroes cost nothing, and data in place of zeroes has no page that is alike, most likely.
                false if *ours == zero || *theirs == zero => at_once.push(*block),
                false => differing.push(*block),
            }
        }
        if differing.len() * FEW > self.blocks.len().max(FEW) {
            at_once.append(&mut differing);
            at_once.sort_unstable();
        }
        let ranges = at_once.iter().flat_map(|block| cut.parts(block_range(*block))).collect();
        let digests = differing.iter().map(|block| pages_of(cut, *block).count() as u64).sum();
        let next = Question { number: self.number, blocks: differing, of_pages: true, digests };
        Ok((ranges, Some(next).filter(|next| !next.blocks.is_empty())))
    }
}

/// The compared pages of a block.
fn pages_of(cut: &Cut, block: u64) -> impl Iterator<Item = Range<u64>> + '_ {
    cut.parts(block_range(block)).flat_map(|part| {
        let end = part.end;
        part.step_by(PAGE_BYTES as usize).map(move |at| at..end.min(at + PAGE_BYTES))
    })
}
