//! A medium in memory, sparse: only blocks that were written take space.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::{Error, ErrorKind, Extent, ExtentKind, Medium, Result};

/// Bytes in memory that grow like a file, or stay at one length like a device.
#[derive(Debug)]
pub struct MemoryMedium {
    name: String,
    fixed: bool,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    len_bytes: u64,
    /// Blocks that hold data, by number; a missing one reads as zeroes. Behind the end all bytes are zero.
    blocks: BTreeMap<u64, Box<[u8; BLOCK]>>,
}

const BLOCK: usize = 4096;
const BLOCK_BYTES: u64 = BLOCK as u64;

impl MemoryMedium {
    /// A medium of `len_bytes` zeroes that can grow.
    pub fn new(name: impl Into<String>, len_bytes: u64) -> Self {
        let state = State { len_bytes, ..State::default() };
        MemoryMedium { name: name.into(), fixed: false, state: RwLock::new(state) }
    }

    /// A medium of `len_bytes` zeroes that keeps its length, as a device does.
    pub fn fixed(name: impl Into<String>, len_bytes: u64) -> Self {
        MemoryMedium { fixed: true, ..MemoryMedium::new(name, len_bytes) }
    }

    /// How much memory its data takes, in bytes.
    pub fn allocated_bytes(&self) -> u64 {
        self.read().blocks.len() as u64 * BLOCK_BYTES
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl State {
    fn store(&mut self, buf: &[u8], offset: u64) {
        for (at, part) in pieces(offset, buf.len() as u64) {
            let from = (at - offset) as usize;
            let block = self.blocks.entry(at / BLOCK_BYTES).or_insert_with(|| Box::new([0; BLOCK]));
            let inside = (at % BLOCK_BYTES) as usize;
            block[inside..inside + part].copy_from_slice(&buf[from..from + part]);
        }
        self.len_bytes = self.len_bytes.max(offset + buf.len() as u64);
    }

    fn clear(&mut self, range: Range<u64>) {
        let numbers: Vec<u64> = self
            .blocks
            .range(range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES))
            .map(|(&number, _)| number)
            .collect();
        for number in numbers {
            let start = number * BLOCK_BYTES;
            if range.start <= start && start + BLOCK_BYTES <= range.end {
                self.blocks.remove(&number);
            } else if let Some(block) = self.blocks.get_mut(&number) {
                let from = range.start.max(start) - start;
                let to = range.end.min(start + BLOCK_BYTES) - start;
                block[from as usize..to as usize].fill(0);
            }
        }
    }
}

/// Cuts a range at block borders: offset and length of each piece.
fn pieces(offset: u64, len_bytes: u64) -> impl Iterator<Item = (u64, usize)> {
    let end = offset + len_bytes;
    let mut at = offset;
    std::iter::from_fn(move || {
        let part = (BLOCK_BYTES - at % BLOCK_BYTES).min(end.checked_sub(at)?);
        let piece = (part > 0).then_some((at, part as usize));
        at += part;
        piece
    })
}

impl Medium for MemoryMedium {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> Result<u64> {
        Ok(self.read().len_bytes)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let state = self.read();
        // A format may have taken the offset from a damaged file: it can be anything.
        let end = offset.saturating_add(buf.len() as u64);
        if end > state.len_bytes {
            let sentence = format!(
                "cannot read {} bytes at {offset} of {}: it ends at {}",
                buf.len(),
                self.name,
                state.len_bytes
            );
            return Err(Error::new(ErrorKind::Changed, sentence).at(&self.name, Some(offset..end)));
        }
        for (at, part) in pieces(offset, buf.len() as u64) {
            let from = (at - offset) as usize;
            let target = &mut buf[from..from + part];
            match state.blocks.get(&(at / BLOCK_BYTES)) {
                Some(block) => {
                    let inside = (at % BLOCK_BYTES) as usize;
                    target.copy_from_slice(&block[inside..inside + part]);
                }
                None => target.fill(0),
            }
        }
        Ok(())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        if buf.is_empty() {
            return Ok(());
        }
        let mut state = self.write();
        let end = offset.saturating_add(buf.len() as u64);
        if self.fixed && end > state.len_bytes {
            let sentence =
                format!("cannot write behind the end of {} ({} bytes)", self.name, state.len_bytes);
            return Err(Error::new(ErrorKind::Full, sentence).at(&self.name, Some(offset..end)));
        }
        state.store(buf, offset);
        Ok(())
    }

    fn set_len(&self, len_bytes: u64) -> Result<()> {
        let mut state = self.write();
        if self.fixed && len_bytes != state.len_bytes {
            let sentence = format!("{} has a fixed size of {} bytes", self.name, state.len_bytes);
            return Err(Error::new(ErrorKind::Unsupported, sentence).at(&self.name, None));
        }
        if len_bytes < state.len_bytes {
            let old_end = state.len_bytes.next_multiple_of(BLOCK_BYTES);
            state.clear(len_bytes..old_end);
        }
        state.len_bytes = len_bytes;
        Ok(())
    }

    fn punch(&self, range: Range<u64>) -> Result<()> {
        self.write().clear(range);
        Ok(())
    }

    fn discard(&self, range: Range<u64>) -> Result<()> {
        self.punch(range)
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        let state = self.read();
        let number = offset / BLOCK_BYTES;
        let (kind, end) = if state.blocks.contains_key(&number) {
            (ExtentKind::Data, (number + 1) * BLOCK_BYTES)
        } else {
            let next = state.blocks.range(number..).next();
            (ExtentKind::Zero, next.map_or(u64::MAX, |(&next, _)| next * BLOCK_BYTES))
        };
        Ok(Extent::new(offset..end.min(state.len_bytes), kind))
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }
}
