//! Blocks in memory: those that were written in part, until the rest comes, and those that were read in part.
//!
//! Whoever reads, changes or writes a block holds its lock; the table of all blocks is locked only for a look. So threads
//! that pack different blocks never wait for each other. A block that holds what the medium has not stays in the table
//! until it was put there.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use image::Result;

/// How much memory its blocks take, in bytes. Two are always permitted.
const CACHE_BYTES: usize = 8 << 20;
/// No more than so many blocks, however small: the one that was used longest ago is looked for among all.
const BLOCKS_MAX: usize = 256;
/// A block that was written in more places than this gets the rest of its bytes at once.
const PARTS_MAX: usize = 64;

/// The blocks in memory, by number.
pub(super) struct Cache {
    table: Mutex<Table>,
    /// Memory of blocks that left, to be used again.
    spare: Mutex<Vec<Vec<u8>>>,
    block_bytes: usize,
    blocks_max: usize,
}

#[derive(Default)]
struct Table {
    entries: HashMap<u64, Entry>,
    /// Counts uses.
    clock: u64,
}

struct Entry {
    cell: Arc<Cell>,
    /// How many work with it.
    pins: usize,
    /// The time of the clock when it was used last.
    used: u64,
}

#[derive(Default)]
struct Cell {
    content: Mutex<Content>,
    /// It holds what the medium has not. Changes only while `content` is locked.
    dirty: AtomicBool,
}

#[derive(Default)]
struct Content {
    /// As many as a whole block has, or none if nothing is in memory.
    bytes: Vec<u8>,
    /// All of them are known, not only those that were written.
    is_whole: bool,
    /// What was written since the block was last put on the medium: in ascending order, not touching.
    written: Vec<Range<usize>>,
}

/// Bytes to be written.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    Bytes(&'a [u8]),
    Zeroes,
}

/// A block that stays in the table while somebody works with it.
pub(super) struct Pinned<'a> {
    cache: &'a Cache,
    cell: Arc<Cell>,
    pub(super) block: u64,
}

/// A block to which nobody else gets.
pub(super) struct Held<'a> {
    cache: &'a Cache,
    dirty: &'a AtomicBool,
    content: MutexGuard<'a, Content>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cache {
    pub(super) fn new(block_bytes: usize) -> Self {
        Cache {
            table: Mutex::default(),
            spare: Mutex::default(),
            block_bytes,
            blocks_max: (CACHE_BYTES / block_bytes).clamp(2, BLOCKS_MAX),
        }
    }

    /// The block `block`, with nothing of it in memory if it was not in the table.
    pub(super) fn pin(&self, block: u64) -> Pinned<'_> {
        let mut table = lock(&self.table);
        table.clock += 1;
        let used = table.clock;
        let new = || Entry { cell: Arc::default(), pins: 0, used };
        let entry = table.entries.entry(block).or_insert_with(new);
        entry.used = used;
        entry.pins += 1;
        Pinned { cache: self, cell: Arc::clone(&entry.cell), block }
    }

    /// If there are more blocks in memory than there should be: the one that was used longest ago, of those with which
    /// nobody works.
    pub(super) fn excess(&self) -> Option<Pinned<'_>> {
        let mut table = lock(&self.table);
        if table.entries.len() <= self.blocks_max {
            return None;
        }
        let idle = table.entries.iter_mut().filter(|(_, entry)| entry.pins == 0);
        let (&block, entry) = idle.min_by_key(|(_, entry)| entry.used)?;
        entry.pins += 1;
        Some(Pinned { cache: self, cell: Arc::clone(&entry.cell), block })
    }

    /// The blocks that hold what the medium has not, in ascending order.
    pub(super) fn dirty(&self) -> Vec<u64> {
        let table = lock(&self.table);
        let is_dirty = |entry: &Entry| entry.cell.dirty.load(Ordering::Relaxed);
        let dirty = table.entries.iter().filter(|(_, entry)| is_dirty(entry));
        let mut blocks: Vec<u64> = dirty.map(|(&block, _)| block).collect();
        blocks.sort_unstable();
        blocks
    }

    /// The first block of `blocks` that holds what the medium has not.
    pub(super) fn first_dirty(&self, blocks: &Range<u64>) -> Option<u64> {
        self.dirty().into_iter().find(|block| blocks.contains(block))
    }

    /// The first block of `blocks` that is in the table.
    pub(super) fn first(&self, blocks: &Range<u64>) -> Option<u64> {
        let table = lock(&self.table);
        table.entries.keys().copied().filter(|block| blocks.contains(block)).min()
    }

    /// Drops the blocks from `block` on, with what was written to them.
    pub(super) fn drop_from(&mut self, block: u64) {
        let table = self.table.get_mut().unwrap_or_else(PoisonError::into_inner);
        table.entries.retain(|&number, _| number < block);
    }

    fn new_bytes(&self) -> Vec<u8> {
        lock(&self.spare).pop().unwrap_or_else(|| vec![0; self.block_bytes])
    }

    fn take_back(&self, bytes: Vec<u8>) {
        let mut spare = lock(&self.spare);
        if !bytes.is_empty() && spare.len() < self.blocks_max / 2 {
            spare.push(bytes);
        }
    }
}

