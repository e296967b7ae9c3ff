//! Places to start from in a file by somebody else, and what is kept of them.
//!
//! What is kept (all little endian): the mark `BPGZKEPT` and u32 version 1; the 32 KiB of content that stand before each
//! place, deflated; a record of 56 bytes for each place; and an end of 44 bytes: u64 length of the file, u64 length of
//! its content, u64 where the records begin, u64 how many there are, a CRC-32 of records and end, and the mark again.

use std::ops::Range;

use image::{Error, ErrorKind, Medium, Phase, Result, Task};
use libdeflater::{Crc, Decompressor};

use super::deflate::Deflater;
use super::inflate::State;
use super::layout::LAST_BLOCK;
use super::members::{Members, Point};
use crate::packed::{Segments, Unpack};

/// How much content lies between two places, about, in bytes.
const SPAN_BYTES: u64 = 4 << 20;
/// The longest content between two places that is believed: as much memory is taken for it.
const SPAN_BYTES_MAX: u64 = 64 << 20;
const MARK: [u8; 8] = *b"BPGZKEPT";
const HEAD: [u8; 12] = *b"BPGZKEPT\x01\0\0\0";
const RECORD_BYTES: usize = 56;
const END_BYTES: usize = 44;
const WINDOW_BYTES_MAX: u32 = 32 << 10;
/// A window that cannot be packed is a little longer than it is.
const PACKED_WINDOW_BYTES_MAX: u32 = 33 << 10;

/// A place, and what lies behind it up to the next.
struct Span {
    point: Point,
    /// Where its content begins.
    offset: u64,
    /// CRC-32 of its content.
    crc32: u32,
    /// CRC-32 of the bytes of the file that it lies in.
    packed_crc32: u32,
    window: Window,
}

/// What stands before a place, and where it is kept.
#[derive(Clone, Copy, Default)]
struct Window {
    at: u64,
    packed_bytes: u32,
    len_bytes: u32,
    packed_crc32: u32,
}

/// The spans of a file.
pub(super) struct Points {
    kept: Box<dyn Medium>,
    spans: Vec<Span>,
    file_bytes: u64,
    len_bytes: u64,
}

/// Reads all of `file` and writes to `kept` what [`Points::open`] wants.
pub(super) fn keep(file: &dyn Medium, kept: &dyn Medium, task: &Task) -> Result<()> {
    let file_bytes = file.len()?;
    task.begin(Phase::Map, file_bytes);
    kept.set_len(0)?;
    kept.write_at(&HEAD, 0)?;
    let mut members = Members::new(file)?;
    let mut deflater = Deflater::new();
    let mut spans = vec![Span::new(Point::START, 0, Window::default())];
    let (mut end, mut offset, mut done) = (HEAD.len() as u64, 0, 0);
    let mut crc = Crc::new();
    loop {
        task.checkpoint()?;
        let len = {
            let ready = members.ready()?;
            crc.update(ready);
            ready.len()
        };
        members.take(len);
        offset += len as u64;
        task.advance(members.packed_position() - done);
        done = members.packed_position();
        let point = members.point();
        let Some(span) = spans.last_mut() else { break };
        span.crc32 = crc.sum();
        if len == 0 {
            break;
        }
        if offset - span.offset >= SPAN_BYTES && point.state != Some(State::Done) {
            span.packed_crc32 = packed_crc32(file, span.point.bit, point.bit)?;
            let past = if point.state.is_some() { members.past() } else { &[] };
            let mut packed = Vec::new();
            deflater.append(past, &mut packed);
            packed.extend(LAST_BLOCK);
            kept.write_at(&packed, end)?;
            let window = Window {
                at: end,
                packed_bytes: packed.len() as u32,
                len_bytes: past.len() as u32,
                packed_crc32: libdeflater::crc32(&packed),
            };
            end += packed.len() as u64;
            spans.push(Span::new(point, offset, window));
            crc = Crc::new();
        }
    }
    // A place at the very end is none: the span before it goes on to the end of the file.
    if spans.len() > 1 {
        spans.pop_if(|span| span.offset == offset);
    }
    if let Some(span) = spans.last_mut() {
        span.packed_crc32 = packed_crc32(file, span.point.bit, file_bytes * 8)?;
    }
    let mut tail: Vec<u8> = spans.iter().flat_map(Span::encode).collect();
    for number in [file_bytes, offset, end, spans.len() as u64] {
        tail.extend(number.to_le_bytes());
    }
    tail.extend(libdeflater::crc32(&tail).to_le_bytes());
    tail.extend(MARK);
    kept.write_at(&tail, end)?;
    kept.sync()
}

