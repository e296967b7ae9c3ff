//! Reads frames: nothing of what comes is believed.

use std::io::{self, Read};
use std::ops::Range;

use image::{Error, ErrorKind, Result};

use super::super::hello::HELLO_BYTES;
use super::{
    DATA_MAX_BYTES, Data, ERROR_KINDS, Encoding, Frame, HEAD_BYTES, PARTS_MAX, PAYLOAD_MAX_BYTES,
    Role, SENTENCE_MAX_BYTES, Sums, breach, kind, name_of,
};

/// Reads what the other end sends.
pub(in super::super) struct FrameReader<R> {
    input: io::BufReader<R>,
}

/// Between the pipe and the payloads, in bytes; longer payloads go past it.
const BUFFER_BYTES: usize = 64 << 10;

impl<R: Read> FrameReader<R> {
    pub(in super::super) fn new(input: R) -> Self {
        FrameReader { input: io::BufReader::with_capacity(BUFFER_BYTES, input) }
    }

    pub(in super::super) fn hello(&mut self) -> Result<[u8; HELLO_BYTES]> {
        let mut bytes = [0; HELLO_BYTES];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    pub(in super::super) fn next(&mut self) -> Result<Frame> {
        let mut head = [0; HEAD_BYTES];
        self.fill(&mut head)?;
        let len = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if len > PAYLOAD_MAX_BYTES {
            return Err(breach(format!(
                "announced a frame of {len} bytes; {PAYLOAD_MAX_BYTES} are allowed"
            )));
        }
        let mut payload = vec![0; len];
        self.fill(&mut payload)?;
        Frame::read(head[0], payload)
    }

    fn fill(&mut self, buf: &mut [u8]) -> Result<()> {
        self.input.read_exact(buf).map_err(|cause| match cause.kind() {
            io::ErrorKind::UnexpectedEof => Error::new(
                ErrorKind::Damaged,
                "the other end closed the connection before the sync was done",
            ),
            _ => Error::io("cannot read what the other end sends", cause),
        })
    }
}

impl Frame {
    fn read(kind: u8, payload: Vec<u8>) -> Result<Self> {
        if kind == kind::DATA {
            return Data::read(payload).map(Frame::Data);
        }
        let mut fields = Fields::of(&payload, name_of(kind).unwrap_or("unknown"));
        let frame = match kind {
            kind::OPEN => {
                let role = match fields.u8()? {
                    0 => Role::Source,
                    1 => Role::Target,
                    other => return Err(breach(format!("opened in the unknown role {other}"))),
                };
                let size_bytes = fields.u64()?;
                let has_root = fields.bool()?;
                let root = fields.take()?;
                Frame::Open { role, size_bytes, root: has_root.then_some(root) }
            }
            kind::ALIVE => Frame::Alive,
            kind::ERROR => {
                let number = usize::from(fields.u8()?);
                let kind = ERROR_KINDS.get(number).copied().unwrap_or(ErrorKind::Io);
                Frame::Error { kind, sentence: harmless(fields.rest()) }
            }
            kind::SCOPE => Frame::Scope(fields.rest().to_vec()),
            kind::START => Frame::Start { is_scoped: fields.bool()? },
            kind::ASK_BLOCKS => Frame::AskBlocks {
                id: fields.u32()?,
                first: fields.u64()?,
                count: u16::from_le_bytes(fields.take()?),
            },
            kind::ASK_PAGES => {
                let id = fields.u32()?;
                Frame::AskPages { id, blocks: fields.all(u64::from_le_bytes)? }
            }
            kind::ZERO => {
                let (start, len_bytes) = (fields.u64()?, fields.u64()?);
                match start.checked_add(len_bytes) {
                    Some(end) if len_bytes > 0 => Frame::Zero(start..end),
                    _ => {
                        let did = format!("asked for {len_bytes} zeroes at {start}");
                        return Err(breach(did));
                    }
                }
            }
            kind::SETTLED => Frame::Settled { below: fields.u64()? },
            kind::FINISH => Frame::Finish {
                root: fields.take()?,
                sums: Sums {
                    data_bytes: fields.u64()?,
                    packed_bytes: fields.u64()?,
                    zeroed_bytes: fields.u64()?,
                    compared_bytes: fields.u64()?,
                },
            },
            kind::DIGESTS => {
                let first = fields.u64()?;
                Frame::Digests { first, digests: fields.all(|digest| digest)? }
            }
            kind::ZEROES => Frame::Zeroes { first: fields.u64()?, count: fields.u64()? },
            kind::BLOCKS => {
                let id = fields.u32()?;
                Frame::Blocks { id, digests: fields.all(|digest| digest)? }
            }
            kind::PAGES => {
                let id = fields.u32()?;
                Frame::Pages { id, digests: fields.all(|digest| digest)? }
            }
            kind::DONE => Frame::Done { root: fields.take()? },
            other => return Err(breach(format!("sent a frame of the unknown kind {other:#04x}"))),
        };
        fields.end()?;
        Ok(frame)
    }
}

impl Data {
    fn read(payload: Vec<u8>) -> Result<Self> {
        let mut fields = Fields::of(&payload, "DATA");
        let encoding = match fields.u8()? {
            0 => Encoding::Plain,
            1 => Encoding::Zstd,
            other => return Err(breach(format!("sent data in the unknown encoding {other}"))),
        };
        let count = usize::from(u16::from_le_bytes(fields.take()?));
        if count == 0 || count > PARTS_MAX {
            return Err(breach(format!(
                "sent data in {count} parts; 1 to {PARTS_MAX} are allowed"
            )));
        }
        let mut parts: Vec<Range<u64>> = Vec::with_capacity(count);
        let mut plain = 0u64;
        for _ in 0..count {
            let start = fields.u64()?;
            let len_bytes = u64::from(fields.u32()?);
            plain += len_bytes;
            let is_behind = parts.last().is_none_or(|before| before.end <= start);
            match start.checked_add(len_bytes) {
                Some(end) if len_bytes > 0 && is_behind => parts.push(start..end),
                _ => return Err(breach("sent data whose parts are empty, or out of order")),
            }
        }
        if plain > DATA_MAX_BYTES as u64 {
            return Err(breach(format!(
                "sent {plain} bytes of data at once; {DATA_MAX_BYTES} are allowed"
            )));
        }
        let rest = fields.rest().len() as u64;
        if encoding == Encoding::Plain && rest != plain {
            return Err(breach(format!("sent {rest} bytes of data for parts of {plain} bytes")));
        }
        let start = payload.len() - rest as usize;
        Ok(Data { parts, encoding, payload, start })
    }
}

/// A sentence of a peer, as it may be shown: short, without control characters, which could speak to a terminal.
fn harmless(bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(SENTENCE_MAX_BYTES)];
    let text = String::from_utf8_lossy(bytes);
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The fields of a payload, one after the other.
struct Fields<'a> {
    rest: &'a [u8],
    name: &'static str,
}

