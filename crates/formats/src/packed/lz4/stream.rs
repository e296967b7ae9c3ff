//! Any file of LZ4, from front to back, block by block.

use std::ops::Range;

use image::{Error, ErrorKind, Medium, Result};
use lz4_flex::block::decompress_into_with_dict;
use twox_hash::XxHash32;

use super::frame::{DESCRIPTOR_BYTES_MAX, Descriptor, FRAME, LEGACY, PLAIN, is_skippable};
use crate::packed::{Table, Unpack};

/// How far back a block may refer to those before it, in bytes.
const HISTORY_BYTES: usize = 64 << 10;
/// The longest content of a block of an old frame in bytes.
const LEGACY_BLOCK_BYTES: usize = 8 << 20;

/// One block after the other, of one frame after the other; skippable frames are skipped.
pub(super) struct Stream<'a> {
    medium: &'a dyn Medium,
    len_bytes: u64,
    position: u64,
    frame: Option<Frame>,
    /// How many frames have begun, skippable ones not counted.
    frames: u64,
    /// The last block: its length, itself and its checksum; and its content, of which `read` bytes were read.
    packed: Vec<u8>,
    content: Vec<u8>,
    read: usize,
    /// What blocks may refer to.
    history: Vec<u8>,
    /// What the first frame looks like one of ours by.
    suspicion: Suspicion,
    failure: Option<(String, Range<u64>)>,
}

/// A frame that has begun.
struct Frame {
    start: u64,
    kind: Kind,
    content_bytes: u64,
}

enum Kind {
    Usual(Descriptor, XxHash32),
    Legacy,
}

/// Whether a file was one of ours before it lost its table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Suspicion {
    /// It is not.
    None,
    /// Its head is that of ours.
    Head,
    /// And its last block was shorter than the longest.
    Short,
    /// And yet another followed.
    Certain,
}

type Failure = (String, Range<u64>);

/// Either what was wrong with the file, or that it could not be read.
enum Trouble {
    Damage(Failure),
    Medium(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Medium(error)
    }
}

/// What is wrong, and where.
fn damage<T>(why: impl Into<String>, range: Range<u64>) -> Result<T, Trouble> {
    Err(Trouble::Damage((why.into(), range)))
}

impl<'a> Stream<'a> {
    pub(super) fn new(medium: &'a dyn Medium) -> Result<Self> {
        Ok(Stream {
            medium,
            len_bytes: medium.len()?,
            position: 0,
            frame: None,
            frames: 0,
            packed: Vec::new(),
            content: Vec::new(),
            read: 0,
            history: Vec::new(),
            suspicion: Suspicion::None,
            failure: None,
        })
    }

    /// Goes on to the next block; whether there is one. The one before is forgotten, whatever of it was read.
    pub(super) fn next_block(&mut self) -> Result<bool> {
        self.content.clear();
        self.read = 0;
        if self.failure.is_none() {
            match self.try_next_block() {
                Ok(has_block) => return Ok(has_block),
                Err(Trouble::Medium(error)) => return Err(error),
                Err(Trouble::Damage(failure)) => self.failure = Some(failure),
            }
            self.content.clear();
        }
        let (why, range) = self.failure.clone().unwrap_or_default();
        let name = self.medium.name();
        let sentence = format!("{name} is damaged: {why}");
        Err(Error::new(ErrorKind::Damaged, sentence).at(name, Some(range)))
    }

    /// The last block as it stands in the file: length, block, checksum.
    pub(super) fn packed(&self) -> &[u8] {
        &self.packed
    }

    /// Its content.
    pub(super) fn content(&self) -> &[u8] {
        &self.content
    }

    /// Whether the last block belongs to the first frame, and is understood without any other.
    pub(super) fn stands_alone(&self) -> bool {
        let is_usual = |frame: &Frame| matches!(&frame.kind, Kind::Usual(descriptor, _) if descriptor.is_independent);
        self.frames == 1 && self.frame.as_ref().is_some_and(is_usual)
    }

