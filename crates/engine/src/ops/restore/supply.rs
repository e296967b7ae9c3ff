//! The pieces of an image, in order: where each of its runs belongs on the partition, and, from front to back, its bytes.

use std::ops::Range;
use std::sync::Mutex;

use formats::packed::{Compression, Unpack};
use formats::partclone::{Checksums, StreamCheck, UsedBlocks};
use image::{AlignedBuf, Error, ErrorKind, Extent, ExtentKind, Image, ImageExt, Result};

/// A piece of work: runs of the partition, whose bytes stand one behind the other.
pub(crate) struct Piece {
    /// Offsets in bytes.
    pub(crate) runs: Vec<Range<u64>>,
    /// How many bytes that are.
    pub(crate) len_bytes: usize,
    /// They themselves, where they can only be read in order.
    pub(crate) bytes: Option<AlignedBuf>,
}

/// About how much a piece holds, in bytes.
const PIECE_BYTES: u64 = 1 << 20;

/// How much a piece should hold so that threads seldom need the same segment: partclone's checksums stand behind each MiB,
/// so that a segment has whole ones of them, and is a little longer.
pub(crate) fn piece_bytes(compression: Compression) -> u64 {
    let segment = compression.packing(None).segment_bytes() as u64;
    (segment / (PIECE_BYTES + 4)).max(1) * PIECE_BYTES
}

/// The data of an image that can be read at any place, in pieces of exactly `piece_bytes` but for the last.
pub(crate) fn of_image(
    image: &dyn Image,
    piece_bytes: u64,
) -> impl Iterator<Item = Result<Piece>> + Send + '_ {
    let mut runs = image
        .extents(0..image.size())
        .filter(|run| !matches!(run, Ok(Extent { kind, .. }) if *kind != ExtentKind::Data));
    let mut left = 0..0;
    std::iter::from_fn(move || {
        let mut piece = Piece { runs: Vec::new(), len_bytes: 0, bytes: None };
        while (piece.len_bytes as u64) < piece_bytes {
            if left.is_empty() {
                match runs.next() {
                    Some(Ok(run)) => left = run.range(),
                    Some(Err(error)) => return Some(Err(error)),
                    None => break,
                }
            }
            let len = (left.end - left.start).min(piece_bytes - piece.len_bytes as u64);
            piece.runs.push(left.start..left.start + len);
            piece.len_bytes += len as usize;
            left.start += len;
        }
        (piece.len_bytes > 0).then_some(Ok(piece))
    })
}

/// An image that is read from front to back, and checked as it passes.
pub(crate) struct FromFront<'a> {
    unpack: Box<dyn Unpack + 'a>,
    check: Option<StreamCheck>,
    name: String,
    position: u64,
    /// Of a partition image: where its runs go.
    blocks: Option<Blocks>,
    spare: &'a Mutex<Vec<AlignedBuf>>,
    has_ended: bool,
}

/// All of it is counted in bytes, since a block may be longer than a piece should be.
struct Blocks {
    used: UsedBlocks,
    block_bytes: u64,
    /// Where on the partition what comes next belongs, or a place before that.
    next: u64,
    /// How much of the stored blocks is to come, and how much of that before the next checksum.
    left: u64,
    left_in_group: u64,
    group: u64,
    has_checksums: bool,
}

impl<'a> FromFront<'a> {
    /// The content of `unpack`, the image called `name`: a partition image, if `is_partition`, whose head is read now.
    ///
    /// # Errors
    ///
    /// `Damaged`, with the position.
    pub(crate) fn new(
        unpack: Box<dyn Unpack + 'a>,
        name: &str,
        is_partition: bool,
        spare: &'a Mutex<Vec<AlignedBuf>>,
    ) -> Result<Self> {
        let mut stream = FromFront {
            unpack,
            check: is_partition.then(|| StreamCheck::new(name)),
            name: name.to_string(),
            position: 0,
            blocks: None,
            spare,
            has_ended: false,
        };
        if is_partition {
            stream.read_head()?;
        }
        Ok(stream)
    }

    /// How much of the packed file has been read, in bytes.
    pub(crate) fn packed_position(&self) -> u64 {
        self.unpack.packed_position()
    }

