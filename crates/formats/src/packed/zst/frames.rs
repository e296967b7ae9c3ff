//! The frames of a file by somebody else, where each is small enough to be unpacked for a part of it.

use std::ops::Range;

use image::{Error, ErrorKind, Medium, Result};
use twox_hash::XxHash64;

use crate::packed::tabled::Codec;
use crate::packed::{Segments, Table};

use super::ZstCodec;
use super::layout::{
    FOOTER_BYTES, FRAME, SEEK_TABLE, SEEKABLE, SKIPPABLE_HEAD_BYTES, is_skippable, read, word,
};

/// The longest content of a frame that is unpacked for a part of it, in bytes.
const CONTENT_BYTES_MAX: u64 = Table::SEGMENT_BYTES_MAX as u64;
/// The longest header of a frame in bytes.
const HEADER_BYTES_MAX: u64 = 18;

/// Frames one behind the other.
#[derive(Default)]
pub(super) struct Frames {
    frames: Vec<Frame>,
    len_bytes: u64,
    packed_bytes: u64,
    codec: ZstCodec,
}

#[derive(Clone, Copy)]
struct Frame {
    packed_offset: u64,
    packed_bytes: u32,
    offset: u64,
    /// Zero for a skippable frame.
    len_bytes: u32,
    /// The lower half of the content's xxHash64.
    checksum: Option<u32>,
}

impl Frames {
    /// The frames of `medium`, by its seek table or by looking at each; `None` if there is one that is too long, or does
    /// not say how long it is.
    pub(super) fn find(medium: &dyn Medium) -> Result<Option<Self>> {
        let len = medium.len()?;
        match Self::by_seek_table(medium, len)? {
            Some(frames) => Ok(Some(frames)),
            None => Self::by_walk(medium, len),
        }
    }

    fn by_seek_table(medium: &dyn Medium, len: u64) -> Result<Option<Self>> {
        if len < (SKIPPABLE_HEAD_BYTES + FOOTER_BYTES) as u64 {
            return Ok(None);
        }
        let footer: [u8; FOOTER_BYTES] = read(medium, len - FOOTER_BYTES as u64)?;
        // Of the byte in the middle the highest bit says that there are checksums; five must be zero.
        if word(&footer, 5) != SEEKABLE || footer[4] & 0x7c != 0 {
            return Ok(None);
        }
        let entry_bytes = if footer[4] & 0x80 != 0 { 12 } else { 8 };
        let table_bytes = u64::from(word(&footer, 0)) * entry_bytes + FOOTER_BYTES as u64;
        let Some(start) = len.checked_sub(SKIPPABLE_HEAD_BYTES as u64 + table_bytes) else {
            return Ok(None);
        };
        let head: [u8; SKIPPABLE_HEAD_BYTES] = read(medium, start)?;
        if word(&head, 0) != SEEK_TABLE || u64::from(word(&head, 4)) != table_bytes {
            return Ok(None);
        }
        // It is no longer than the file.
        let mut entries = vec![0; table_bytes as usize - FOOTER_BYTES];
        medium.read_at(&mut entries, start + SKIPPABLE_HEAD_BYTES as u64)?;
        let mut frames = Frames::default();
        for entry in entries.chunks_exact(entry_bytes as usize) {
            let checksum = (entry_bytes == 12).then(|| word(entry, 8));
            if !frames.add(word(entry, 0).into(), word(entry, 4).into(), checksum) {
                return Ok(None);
            }
        }
        Ok((frames.packed_bytes == start).then_some(frames))
    }

    fn by_walk(medium: &dyn Medium, len: u64) -> Result<Option<Self>> {
        let mut frames = Frames::default();
        while frames.packed_bytes < len {
            let start = frames.packed_bytes;
            let cut = || {
                let sentence =
                    format!("{} is damaged: its frame at {start} is cut off", medium.name());
                Error::new(ErrorKind::Damaged, sentence).at(medium.name(), Some(start..len))
            };
            let mut header = vec![0; (len - start).min(HEADER_BYTES_MAX) as usize];
            medium.read_at(&mut header, start)?;
            if header.len() < SKIPPABLE_HEAD_BYTES {
                return Err(cut());
            }
            let (packed_bytes, len_bytes) = match word(&header, 0) {
                FRAME => match zstd_safe::get_frame_content_size(&header) {
                    Ok(Some(len_bytes)) if len_bytes <= CONTENT_BYTES_MAX => {
                        let Some(end) = end_of_frame(medium, &header, start, len)? else {
                            return Err(cut());
                        };
                        (end - start, len_bytes)
                    }
                    _ => return Ok(None),
                },
                magic if is_skippable(magic) => {
                    (SKIPPABLE_HEAD_BYTES as u64 + u64::from(word(&header, 4)), 0)
                }
                _ => {
                    let name = medium.name();
                    let sentence =
                        format!("{name} is damaged: what stands at {start} is no frame of zstd");
                    let error = Error::new(ErrorKind::Damaged, sentence);
                    return Err(error.at(name, Some(start..start + 4)));
                }
            };
            if packed_bytes > len - start {
                return Err(cut());
            }
            if !frames.add(packed_bytes, len_bytes, None) {
                return Ok(None);
            }
        }
        Ok(Some(frames))
    }