/// The checksum of the bytes that hold the bits from `bit` to `end`.
fn packed_crc32(file: &dyn Medium, bit: u64, end: u64) -> Result<u32> {
    let (mut at, end) = (bit / 8, end.div_ceil(8));
    let mut crc = Crc::new();
    let mut piece = vec![0; 256 << 10];
    while at < end {
        let part = (end - at).min(piece.len() as u64) as usize;
        file.read_at(&mut piece[..part], at)?;
        crc.update(&piece[..part]);
        at += part as u64;
    }
    Ok(crc.sum())
}

impl Span {
    fn new(point: Point, offset: u64, window: Window) -> Self {
        Span { point, offset, crc32: 0, packed_crc32: 0, window }
    }

    fn encode(&self) -> [u8; RECORD_BYTES] {
        let (state, left) = match self.point.state {
            None => (0, 0),
            Some(State::Stored(left)) => (2, left),
            Some(State::Coded) => (3, 0),
            Some(State::Between | State::Done) => (1, 0),
        };
        let mut bytes = [0; RECORD_BYTES];
        let numbers = [self.point.bit, self.point.block_bit, self.offset, self.window.at];
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let Window { packed_bytes, len_bytes, packed_crc32, .. } = self.window;
        let words = [packed_bytes, len_bytes, packed_crc32, self.crc32, self.packed_crc32];
        for (place, word) in bytes[32..52].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes[52..54].copy_from_slice(&left.to_le_bytes());
        (bytes[54], bytes[55]) = (state, u8::from(self.point.is_last));
        bytes
    }

    fn decode(bytes: &[u8; RECORD_BYTES]) -> Option<Self> {
        let left = u16::from_le_bytes([bytes[52], bytes[53]]);
        let state = match bytes[54] {
            0 => None,
            1 => Some(State::Between),
            2 => Some(State::Stored(left)),
            3 => Some(State::Coded),
            _ => return None,
        };
        let is_last = bytes[55] == 1;
        Some(Span {
            point: Point { bit: number(bytes, 0), block_bit: number(bytes, 8), state, is_last },
            offset: number(bytes, 16),
            crc32: word(bytes, 44),
            packed_crc32: word(bytes, 48),
            window: Window {
                at: number(bytes, 24),
                packed_bytes: word(bytes, 32),
                len_bytes: word(bytes, 36),
                packed_crc32: word(bytes, 40),
            },
        })
    }
}

impl Points {
    /// What [`keep`] has kept.
    pub(super) fn open(kept: Box<dyn Medium>) -> Result<Self> {
        let len = kept.len()?;
        let broken = |why: &str| damaged_kept(&*kept, why);
        let Some(end_at) = len.checked_sub(END_BYTES as u64).filter(|at| *at >= HEAD.len() as u64)
        else {
            return Err(broken("it is too short"));
        };
        let (mut head, mut end) = ([0; HEAD.len()], [0; END_BYTES]);
        kept.read_at(&mut head, 0)?;
        kept.read_at(&mut end, end_at)?;
        if head != HEAD || end[36..] != MARK {
            return Err(broken("it is not whole, or of another version"));
        }
        let [file_bytes, len_bytes, start, count] = [0, 8, 16, 24].map(|at| number(&end, at));
        let records_bytes = end_at.checked_sub(start);
        if start < HEAD.len() as u64 || records_bytes != count.checked_mul(RECORD_BYTES as u64) {
            return Err(broken("its records are not where it says"));
        }
        let mut tail = vec![0; (len - start) as usize];
        kept.read_at(&mut tail, start)?;
        let crc_at = tail.len() - 12;
        if libdeflater::crc32(&tail[..crc_at]) != word(&tail, crc_at) {
            return Err(broken("its checksum is wrong"));
        }
        let (records, _) = tail[..crc_at - 32].as_chunks();
        let spans: Option<Vec<Span>> = records.iter().map(Span::decode).collect();
        let Some(spans) = spans.filter(|spans| are_possible(spans, file_bytes, len_bytes, start))
        else {
            return Err(broken("it has a record that cannot be"));
        };
        Ok(Points { kept, spans, file_bytes, len_bytes })
    }

