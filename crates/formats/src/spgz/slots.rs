//! The slots of a container: blocks go there whole and come from there whole, in an order that survives a power cut.
//!
//! What a block replaces is given back only when the block is durable; the length of the container, which says how long
//! the image is, never changes in the same breath as the bytes that explain it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use image::{ExtentKind, Medium, Result};

use super::layout::{HEADER_BYTES, Layout};
use super::member::{Flaw, Tools};

/// Space is given back in pages of this length, in bytes, counted from the beginning of the container.
const PAGE_BYTES: u64 = 4096;
/// So many blocks may wait for a sync before the space that they no longer need is given back.
const STALE_MAX: usize = 1 << 16;

/// A container below its blocks.
///
/// It does not keep two threads from writing one block: its callers do.
pub(super) struct Slots<M> {
    medium: M,
    pub(super) layout: Layout,
    /// Length of the container in bytes; that of the medium, but for what [`Slots::leave_out`] did.
    len_bytes: AtomicU64,
    is_left_out: AtomicBool,
    is_written: AtomicBool,
    tools: Mutex<Vec<Tools>>,
    /// By block: bytes of its slot that it no longer needs, once what it holds is durable.
    stale: Mutex<BTreeMap<u64, Range<u64>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<M: Medium> Slots<M> {
    /// The slots in the first `len_bytes` of `medium`.
    pub(super) fn new(medium: M, layout: Layout, len_bytes: u64) -> Self {
        Slots {
            medium,
            layout,
            len_bytes: AtomicU64::new(len_bytes),
            is_left_out: AtomicBool::new(false),
            is_written: AtomicBool::new(false),
            tools: Mutex::default(),
            stale: Mutex::default(),
        }
    }

    pub(super) fn medium(&self) -> &M {
        &self.medium
    }

    pub(super) fn len_bytes(&self) -> u64 {
        self.len_bytes.load(Ordering::Acquire)
    }

    /// The part of the slot of `block` that the container has.
    pub(super) fn slot(&self, block: u64) -> Range<u64> {
        let slot = self.layout.slot(block);
        let end = slot.end.min(self.len_bytes());
        slot.start.min(end)..end
    }

    /// How many blocks from `block` on are holes as a whole, as far as one look at the medium tells; the last one may
    /// be cut by the end of the container.
    pub(super) fn holes_from(&self, block: u64) -> Result<u64> {
        let slot = self.slot(block);
        if slot.is_empty() {
            return Ok(u64::MAX - block);
        }
        let run = self.medium.extent_at(slot.start)?;
        Ok(match run.kind {
            ExtentKind::Zero if run.end() >= self.len_bytes() => u64::MAX - block,
            ExtentKind::Zero => (run.end() - slot.start) / self.layout.slot_bytes(),
            ExtentKind::Data | ExtentKind::Unspecified => 0,
        })
    }

    /// How many blocks from `block`, which is no hole, on are none, as far as one look at the medium tells; at least 1.
    pub(super) fn data_from(&self, block: u64) -> Result<u64> {
        let slot = self.slot(block);
        let run = self.medium.extent_at(slot.start)?;
        Ok(match run.kind {
            ExtentKind::Zero => 1,
            _ => (run.end() - slot.start).div_ceil(self.layout.slot_bytes()),
        })
    }

    /// Fills `bytes` with what stands in the slot of `block`, and with zeroes behind that. Returns how many bytes stood
    /// there; or what is wrong with them, and then what is in `bytes` means nothing.
    pub(super) fn load(&self, block: u64, bytes: &mut [u8]) -> Result<Result<usize, Flaw>> {
        let slot = self.slot(block);
        let len = (slot.end - slot.start) as usize;
        let mut tools = self.tools();
        self.medium.read_at(tools.room(len), slot.start)?;
        let unpacked = tools.unpack(len, bytes);
        self.put_back(tools);
        if let Ok(has) = unpacked {
            bytes[has..].fill(0);
        }
        Ok(unpacked)
    }

    /// Puts `bytes`, all that it has, into the slot of `block`. If it `is_last`, the length of the container follows.
    ///
    /// After a power cut the block is as before, or as it should be, or torn: sectors of either. A torn one is found by
    /// its digest if the first sector says that it is packed. Its length, if it is the last, is the old or the new one.
    pub(super) fn store(&self, block: u64, bytes: &[u8], is_last: bool) -> Result<()> {
        if digest::is_zero(bytes) {
            return self.store_zeroes(block, bytes.len() as u64, is_last);
        }
        let mut tools = self.tools();
        let packed = tools.pack(bytes);
        let outcome = self.store_packed(block, packed, bytes.len() as u64, is_last);
        self.put_back(tools);
        outcome
    }

    /// The same for `len_bytes` zeroes: the slot becomes a hole.
    pub(super) fn store_zeroes(&self, block: u64, len_bytes: u64, is_last: bool) -> Result<()> {
        let slot = self.layout.slot(block);
        let end = match len_bytes == self.layout.block_bytes() {
            true => slot.end,
            false => slot.start + 1 + len_bytes,
        };
        lock(&self.stale).remove(&block);
        self.within_length(is_last.then_some(end), || {
            if self.holes_from(block)? > 0 {
                return Ok(());
            }
            self.medium.punch(self.slot(block))
        })
    }

    fn store_packed(&self, block: u64, packed: &[u8], len_bytes: u64, is_last: bool) -> Result<()> {
        let slot = self.layout.slot(block);
        let end = slot.start + packed.len() as u64;
        let is_whole = len_bytes == self.layout.block_bytes();
        let container_end = if is_whole { slot.end } else { end };
        // What is waiting may reach into what is written now.
        lock(&self.stale).remove(&block);
        let mut was_hole = false;
        self.within_length(is_last.then_some(container_end), || {
            was_hole = self.holes_from(block)? > 0;
            self.medium.write_at(packed, slot.start)
        })?;
        let behind = end.next_multiple_of(PAGE_BYTES)..self.slot(block).end;
        if !was_hole && !behind.is_empty() {
            lock(&self.stale).insert(block, behind);
        }
        Ok(())
    }

    /// Does `write`, and gives the container the length `end`, if one is given: a greater one before, a smaller one
    /// after. What comes first is durable before the other begins, since the length alone would make the image end
    /// elsewhere, without anything being wrong.
    fn within_length(&self, end: Option<u64>, write: impl FnOnce() -> Result<()>) -> Result<()> {
        self.is_written.store(true, Ordering::Relaxed);
        let has = self.len_bytes();
        let end = end.unwrap_or(has);
        if end > has {
            self.set_len(end)?;
            self.medium.sync()?;
        }
        write()?;
        if end < has {
            self.medium.sync()?;
            self.set_len(end)?;
        }
        Ok(())
    }

    /// Cuts or grows the container.
    pub(super) fn set_len(&self, len_bytes: u64) -> Result<()> {
        self.medium.set_len(len_bytes)?;
        self.len_bytes.store(len_bytes, Ordering::Release);
        self.is_left_out.store(false, Ordering::Release);
        Ok(())
    }

    /// From now on the container ends at `len_bytes`; the medium hears of it by [`Slots::settle`].
    pub(super) fn leave_out(&self, len_bytes: u64) {
        self.len_bytes.store(len_bytes, Ordering::Release);
        self.is_left_out.store(true, Ordering::Release);
    }

    /// Whether the medium is longer than the container will be.
    pub(super) fn is_left_out(&self) -> bool {
        self.is_left_out.load(Ordering::Acquire)
    }

    /// Cuts off what was left out. If anything was written, and the last block of the image of `size_bytes` is whole, and
    /// the container ends with its member, then the container gets the whole slot: the other program would punch a hole
    /// there, and so make the image shorter.
    pub(super) fn settle(&self, size_bytes: u64) -> Result<()> {
        let has = self.len_bytes();
        if self.is_left_out() {
            return self.set_len(has);
        }
        let (slots, rest) = self.layout.slots(has);
        let is_short = rest > 0 && self.layout.blocks(size_bytes) == (slots + 1, 0);
        if is_short && self.is_written.load(Ordering::Relaxed) {
            return self.set_len(self.layout.slot(slots).end);
        }
        Ok(())
    }

    /// Everything that was stored is durable once this returns.
    pub(super) fn sync(&self) -> Result<()> {
        self.medium.sync()
    }

    /// What waits for a sync: blocks, and which bytes each of them no longer needs.
    pub(super) fn stale(&self) -> Vec<(u64, Range<u64>)> {
        lock(&self.stale).iter().map(|(&block, bytes)| (block, bytes.clone())).collect()
    }

    /// Whether so much waits that it is time for a sync.
    pub(super) fn has_much_stale(&self) -> bool {
        lock(&self.stale).len() > STALE_MAX
    }

    /// Gives back `bytes` of the slot of `block`, unless it needs them by now. What it needed them for is durable.
    pub(super) fn give_back(&self, block: u64, bytes: &Range<u64>) -> Result<()> {
        let is_same = {
            let mut stale = lock(&self.stale);
            let is_same = stale.get(&block) == Some(bytes);
            if is_same {
                stale.remove(&block);
            }
            is_same
        };
        let end = bytes.end.min(self.len_bytes());
        if is_same && bytes.start < end { self.medium.punch(bytes.start..end) } else { Ok(()) }
    }

    /// What waits matters no longer: blocks from `block` on are cut off.
    pub(super) fn drop_stale(&self, block: u64) {
        lock(&self.stale).split_off(&block);
    }

    fn tools(&self) -> Tools {
        lock(&self.tools).pop().unwrap_or_else(Tools::new)
    }

    fn put_back(&self, tools: Tools) {
        lock(&self.tools).push(tools);
    }
}

/// Where the image in a container ends.
pub(super) enum End {
    /// There.
    At(u64),
    /// Nobody knows: the block that begins there is the last, and damaged.
    Damaged(u64, Flaw),
}

impl<M: Medium> Slots<M> {
    /// Looks at the last block, whose length nothing else tells.
    pub(super) fn image_end(&self) -> Result<End> {
        let (block, rest) = self.layout.slots(self.len_bytes());
        let start = block * self.layout.block_bytes();
        if rest == 0 {
            return Ok(End::At(start));
        }
        let mut marker = [0];
        self.medium.read_at(&mut marker, HEADER_BYTES + block * self.layout.slot_bytes())?;
        if marker == [0] {
            return Ok(End::At(start + rest - 1));
        }
        let mut bytes = vec![0; self.layout.block_bytes() as usize];
        Ok(match self.load(block, &mut bytes)? {
            Ok(len) => End::At(start + len as u64),
            Err(flaw) => End::Damaged(start, flaw),
        })
    }
}