    /// Whether the frame is small enough to be added.
    fn add(&mut self, packed_bytes: u64, len_bytes: u64, checksum: Option<u32>) -> bool {
        let is_small = len_bytes <= CONTENT_BYTES_MAX
            && (len_bytes == 0 || packed_bytes <= u64::from(Table::PACKED_BYTES_MAX));
        let Ok(packed) = u32::try_from(packed_bytes) else { return false };
        if is_small {
            self.frames.push(Frame {
                packed_offset: self.packed_bytes,
                packed_bytes: packed,
                offset: self.len_bytes,
                len_bytes: len_bytes as u32,
                checksum,
            });
            self.packed_bytes += packed_bytes;
            self.len_bytes += len_bytes;
        }
        is_small
    }
}

/// Where the frame ends that begins at `start` with `header`; `None` if that is behind the end of the file.
fn end_of_frame(medium: &dyn Medium, header: &[u8], start: u64, len: u64) -> Result<Option<u64>> {
    let descriptor = header[4];
    let is_single_segment = descriptor & 0x20 != 0;
    let window_bytes = u64::from(!is_single_segment);
    let dictionary_bytes = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size_bytes = match descriptor >> 6 {
        0 => u64::from(is_single_segment),
        1 => 2,
        2 => 4,
        _ => 8,
    };
    let mut at = start + 5 + window_bytes + dictionary_bytes + size_bytes;
    loop {
        if at + 3 > len {
            return Ok(None);
        }
        let [low, middle, high] = read(medium, at)?;
        let block = u32::from_le_bytes([low, middle, high, 0]);
        // A block of one repeated byte has the length of its content there.
        let is_repeated = (block >> 1) & 3 == 1;
        at += 3 + if is_repeated { 1 } else { u64::from(block >> 3) };
        if block & 1 == 1 {
            let end = at + if descriptor & 4 != 0 { 4 } else { 0 };
            return Ok((end <= len).then_some(end));
        }
    }
}

impl Segments for Frames {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn find(&self, offset: u64) -> (usize, Range<u64>) {
        let at = self.frames.partition_point(|frame| frame.offset <= offset) - 1;
        (at, offset_range(&self.frames[at]))
    }

    fn unpack(&self, file: &dyn Medium, at: usize, out: &mut Vec<u8>) -> Result<()> {
        out.resize(self.frames[at].len_bytes as usize, 0);
        self.unpack_into(file, at, out)
    }

    fn unpack_into(&self, file: &dyn Medium, at: usize, out: &mut [u8]) -> Result<()> {
        let frame = self.frames[at];
        let mut packed = vec![0; frame.packed_bytes as usize];
        file.read_at(&mut packed, frame.packed_offset)?;
        let unpacked = self.codec.unpack(&packed, out).and_then(|()| match frame.checksum {
            Some(checksum) if XxHash64::oneshot(0, out) as u32 != checksum => {
                Err("its content has another checksum than the seek table says".to_string())
            }
            _ => Ok(()),
        });
        unpacked.map_err(|why| {
            let start = frame.packed_offset;
            let sentence = format!("the frame at {start} of {} is damaged: {why}", file.name());
            let range = start..start + u64::from(frame.packed_bytes);
            Error::new(ErrorKind::Damaged, sentence).at(file.name(), Some(range))
        })
    }

    /// Unpacks the frames without content that are not skippable: no reading touches those.
    fn check_rest(&self, file: &dyn Medium) -> Result<()> {
        for (at, frame) in self.frames.iter().enumerate() {
            let is_short = u64::from(frame.packed_bytes) <= CONTENT_BYTES_MAX;
            if frame.len_bytes == 0 && is_short {
                self.unpack_into(file, at, &mut [])?;
            }
        }
        Ok(())
    }
}

fn offset_range(frame: &Frame) -> Range<u64> {
    frame.offset..frame.offset + u64::from(frame.len_bytes)
}