    /// Reads header and map, byte by byte as far as it is not known how long they are.
    fn read_head(&mut self) -> Result<()> {
        let mut buf = vec![0; 1 << 16];
        while self.check.as_ref().is_some_and(|check| check.header().is_none()) {
            self.read_exact(&mut buf[..1])?;
        }
        loop {
            let Some(check) = &self.check else { return Ok(()) };
            let (Some(header), used) = (check.header(), check.used()) else { return Ok(()) };
            if let Some(used) = used {
                let block_bytes = u64::from(header.block_bytes);
                let (group, has_checksums) = match header.checksums {
                    Checksums::None => (u64::MAX, false),
                    Checksums::Crc32 { blocks, .. } => (u64::from(blocks) * block_bytes, true),
                };
                self.blocks = Some(Blocks {
                    used: used.clone(),
                    block_bytes,
                    next: 0,
                    left: used.used() * block_bytes,
                    left_in_group: group,
                    group,
                    has_checksums,
                });
                return Ok(());
            }
            let left = header.data_offset().saturating_sub(self.position).max(1);
            let len = left.min(buf.len() as u64) as usize;
            self.read_exact(&mut buf[..len])?;
        }
    }

    /// The next bytes, checked.
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let len = self.unpack.read(buf)?;
        if let Some(check) = &mut self.check {
            check.feed(&buf[..len])?;
        }
        self.position += len as u64;
        Ok(len)
    }

    fn read_exact(&mut self, buf: &mut [u8]) -> Result<()> {
        let len = self.read(buf)?;
        if len == buf.len() {
            return Ok(());
        }
        // What says where it ends is the check.
        match self.check.take().map(StreamCheck::finish) {
            Some(Err(error)) => Err(error),
            _ => {
                let sentence = format!("{} ends after {} bytes", self.name, self.position);
                let range = self.position..self.position;
                Err(Error::new(ErrorKind::Damaged, sentence).at(&self.name, Some(range)))
            }
        }
    }

    /// A piece of a partition image.
    fn next_blocks(&mut self, mut blocks: Blocks) -> Result<Option<Piece>> {
        let mut bytes = self.buf();
        let mut piece = Piece { runs: Vec::new(), len_bytes: 0, bytes: None };
        while blocks.left > 0 && (piece.len_bytes as u64) < PIECE_BYTES {
            let room = PIECE_BYTES - piece.len_bytes as u64;
            let len = blocks.left.min(blocks.left_in_group).min(room);
            let end = piece.len_bytes + len as usize;
            self.read_exact(&mut bytes[piece.len_bytes..end])?;
            blocks.place(len, &mut piece.runs);
            piece.len_bytes = end;
            blocks.left -= len;
            blocks.left_in_group -= len;
            if blocks.has_checksums && (blocks.left_in_group == 0 || blocks.left == 0) {
                self.read_exact(&mut [0; 4])?;
                blocks.left_in_group = blocks.group;
            }
        }
        self.blocks = Some(blocks);
        piece.bytes = Some(bytes);
        Ok((piece.len_bytes > 0).then_some(piece))
    }

    /// A piece of raw bytes.
    fn next_bytes(&mut self) -> Result<Option<Piece>> {
        let mut bytes = self.buf();
        let start = self.position;
        let len_bytes = self.read(&mut bytes[..PIECE_BYTES as usize])?;
        let runs = std::iter::once(start..start + len_bytes as u64).collect();
        Ok((len_bytes > 0).then_some(Piece { runs, len_bytes, bytes: Some(bytes) }))
    }

    fn buf(&self) -> AlignedBuf {
        let spare = self.spare.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
        let mut buf = spare.unwrap_or_default();
        buf.grow_to(PIECE_BYTES as usize);
        buf
    }

    /// Behind the last piece nothing may come.
    fn end(&mut self) -> Result<()> {
        self.has_ended = true;
        let mut one = [0];
        // The check refuses what comes behind its end.
        self.read(&mut one)?;
        self.check.take().map_or(Ok(()), |check| check.finish().map(|_| ()))
    }
}

impl Blocks {
    /// Where the next `len` stored bytes belong.
    fn place(&mut self, len: u64, runs: &mut Vec<Range<u64>>) {
        let mut left = len;
        while left > 0 {
            let (run, is_used) = self.used.run_at(self.next / self.block_bytes);
            let run_end = run.end * self.block_bytes;
            if !is_used {
                self.next = run_end;
                continue;
            }
            let range = self.next..run_end.min(self.next + left);
            left -= range.end - range.start;
            self.next = range.end;
            match runs.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => runs.push(range),
            }
        }
    }
}

impl Iterator for FromFront<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Result<Piece>> {
        if self.has_ended {
            return None;
        }
        let piece = match self.blocks.take() {
            Some(blocks) => self.next_blocks(blocks),
            None => self.next_bytes(),
        };
        match piece {
            Ok(None) => self.end().err().map(Err),
            Ok(Some(piece)) => Some(Ok(piece)),
            Err(error) => {
                self.has_ended = true;
                Some(Err(error))
            }
        }
    }
}