impl Pinned<'_> {
    /// Waits until nobody else works with the block.
    pub(super) fn hold(&self) -> Held<'_> {
        Held { cache: self.cache, dirty: &self.cell.dirty, content: lock(&self.cell.content) }
    }
}

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        let mut table = lock(&self.cache.table);
        let Some(entry) = table.entries.get_mut(&self.block) else { return };
        entry.pins -= 1;
        // While the table is locked nobody comes, and so nobody holds it.
        if entry.pins == 0 && lock(&self.cell.content).bytes.is_empty() {
            table.entries.remove(&self.block);
        }
    }
}

impl Held<'_> {
    /// Whether it holds what the medium has not.
    pub(super) fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::Relaxed)
    }

    /// Whether nothing of it is in memory.
    pub(super) fn is_empty(&self) -> bool {
        self.content.bytes.is_empty()
    }

    /// The bytes `inside` the block, if they are in memory.
    pub(super) fn get(&self, inside: Range<usize>) -> Option<&[u8]> {
        let content = &*self.content;
        let covers = |part: &Range<usize>| part.start <= inside.start && inside.end <= part.end;
        let known =
            !content.bytes.is_empty() && (content.is_whole || content.written.iter().any(covers));
        known.then(|| &content.bytes[inside])
    }

    /// Changes the bytes `inside` the block, of which the rest need not be known.
    pub(super) fn put(&mut self, inside: Range<usize>, source: Source<'_>) {
        self.dirty.store(true, Ordering::Relaxed);
        let content = &mut *self.content;
        if content.bytes.is_empty() {
            content.bytes = self.cache.new_bytes();
        }
        let target = &mut content.bytes[inside.clone()];
        match source {
            Source::Bytes(bytes) => target.copy_from_slice(bytes),
            Source::Zeroes => target.fill(0),
        }
        add(&mut content.written, inside);
    }

    /// Whether all `len` bytes of the block were written since it was last put on the medium.
    pub(super) fn is_complete(&self, len: usize) -> bool {
        matches!(&self.content.written[..], [all] if *all == (0..len))
    }

    /// Whether it was written in so many places that the rest had better be known.
    pub(super) fn is_scattered(&self) -> bool {
        self.content.written.len() > PARTS_MAX
    }

    /// Makes all `len` bytes of the block known: `load` fills a buffer with those that the medium has. Returns them.
    pub(super) fn complete(
        &mut self,
        len: usize,
        load: impl FnOnce(&mut [u8]) -> Result<()>,
    ) -> Result<&[u8]> {
        let content = &mut *self.content;
        if !content.is_whole && !matches!(&content.written[..], [all] if *all == (0..len)) {
            let mut bytes = self.cache.new_bytes();
            if let Err(error) = load(&mut bytes[..len]) {
                self.cache.take_back(bytes);
                return Err(error);
            }
            for part in &content.written {
                bytes[part.clone()].copy_from_slice(&content.bytes[part.clone()]);
            }
            self.cache.take_back(std::mem::replace(&mut content.bytes, bytes));
        }
        content.is_whole = true;
        if content.written.len() > PARTS_MAX {
            // They only say when the block is complete, which a block written in so many places hardly becomes.
            content.written.clear();
        }
        Ok(&content.bytes[..len])
    }

    /// The medium has it all now. Nothing stays in memory.
    pub(super) fn clear(&mut self) {
        self.dirty.store(false, Ordering::Relaxed);
        let content = std::mem::take(&mut *self.content);
        self.cache.take_back(content.bytes);
    }
}