    fn try_next_block(&mut self) -> Result<bool, Trouble> {
        loop {
            let Some(mut frame) = self.frame.take() else {
                if self.position == self.len_bytes {
                    return self.end();
                }
                self.begin_frame()?;
                continue;
            };
            let has_block = match &mut frame.kind {
                Kind::Legacy => self.legacy_block(frame.start)?,
                Kind::Usual(descriptor, _) => self.block(frame.start, *descriptor)?,
            };
            frame.content_bytes += self.content.len() as u64;
            if has_block {
                if let Kind::Usual(_, hasher) = &mut frame.kind {
                    hasher_update(hasher, &self.content);
                }
                self.frame = Some(frame);
                return Ok(true);
            }
            self.end_frame(frame)?;
        }
    }

    fn begin_frame(&mut self) -> Result<(), Trouble> {
        let start = self.position;
        let magic = self.number(start)?;
        self.history.clear();
        let kind = match magic {
            FRAME => {
                let mut bytes = [0; DESCRIPTOR_BYTES_MAX];
                self.take(&mut bytes[..1], start)?;
                let len = Descriptor::len_bytes_of(bytes[0]);
                self.take(&mut bytes[1..len], start)?;
                let descriptor = match Descriptor::parse(&bytes[..len]) {
                    Ok(descriptor) => descriptor,
                    Err(why) => {
                        let why = format!("the frame at {start} cannot be unpacked: {why}");
                        return damage(why, start..self.position);
                    }
                };
                if start == 0 && is_like_ours(&descriptor) {
                    self.suspicion = Suspicion::Head;
                }
                Kind::Usual(descriptor, XxHash32::with_seed(0))
            }
            LEGACY => Kind::Legacy,
            magic if is_skippable(magic) => {
                let len = self.number(start)?;
                if u64::from(len) > self.len_bytes - self.position {
                    return damage("its last frame is cut off", start..self.len_bytes);
                }
                let mut mark = [0; 8];
                if len as usize >= mark.len() {
                    self.medium.read_at(&mut mark, self.position)?;
                }
                self.position += u64::from(len);
                if mark == Table::MARK {
                    // Its table would have been found from the end.
                    let why = "the end of the table of its segments is not what it should be";
                    return damage(why, start..self.len_bytes);
                }
                return Ok(());
            }
            _ => {
                let why = format!("what stands at {start} is no frame of lz4");
                return damage(why, start..self.position);
            }
        };
        self.frames += 1;
        self.frame = Some(Frame { start, kind, content_bytes: 0 });
        Ok(())
    }

    /// Reads the next block of a frame; whether there is one.
    fn block(&mut self, frame: u64, descriptor: Descriptor) -> Result<bool, Trouble> {
        let start = self.position;
        let length = self.number(frame)?;
        if length == 0 {
            return Ok(false);
        }
        let len = (length & !PLAIN) as usize;
        if len > descriptor.block_bytes_max {
            let why = format!("the block at {start} claims to be longer than blocks can be");
            return damage(why, start..self.position);
        }
        let checksum_bytes = if descriptor.has_block_checksums { 4 } else { 0 };
        self.take_block(length, len + checksum_bytes, frame)?;
        let end = self.position;
        let (block, checksum) = self.packed[4..].split_at(len);
        let is_right = |checksum: &[u8; 4]| XxHash32::oneshot(0, block).to_le_bytes() == *checksum;
        if !checksum.first_chunk::<4>().is_none_or(is_right) {
            return damage(format!("the checksum of the block at {start} is wrong"), start..end);
        }
        if length & PLAIN != 0 {
            self.content.extend_from_slice(block);
        } else {
            self.content.resize(descriptor.block_bytes_max, 0);
            match decompress_into_with_dict(block, &mut self.content, &self.history) {
                Ok(len) => self.content.truncate(len),
                Err(error) => {
                    let why = format!("the block at {start} cannot be unpacked: {error}");
                    return damage(why, start..end);
                }
            }
        }
        if !descriptor.is_independent {
            let content = &self.content[self.content.len().saturating_sub(HISTORY_BYTES)..];
            let excess = (self.history.len() + content.len()).saturating_sub(HISTORY_BYTES);
            self.history.drain(..excess);
            self.history.extend_from_slice(content);
        }
        self.suspicion = match self.suspicion {
            Suspicion::Head if self.content.len() < descriptor.block_bytes_max => Suspicion::Short,
            Suspicion::Head => Suspicion::None,
            Suspicion::Short => Suspicion::Certain,
            other => other,
        };
        Ok(true)
    }

