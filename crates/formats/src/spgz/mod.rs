//! spgz: an image in blocks, each in a slot of its own, compressed where that saves space.
//!
//! Source: the program and library `spgz` of dop251, v1.2.1, which diskrsync uses; `docs/formats/spgz.md` describes the
//! format.
//!
//! A slot is one byte longer than a block, a multiple of 4096, and begins with a marker that says whether the block
//! stands behind it as it is or as a gzip member. What a slot does not need is a hole of the file below; a block of
//! zeroes is nothing but a hole. There is no index and no digest over the whole; where the image ends follows from the
//! length of the container and the last block.

mod blocks;
mod cache;
mod check;
mod header;
mod layout;
mod member;
mod resize;
mod slots;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use image::ranges::RangeSet;
use image::{Error, ErrorKind, Extent, ExtentKind, Image, ImageMut, Medium, Result};

use cache::{Cache, Source};
use slots::{End, Slots};

pub use header::{looks_like_spgz, rounded_block_bytes};

/// An spgz container as an image.
///
/// A block that is written in part stays in memory until the rest of it comes, until there are too many of them, or until
/// a [`flush`](ImageMut::flush): so it is packed once. The thread that completes a block packs it, and no other waits
/// for that unless it wants the same block. Memory: 8 MiB of blocks (always two, however large) and, for each thread,
/// one block twice.
///
/// # What a power cut may leave
///
/// Of what was written since the last flush that returned, each block is as before, or as it should be, or torn: 512-byte
/// sectors of either, which its digest finds if its first sector says that it is compressed. Writing a part of a block
/// writes all of it. Blocks that were not written are as before. The size is the old or the new one; or nobody knows it,
/// since the last block is torn. What was not flushed when it is dropped may be lost likewise.
pub struct SpgzImage<M> {
    slots: Slots<M>,
    cache: Cache,
    on_damage: OnDamage,
    size_bytes: u64,
    damage: Mutex<Damage>,
}

/// What is done about a block that is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDamage {
    /// Reading it fails.
    Report,
    /// It reads as zeroes and is remembered; what of it was not overwritten until a flush becomes zeroes then. If it is
    /// the last, the image ends where it begins.
    Repair,
}

#[derive(Default)]
struct Damage {
    /// Ranges of the image that were found damaged.
    found: RangeSet,
    /// Blocks that were, and that still are so on the medium.
    waiting: BTreeSet<u64>,
}

impl<M: Medium> SpgzImage<M> {
    /// Length of a block in bytes, unless another is asked for.
    pub const BLOCK_BYTES_DEFAULT: u64 = header::BLOCK_BYTES_DEFAULT;

    /// The image in the container `medium`. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Damaged`] if it is no container, its header says what cannot be, or its last block is damaged, so
    /// that its size is not known (unless that is repaired). [`ErrorKind::Unsupported`] if its blocks are longer than
    /// 64 MiB.
    pub fn open(medium: M, on_damage: OnDamage) -> Result<Self> {
        let len_bytes = medium.len()?;
        let layout = header::read(&medium, len_bytes)?;
        let slots = Slots::new(medium, layout, len_bytes);
        let end = slots.image_end()?;
        let mut image = SpgzImage {
            slots,
            cache: Cache::new(layout.block_bytes() as usize),
            on_damage,
            size_bytes: 0,
            damage: Mutex::default(),
        };
        image.size_bytes = match end {
            End::At(size_bytes) => size_bytes,
            End::Damaged(start, flaw) => {
                let block = start / layout.block_bytes();
                let range = start..start + layout.block_bytes();
                if on_damage == OnDamage::Report {
                    let what = "it is the last one, and so nobody knows how long the image is";
                    return Err(image.damaged(block, range, flaw).and(what));
                }
                image.slots.leave_out(layout.slot(block).start);
                image.damage().found.insert(range);
                start
            }
        };
        Ok(image)
    }

    /// An image of `size_bytes`, all zero, in a new container on `medium`, which is emptied. Blocks get the length that
    /// [`rounded_block_bytes`] makes of `block_bytes`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if blocks cannot have that length, or no file can hold so large a container;
    /// [`ErrorKind::Unsupported`] if the medium keeps its length.
    pub fn create(medium: M, block_bytes: u64, size_bytes: u64) -> Result<Self> {
        let layout = layout::Layout::new(rounded_block_bytes(block_bytes)? + 1);
        let Some(len_bytes) = layout.len_bytes(size_bytes) else {
            return Err(too_large(&medium, size_bytes));
        };
        let refused = |error: Error| match error.kind() {
            ErrorKind::Unsupported => error.context(
                "an spgz container can only be made in a file, since its length means something",
            ),
            _ => error,
        };
        medium.set_len(0).map_err(refused)?;
        medium.write_at(&header::bytes(layout), 0)?;
        medium.set_len(len_bytes)?;
        Ok(SpgzImage {
            slots: Slots::new(medium, layout, len_bytes),
            cache: Cache::new(layout.block_bytes() as usize),
            on_damage: OnDamage::Report,
            size_bytes,
            damage: Mutex::default(),
        })
    }