    /// Where span `at` ends in the content, and in the file, in bits.
    fn end(&self, at: usize) -> (u64, u64) {
        let next = self.spans.get(at + 1).map(|span| (span.offset, span.point.bit));
        next.unwrap_or((self.len_bytes, self.file_bytes * 8))
    }

    /// The content before span `at`, as far as it may be looked back at.
    fn window(&self, at: usize) -> Result<Vec<u8>> {
        let window = self.spans[at].window;
        let mut packed = vec![0; window.packed_bytes as usize];
        let mut past = vec![0; window.len_bytes as usize];
        self.kept.read_at(&mut packed, window.at)?;
        let is_right = libdeflater::crc32(&packed) == window.packed_crc32
            && (past.is_empty()
                || Decompressor::new().deflate_decompress(&packed, &mut past) == Ok(past.len()));
        if is_right { Ok(past) } else { Err(damaged_kept(&*self.kept, "it has changed")) }
    }

    fn check_packed(&self, file: &dyn Medium, at: usize) -> Result<()> {
        let span = &self.spans[at];
        let end = self.end(at).1;
        if end.div_ceil(8) <= file.len()?
            && packed_crc32(file, span.point.bit, end)? == span.packed_crc32
        {
            return Ok(());
        }
        Err(self.damaged(file, at, "its bytes have another checksum than they had"))
    }

    fn damaged(&self, file: &dyn Medium, at: usize, why: &str) -> Error {
        let range = self.spans[at].point.bit / 8..self.end(at).1.div_ceil(8);
        let sentence =
            format!("{} is damaged between {} and {}: {why}", file.name(), range.start, range.end);
        Error::new(ErrorKind::Damaged, sentence).at(file.name(), Some(range))
    }
}

/// Whether the numbers of `spans` fit each other, a file, its content, and what is kept before `kept_end`.
fn are_possible(spans: &[Span], file_bytes: u64, len_bytes: u64, kept_end: u64) -> bool {
    let Some(file_bits) = file_bytes.checked_mul(8) else { return false };
    let Some(first) = spans.first() else { return false };
    let ends = spans[1..].iter().map(|span| (span.offset, span.point.bit));
    let ends = ends.chain([(len_bytes, file_bits)]);
    let follow = spans.iter().zip(ends).all(|(span, (offset, bit))| {
        let len = offset.checked_sub(span.offset);
        let is_short = len.is_some_and(|len| len <= SPAN_BYTES_MAX && (len > 0 || len_bytes == 0));
        is_short && span.point.block_bit <= span.point.bit && span.point.bit <= bit
    });
    let windows = spans.iter().all(|Span { window, .. }| {
        window.packed_bytes <= PACKED_WINDOW_BYTES_MAX
            && window.len_bytes <= WINDOW_BYTES_MAX
            && window.at <= kept_end
            && window.at + u64::from(window.packed_bytes) <= kept_end
    });
    first.point == Point::START && first.offset == 0 && follow && windows
}

impl Segments for Points {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn find(&self, offset: u64) -> (usize, Range<u64>) {
        let at = self.spans.partition_point(|span| span.offset <= offset) - 1;
        (at, self.spans[at].offset..self.end(at).0)
    }

    fn unpack(&self, file: &dyn Medium, at: usize, out: &mut Vec<u8>) -> Result<()> {
        out.resize((self.end(at).0 - self.spans[at].offset) as usize, 0);
        self.unpack_into(file, at, out)
    }

    fn unpack_into(&self, file: &dyn Medium, at: usize, out: &mut [u8]) -> Result<()> {
        self.check_packed(file, at)?;
        let past = self.window(at)?;
        let mut members = Members::from(file, self.spans[at].point, &past)?;
        if members.read(out)? < out.len() || libdeflater::crc32(out) != self.spans[at].crc32 {
            return Err(self.damaged(file, at, "its content has another checksum than it had"));
        }
        Ok(())
    }

    /// Reading all of the content checks each byte of the file up to `file_bytes`, if there is any content.
    fn check_rest(&self, file: &dyn Medium) -> Result<()> {
        crate::packed::tabled::check_end(file, self.file_bytes)?;
        if self.len_bytes == 0 { self.check_packed(file, 0) } else { Ok(()) }
    }
}

fn damaged_kept(kept: &dyn Medium, why: &str) -> Error {
    let name = kept.name();
    let sentence = format!("{name} is no index of a gzip file: {why}; it can be made anew");
    Error::new(ErrorKind::Damaged, sentence).at(name, None)
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from(word(bytes, at)) | u64::from(word(bytes, at + 4)) << 32
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
