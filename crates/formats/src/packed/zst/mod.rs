//! Files packed with Zstandard.

use image::{Medium, Result, Task};

use super::{Entry, Opened, PackedMedium, Packer, Packing, Unpack};

/// How a new file is packed.
#[derive(Clone, Copy, Debug)]
pub struct ZstPacking {
    level: i32,
}

impl ZstPacking {
    /// Level 1 if none is given.
    pub fn new(level: Option<i32>) -> Self {
        ZstPacking { level: level.unwrap_or(1) }
    }
}

impl Packing for ZstPacking {
    fn segment_bytes(&self) -> usize {
        1 << 20
    }
    fn head(&self) -> Vec<u8> {
        todo!()
    }
    fn packer(&self) -> Box<dyn Packer> {
        todo!()
    }
    fn tail(&self, _segments: &[Entry]) -> Vec<u8> {
        todo!()
    }
}

pub(super) fn open<M: Medium>(_medium: M) -> Result<Opened<M>> {
    todo!()
}

pub(super) fn index<M: Medium>(
    _medium: M,
    _kept: Box<dyn Medium>,
    _task: &Task,
) -> Result<PackedMedium<M>> {
    todo!()
}

pub(super) fn open_kept<M: Medium>(_medium: M, _kept: Box<dyn Medium>) -> Result<PackedMedium<M>> {
    todo!()
}

pub(super) fn unpack<'a>(_medium: &'a dyn Medium) -> Result<Box<dyn Unpack + 'a>> {
    todo!()
}
