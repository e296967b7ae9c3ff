//! Brings the names of chunks, which come in any order, into the order of the blob.

use std::collections::VecDeque;

use image::Result;

use crate::ChunkId;

/// The slots of chunks that were cut and not yet written.
pub(super) struct Ledger<W> {
    slots: VecDeque<Slot>,
    /// Number of the first slot.
    first: u64,
    write: W,
}

struct Slot {
    len_bytes: u64,
    /// Equal chunks, one behind the other.
    count: u64,
    id: Option<ChunkId>,
}

/// Equal chunks, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Their name.
    pub id: ChunkId,
    /// Length of each, in bytes.
    pub len_bytes: u64,
    /// How many.
    pub count: u64,
}

impl<W: FnMut(Run) -> Result<()>> Ledger<W> {
    pub(super) fn new(write: W) -> Self {
        Ledger { slots: VecDeque::new(), first: 0, write }
    }

    /// The next chunk of the blob, whose name will be told: the number of its slot.
    pub(super) fn reserve(&mut self, len_bytes: u64) -> u64 {
        self.slots.push_back(Slot { len_bytes, count: 1, id: None });
        self.first + self.slots.len() as u64 - 1
    }

    /// The next chunk of the blob, whose name is known.
    pub(super) fn add(&mut self, len_bytes: u64, id: ChunkId) {
        if let Some(last) = self.slots.back_mut()
            && (last.len_bytes, last.id) == (len_bytes, Some(id))
        {
            last.count += 1;
            return;
        }
        self.slots.push_back(Slot { len_bytes, count: 1, id: Some(id) });
    }

    /// The name of the chunk in a slot.
    pub(super) fn tell(&mut self, slot: u64, id: ChunkId) {
        self.slots[(slot - self.first) as usize].id = Some(id);
    }

    /// Writes what is known from the front on. The last slot stays, since it may still grow, unless `all`.
    pub(super) fn write(&mut self, all: bool) -> Result<()> {
        while let Some(&Slot { len_bytes, count, id: Some(id) }) = self.slots.front() {
            if self.slots.len() == 1 && !all {
                break;
            }
            (self.write)(Run { id, len_bytes, count })?;
            self.slots.pop_front();
            self.first += 1;
        }
        Ok(())
    }
}