    /// Reads the next block of an old frame, which ends where the file ends or another frame begins.
    fn legacy_block(&mut self, frame: u64) -> Result<bool, Trouble> {
        if self.position == self.len_bytes {
            return Ok(false);
        }
        let start = self.position;
        let length = self.number(frame)?;
        if length == FRAME || length == LEGACY || is_skippable(length) {
            self.position = start;
            return Ok(false);
        }
        if length as usize > lz4_flex::block::get_maximum_output_size(LEGACY_BLOCK_BYTES) {
            let why = format!("the block at {start} claims to be longer than blocks can be");
            return damage(why, start..self.position);
        }
        self.take_block(length, length as usize, frame)?;
        self.content.resize(LEGACY_BLOCK_BYTES, 0);
        match lz4_flex::block::decompress_into(&self.packed[4..], &mut self.content) {
            Ok(len) => self.content.truncate(len),
            Err(error) => {
                let why = format!("the block at {start} cannot be unpacked: {error}");
                return damage(why, start..self.position);
            }
        }
        Ok(true)
    }

    fn end_frame(&mut self, frame: Frame) -> Result<(), Trouble> {
        let Kind::Usual(descriptor, hasher) = frame.kind else { return Ok(()) };
        let start = frame.start;
        if descriptor.has_content_checksum && self.number(start)? != hasher.finish_32() {
            let why = format!("the checksum of the frame at {start} is wrong");
            return damage(why, start..self.position);
        }
        match descriptor.content_bytes {
            Some(expected) if expected != frame.content_bytes => {
                let found = frame.content_bytes;
                let why = format!("the frame at {start} has {found} bytes instead of {expected}");
                damage(why, start..self.position)
            }
            _ => Ok(()),
        }
    }

    fn end(&self) -> Result<bool, Trouble> {
        if self.suspicion == Suspicion::Certain {
            let why = "the table of its segments, which should be its end, is cut off";
            return damage(why, self.len_bytes..self.len_bytes);
        }
        Ok(false)
    }

    /// Reads `len` bytes behind the `length` that was read.
    fn take_block(&mut self, length: u32, len: usize, frame: u64) -> Result<(), Trouble> {
        let mut packed = std::mem::take(&mut self.packed);
        packed.resize(4 + len, 0);
        packed[..4].copy_from_slice(&length.to_le_bytes());
        let taken = self.take(&mut packed[4..], frame);
        self.packed = packed;
        taken
    }

    fn number(&mut self, frame: u64) -> Result<u32, Trouble> {
        let mut bytes = [0; 4];
        self.take(&mut bytes, frame)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Reads on, within the frame that begins at `frame`.
    fn take(&mut self, buf: &mut [u8], frame: u64) -> Result<(), Trouble> {
        if buf.len() as u64 > self.len_bytes - self.position {
            let why = format!("the frame that begins at {frame} is cut off");
            return damage(why, frame..self.len_bytes);
        }
        self.medium.read_at(buf, self.position)?;
        self.position += buf.len() as u64;
        Ok(())
    }
}

/// Whether a frame has the header of ours.
fn is_like_ours(descriptor: &Descriptor) -> bool {
    Descriptor::parse(&super::layout::HEAD[4..]) == Ok(*descriptor)
}

fn hasher_update(hasher: &mut XxHash32, bytes: &[u8]) {
    std::hash::Hasher::write(hasher, bytes);
}

impl Unpack for Stream<'_> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            if self.read == self.content.len() && !self.next_block()? {
                break;
            }
            let len = (self.content.len() - self.read).min(buf.len() - filled);
            buf[filled..filled + len].copy_from_slice(&self.content[self.read..self.read + len]);
            self.read += len;
            filled += len;
        }
        Ok(filled)
    }

    fn packed_position(&self) -> u64 {
        self.position
    }
}
