//! The content of a file that has no places to start from, packed anew: kept as one of our files of Zstandard.

use std::ops::Range;

use image::{Error, ErrorKind, Medium, Phase, Result, Task};

use super::tabled::Tabled;
use super::zst::{self, ZstCodec, ZstPacking};
use super::{Packing, Segments, Unpack};

/// How the file is unpacked from front to back.
pub(super) type UnpackFn = for<'a> fn(&'a dyn Medium) -> Result<Box<dyn Unpack + 'a>>;

/// Segments that are read from what was kept, not from the file.
pub(super) struct Anew {
    kept: Box<dyn Medium>,
    segments: Tabled<ZstCodec>,
    unpack_file: UnpackFn,
}

impl Anew {
    /// Unpacks all of `file` and writes it to `kept`. What is not complete cannot be opened.
    pub(super) fn make(
        file: &dyn Medium,
        unpack_file: UnpackFn,
        kept: Box<dyn Medium>,
        task: &Task,
    ) -> Result<Self> {
        task.begin(Phase::Map, file.len()?);
        let mut content = unpack_file(file)?;
        // Speed counts more than size for what can be made again.
        let packing = ZstPacking::new(Some(1));
        let mut packer = packing.packer();
        let mut packed = packing.head();
        let (mut entries, mut end, mut done) = (Vec::new(), 0, 0);
        let mut segment = vec![0; packing.segment_bytes()];
        kept.set_len(0)?;
        loop {
            task.checkpoint()?;
            let len = content.read(&mut segment)?;
            if len > 0 {
                entries.push(packer.pack(&segment[..len], &mut packed)?);
            }
            kept.write_at(&packed, end)?;
            end += packed.len() as u64;
            packed.clear();
            task.advance(content.packed_position() - done);
            done = content.packed_position();
            if len < segment.len() {
                break;
            }
        }
        kept.write_at(&packing.tail(&entries), end)?;
        kept.sync()?;
        Self::open(unpack_file, kept)
    }

    /// What [`make`](Anew::make) has kept.
    pub(super) fn open(unpack_file: UnpackFn, kept: Box<dyn Medium>) -> Result<Self> {
        let segments = zst::segments(&*kept)?.ok_or_else(|| {
            let name = kept.name();
            let sentence = format!("{name} is damaged: it holds nothing that was kept of a file");
            Error::new(ErrorKind::Damaged, sentence).at(name, None)
        })?;
        Ok(Anew { kept, segments, unpack_file })
    }
}

impl Segments for Anew {
    fn len_bytes(&self) -> u64 {
        self.segments.len_bytes()
    }

    fn find(&self, offset: u64) -> (usize, Range<u64>) {
        self.segments.find(offset)
    }

    fn unpack(&self, _file: &dyn Medium, at: usize, out: &mut Vec<u8>) -> Result<()> {
        self.segments.unpack(&*self.kept, at, out)
    }

    fn unpack_into(&self, _file: &dyn Medium, at: usize, out: &mut [u8]) -> Result<()> {
        self.segments.unpack_into(&*self.kept, at, out)
    }

    /// No reading touches the file at all: so this unpacks all of it, and compares it with what was kept.
    fn check_rest(&self, file: &dyn Medium) -> Result<()> {
        self.segments.check_rest(&*self.kept)?;
        let mut content = (self.unpack_file)(file)?;
        let mut segment = Vec::new();
        for entry in self.segments.table().entries() {
            let start = content.packed_position();
            segment.resize(entry.len_bytes as usize, 0);
            let len = content.read(&mut segment)?;
            if len < segment.len() || libdeflater::crc32(&segment) != entry.crc32 {
                let end = content.packed_position().max(start + 1);
                return Err(other(file, start..end));
            }
        }
        match content.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(other(file, content.packed_position()..file.len()?)),
        }
    }
}

fn other(file: &dyn Medium, range: Range<u64>) -> Error {
    let name = file.name();
    let sentence = format!("{name} holds something else than was kept of it");
    Error::new(ErrorKind::Damaged, sentence).at(name, Some(range))
}