    /// The medium below. What was written since the last flush may not be on it.
    pub fn medium(&self) -> &M {
        self.slots.medium()
    }

    /// Length of a block in bytes.
    pub fn block_bytes(&self) -> u64 {
        self.slots.layout.block_bytes()
    }

    /// The ranges of the image that were found damaged and read as zeroes since it was opened. The last may lie behind the
    /// end: the image was cut there.
    pub fn repaired(&self) -> Vec<Range<u64>> {
        self.damage().found.iter().collect()
    }

    fn damage(&self) -> MutexGuard<'_, Damage> {
        self.damage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// No file can hold a container of `size_bytes`.
fn too_large(medium: &dyn Medium, size_bytes: u64) -> Error {
    let name = medium.name();
    let sentence = format!("{name} cannot hold an image of {size_bytes} bytes: no file is as long");
    Error::new(ErrorKind::Invalid, sentence).at(name, None)
}

impl<M: Medium> Image for SpgzImage<M> {
    fn size(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        for piece in self.slots.layout.pieces(offset..offset + buf.len() as u64) {
            self.read_piece(&piece, &mut buf[piece.part.clone()])?;
        }
        self.make_room()
    }

    /// Zero where whole blocks are holes of the medium.
    fn extent_at(&self, offset: u64) -> Result<Extent> {
        let layout = self.slots.layout;
        let (block, _) = layout.blocks(offset);
        let until = |blocks: u64| {
            let end = block.saturating_add(blocks).saturating_mul(layout.block_bytes());
            offset..end.min(self.size_bytes)
        };
        // First memory, as always.
        let in_memory = self.cache.first_dirty(&(block..u64::MAX));
        if in_memory == Some(block) {
            return Ok(Extent::new(until(1), ExtentKind::Data));
        }
        match self.slots.holes_from(block)? {
            0 => Ok(Extent::new(until(self.slots.data_from(block)?), ExtentKind::Data)),
            holes => {
                let holes = in_memory.map_or(holes, |next| holes.min(next - block));
                Ok(Extent::new(until(holes), ExtentKind::Zero))
            }
        }
    }

    /// The largest power of two that a slot has, up to 64 KiB: less is never a hole.
    fn block_size_bytes(&self) -> u64 {
        1 << self.slots.layout.slot_bytes().min(64 << 10).ilog2()
    }
}

impl<M: Medium> ImageMut for SpgzImage<M> {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        for piece in self.slots.layout.pieces(offset..offset + buf.len() as u64) {
            self.write_piece(&piece, Source::Bytes(&buf[piece.part.clone()]))?;
        }
        self.make_room()
    }

    /// Whole blocks become holes, as the medium makes them; of others the rest is packed anew.
    fn zero(&self, range: Range<u64>) -> Result<()> {
        let block_bytes = self.block_bytes();
        let mut at = range.start;
        while let Some(piece) = self.slots.layout.pieces(at..range.end).next() {
            let holes = match piece.inside.start {
                0 => self.holes_from(piece.block, &range)?,
                _ => 0,
            };
            if holes > 0 {
                at = (piece.block + holes).saturating_mul(block_bytes);
                continue;
            }
            self.write_piece(&piece, Source::Zeroes)?;
            self.make_room()?;
            at += piece.part.len() as u64;
        }
        Ok(())
    }

    /// Whole blocks become holes; of others nothing changes.
    fn forget(&self, range: Range<u64>) -> Result<()> {
        let block_bytes = self.block_bytes();
        let start = range.start.next_multiple_of(block_bytes);
        let end = match range.end == self.size_bytes {
            true => range.end,
            false => range.end - range.end % block_bytes,
        };
        if start < end { self.zero(start..end) } else { Ok(()) }
    }

    fn flush(&self) -> Result<()> {
        for block in self.cache.dirty() {
            let pinned = self.cache.pin(block);
            self.put_out(block, &mut pinned.hold())?;
        }
        let waiting: Vec<u64> = self.damage().waiting.iter().copied().collect();
        for block in waiting {
            let pinned = self.cache.pin(block);
            let mut held = pinned.hold();
            if held.is_dirty() {
                self.put_out(block, &mut held)?;
            } else if self.damage().waiting.contains(&block) {
                self.store(block, Source::Zeroes)?;
            }
        }
        self.slots.settle(self.size_bytes)?;
        self.sync()
    }

    /// The size is the old or the new one after a power cut, and the new one once this returned.
    fn resize(&mut self, size_bytes: u64) -> Result<()> {
        self.change_size(size_bytes)
    }
}
