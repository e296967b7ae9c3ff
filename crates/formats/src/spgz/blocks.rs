//! Blocks of an image: to and from memory, to and from their slots.

use std::ops::Range;

use image::{Error, ErrorKind, Medium, Result};

use super::cache::{Held, Source};
use super::layout::Piece;
use super::member::Flaw;
use super::{OnDamage, SpgzImage};

impl<M: Medium> SpgzImage<M> {
    /// What of the image the block `block` has.
    pub(super) fn block_range(&self, block: u64) -> Range<u64> {
        self.slots.layout.block(block, self.size_bytes)
    }

    pub(super) fn block_len(&self, block: u64) -> usize {
        let range = self.block_range(block);
        (range.end - range.start) as usize
    }

    /// Fills `bytes` with what the medium has of block `block`.
    pub(super) fn load(&self, block: u64, bytes: &mut [u8]) -> Result<()> {
        let Err(flaw) = self.slots.load(block, bytes)? else { return Ok(()) };
        let range = self.block_range(block);
        if self.on_damage == OnDamage::Report {
            return Err(self.damaged(block, range, flaw));
        }
        let mut damage = self.damage();
        damage.found.insert(range);
        damage.waiting.insert(block);
        bytes.fill(0);
        Ok(())
    }

    /// Puts `source`, a whole block, on the medium.
    pub(super) fn store(&self, block: u64, source: Source<'_>) -> Result<()> {
        let range = self.block_range(block);
        let is_last = range.end == self.size_bytes;
        match source {
            Source::Bytes(bytes) => self.slots.store(block, bytes, is_last)?,
            Source::Zeroes => self.slots.store_zeroes(block, range.end - range.start, is_last)?,
        }
        self.damage().waiting.remove(&block);
        Ok(())
    }

    /// Puts on the medium what is only in memory of block `block`.
    pub(super) fn put_out(&self, block: u64, held: &mut Held<'_>) -> Result<()> {
        if held.is_dirty() {
            let bytes = held.complete(self.block_len(block), |bytes| self.load(block, bytes))?;
            self.store(block, Source::Bytes(bytes))?;
        }
        held.clear();
        Ok(())
    }

    /// Makes room in memory, if there are too many blocks in it.
    pub(super) fn make_room(&self) -> Result<()> {
        while let Some(pinned) = self.cache.excess() {
            self.put_out(pinned.block, &mut pinned.hold())?;
        }
        if self.slots.has_much_stale() { self.sync() } else { Ok(()) }
    }

    pub(super) fn write_piece(&self, piece: &Piece, source: Source<'_>) -> Result<()> {
        let len = self.block_len(piece.block);
        let pinned = self.cache.pin(piece.block);
        let mut held = pinned.hold();
        if piece.inside == (0..len) {
            held.clear();
            return self.store(piece.block, source);
        }
        held.put(piece.inside.clone(), source);
        if held.is_complete(len) {
            self.put_out(piece.block, &mut held)?;
        } else if held.is_scattered() {
            held.complete(len, |bytes| self.load(piece.block, bytes))?;
        }
        Ok(())
    }

    pub(super) fn read_piece(&self, piece: &Piece, target: &mut [u8]) -> Result<()> {
        let len = self.block_len(piece.block);
        let pinned = self.cache.pin(piece.block);
        let mut held = pinned.hold();
        if let Some(bytes) = held.get(piece.inside.clone()) {
            target.copy_from_slice(bytes);
            return Ok(());
        }
        if held.is_empty() && piece.inside == (0..len) {
            // Whoever reads whole blocks has no need of them a second time.
            return self.load(piece.block, target);
        }
        let bytes = held.complete(len, |bytes| self.load(piece.block, bytes))?;
        target.copy_from_slice(&bytes[piece.inside.clone()]);
        Ok(())
    }

    /// How many whole blocks from `block` on, of those before the end of `range`, are known to be holes, in memory and
    /// on the medium.
    pub(super) fn holes_from(&self, block: u64, range: &Range<u64>) -> Result<u64> {
        let layout = self.slots.layout;
        let end = if range.end == self.size_bytes {
            range.end.div_ceil(layout.block_bytes())
        } else {
            range.end / layout.block_bytes()
        };
        // First memory: what leaves it meanwhile has reached the medium.
        let end = self.cache.first(&(block..end)).unwrap_or(end);
        if block >= end {
            return Ok(0);
        }
        Ok(self.slots.holes_from(block)?.min(end - block))
    }

    /// Makes durable what is on the medium, then gives back the space that this no longer needs.
    pub(super) fn sync(&self) -> Result<()> {
        let stale = self.slots.stale();
        self.slots.sync()?;
        for (block, bytes) in stale {
            let pinned = self.cache.pin(block);
            let _held = pinned.hold();
            self.slots.give_back(block, &bytes)?;
        }
        Ok(())
    }

    pub(super) fn damaged(&self, block: u64, range: Range<u64>, flaw: Flaw) -> Error {
        let name = self.medium().name();
        let why = match flaw {
            Flaw::Marker(marker) => {
                format!("its marker is {marker}, and only 0 and 1 have a meaning")
            }
            Flaw::Member => {
                "what is compressed in it is cut, or is not what its digest says".to_string()
            }
            Flaw::TooLong => "what is compressed in it is longer than a block".to_string(),
        };
        let sentence = format!(
            "block {block} of {name}, bytes {} to {} of the image, is damaged: {why}",
            range.start, range.end
        );
        Error::new(ErrorKind::Damaged, sentence).at(name, Some(range))
    }
}