impl<'a> Fields<'a> {
    fn of(payload: &'a [u8], name: &'static str) -> Self {
        Fields { rest: payload, name }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        match self.rest.split_first_chunk() {
            Some((field, rest)) => {
                self.rest = rest;
                Ok(*field)
            }
            None => Err(breach(format!("sent the frame {} without all its fields", self.name))),
        }
    }

    fn u8(&mut self) -> Result<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn bool(&mut self) -> Result<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(breach(format!("sent {other} for yes or no in the frame {}", self.name))),
        }
    }

    fn u32(&mut self) -> Result<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.take().map(u64::from_le_bytes)
    }

    /// All the rest, as fields of one kind; at least one.
    fn all<const N: usize, T>(&mut self, convert: impl Fn([u8; N]) -> T) -> Result<Vec<T>> {
        let (fields, left) = self.rest.as_chunks::<N>();
        if fields.is_empty() || !left.is_empty() {
            let did =
                format!("sent a list of {} bytes in the frame {}", self.rest.len(), self.name);
            return Err(breach(did));
        }
        self.rest = &[];
        Ok(fields.iter().map(|field| convert(*field)).collect())
    }

    fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    fn end(&self) -> Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        let did = format!("sent {} bytes too many in the frame {}", self.rest.len(), self.name);
        Err(breach(did))
    }
}