/// Adds `part` to `parts`, which are in ascending order and do not touch.
fn add(parts: &mut Vec<Range<usize>>, part: Range<usize>) {
    let from = parts.partition_point(|other| other.end < part.start);
    let to = parts.partition_point(|other| other.start <= part.end);
    let merged = match parts.get(from..to) {
        Some([first, .., last]) => first.start.min(part.start)..last.end.max(part.end),
        Some([only]) => only.start.min(part.start)..only.end.max(part.end),
        _ => part,
    };
    parts.splice(from..to, [merged]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::ranges::RangeSet;

    #[test]
    fn parts_are_merged_as_a_set_of_ranges_does() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..200 {
            let (mut parts, mut set) = (Vec::new(), RangeSet::new());
            for _ in 0..rng.usize(1..40) {
                let start = rng.usize(0..100);
                let end = start + rng.usize(1..12);
                add(&mut parts, start..end);
                set.insert(start as u64..end as u64);
                let expected: Vec<_> =
                    set.iter().map(|part| part.start as usize..part.end as usize).collect();
                assert_eq!(parts, expected);
            }
        }
    }

    #[test]
    fn a_block_leaves_the_table_when_nothing_of_it_is_in_memory() {
        let cache = Cache::new(4095);
        let pinned = cache.pin(7);
        pinned.hold().put(3..5, Source::Bytes(b"ab"));
        drop(pinned);
        assert_eq!((cache.dirty(), cache.first(&(0..9))), (vec![7], Some(7)));
        let pinned = cache.pin(7);
        assert_eq!(pinned.hold().get(3..5), Some(&b"ab"[..]));
        assert_eq!(pinned.hold().get(2..5), None);
        pinned.hold().clear();
        assert_eq!(cache.first(&(0..9)), Some(7));
        drop(pinned);
        assert_eq!(cache.first(&(0..9)), None);
    }

    #[test]
    fn what_was_written_covers_what_the_medium_has() {
        let cache = Cache::new(10);
        let pinned = cache.pin(0);
        let mut held = pinned.hold();
        held.put(2..4, Source::Bytes(b"xy"));
        held.put(7..8, Source::Zeroes);
        let all = held.complete(9, |old| {
            old.fill(b'o');
            Ok(())
        });
        assert_eq!(all.unwrap(), b"ooxyooo\0o");
        assert!(!held.is_complete(9));
        held.put(0..9, Source::Bytes(b"123456789"));
        assert!(held.is_complete(9));
    }

    #[test]
    fn of_too_many_blocks_the_one_used_longest_ago_has_to_go() {
        let cache = Cache::new(CACHE_BYTES / 3);
        for block in [5, 1, 9, 5] {
            cache.pin(block).hold().put(0..1, Source::Zeroes);
        }
        assert!(cache.excess().is_none());
        cache.pin(2).hold().put(0..1, Source::Zeroes);
        let busy = cache.pin(1);
        let excess = cache.excess().unwrap();
        assert_eq!(excess.block, 9);
        excess.hold().clear();
        drop((excess, busy));
        assert!(cache.excess().is_none());
    }
}
