//! Checks the bytes of a partition image while they pass.

use std::ops::Range;

use image::{Error, ErrorKind, Result};

use super::crc::{CHECKSUM_BYTES, Running, START};
use super::header::BEGINNING_BYTES;
use super::layout::Layout;
use super::map::MapReader;
use super::{Checksums, Header, UsedBlocks};

/// Checks the bytes of a partition image while they pass, from front to back: header, bitmap, checksums, length.
pub struct StreamCheck {
    name: String,
    /// Where in the stream the next byte stands.
    position: u64,
    state: State,
}

enum State {
    /// What has passed of the header, and as much of it as tells how long it is, or all.
    Header(Vec<u8>, usize),
    Map(Header, MapReader),
    Blocks(Blocks),
}

/// What is known while the stored blocks pass.
struct Blocks {
    header: Header,
    used: UsedBlocks,
    layout: Layout,
    group: u64,
    /// Of the blocks of that group.
    crc: Running,
    /// What has passed of the checksum behind them.
    stored: Vec<u8>,
}

/// What was found when all was right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The header.
    pub header: Header,
    /// Length of the stream in bytes.
    pub len_bytes: u64,
}

impl StreamCheck {
    /// Nothing has passed yet. `name` is what errors call the image.
    pub fn new(name: &str) -> Self {
        StreamCheck { name: name.to_string(), position: 0, state: State::beginning() }
    }

    /// The next bytes.
    ///
    /// # Errors
    ///
    /// `Damaged`, with the position in the stream; `Unsupported` as [`Header::decode`]. After an error it is not to be used
    /// again.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let taken = match &mut self.state {
                State::Header(head, wanted) => {
                    let taken = bytes.len().min(*wanted - head.len());
                    head.extend(&bytes[..taken]);
                    taken
                }
                State::Map(_, map) => {
                    let taken = map.left_bytes().min(bytes.len() as u64) as usize;
                    map.feed(&bytes[..taken]);
                    taken
                }
                State::Blocks(blocks) => match blocks.feed(self.position, bytes) {
                    Ok(taken) => taken,
                    Err((sentence, range)) => return Err(self.damaged(&sentence, range)),
                },
            };
            self.position += taken as u64;
            bytes = &bytes[taken..];
            self.advance()?;
        }
        Ok(())
    }

    /// The header, once it has passed.
    pub fn header(&self) -> Option<&Header> {
        match &self.state {
            State::Header(..) => None,
            State::Map(header, _) | State::Blocks(Blocks { header, .. }) => Some(header),
        }
    }

    /// Which blocks are used, once the map of them has passed.
    pub fn used(&self) -> Option<&UsedBlocks> {
        match &self.state {
            State::Blocks(blocks) => Some(&blocks.used),
            State::Header(..) | State::Map(..) => None,
        }
    }

    /// The stream has ended.
    ///
    /// # Errors
    ///
    /// `Damaged` if it has ended too early.
    pub fn finish(self) -> Result<Checked> {
        let position = self.position;
        match self.state {
            State::Blocks(blocks) if position == blocks.layout.len_bytes() => {
                Ok(Checked { header: blocks.header, len_bytes: position })
            }
            _ => Err(self.ended()),
        }
    }

    /// The header and the map of used blocks, of a stream of which no more is wanted.
    ///
    /// # Errors
    ///
    /// `Damaged` if it has ended before they had passed.
    pub fn into_map(self) -> Result<(Header, UsedBlocks)> {
        match self.state {
            State::Blocks(blocks) => Ok((blocks.header, blocks.used)),
            _ => Err(self.ended()),
        }
    }

    /// The error for a stream that ends here.
    fn ended(&self) -> Error {
        let position = self.position;
        let what = match &self.state {
            State::Blocks(blocks) => {
                let whole = blocks.layout.len_bytes();
                let block = blocks.block_at(position);
                format!("at block {block}, where {whole} bytes are needed")
            }
            State::Map(..) => "within its map of used blocks".to_string(),
            State::Header(..) => "within its header".to_string(),
        };
        let sentence = format!("it ends after {position} bytes, {what}");
        self.damaged(&sentence, position..position)
    }

    /// Goes on to the next state where all of this one has passed.
    fn advance(&mut self) -> Result<()> {
        if let State::Header(head, wanted) = &mut self.state
            && head.len() == BEGINNING_BYTES
        {
            *wanted = Header::len_at(head).map_err(|error| at_head(&self.name, error))?;
        }
        if let State::Header(head, wanted) = &self.state
            && head.len() == *wanted
        {
            let (header, _) = Header::decode(head).map_err(|error| at_head(&self.name, error))?;
            let map = MapReader::new(&header);
            self.state = State::Map(header, map);
        }
        if matches!(&self.state, State::Map(_, map) if map.left_bytes() == 0)
            && let State::Map(mut header, map) =
                std::mem::replace(&mut self.state, State::beginning())
        {
            let start = header.len_bytes();
            let used = map.finish(&mut header).map_err(|error| {
                let range = start..self.position;
                error.context(format!("{} is damaged", self.name)).at(&self.name, Some(range))
            })?;
            let layout = Layout::new(&header);
            let crc = Running::new(header.version, header.block_bytes, START);
            let stored = Vec::new();
            self.state = State::Blocks(Blocks { header, used, layout, group: 0, crc, stored });
        }
        Ok(())
    }

    fn damaged(&self, what: &str, range: Range<u64>) -> Error {
        let name = &self.name;
        let sentence = format!("{name} is damaged: {what}");
        Error::new(ErrorKind::Damaged, sentence).at(name, Some(range))
    }
}

impl State {
    fn beginning() -> Self {
        State::Header(Vec::new(), BEGINNING_BYTES)
    }
}

fn at_head(name: &str, error: Error) -> Error {
    let range = 0..Header::V2_BYTES as u64;
    error.context(format!("{name} cannot be read")).at(name, Some(range))
}

impl Blocks {
    /// Takes what belongs together of `bytes`, which stand at `position`, and says how much that was; or what is wrong, and
    /// where.
    fn feed(&mut self, position: u64, bytes: &[u8]) -> Result<usize, (String, Range<u64>)> {
        if self.group == self.layout.groups() {
            let sentence = format!("it goes on behind its end at {position}");
            return Err((sentence, position..position + bytes.len() as u64));
        }
        let range = self.layout.group(self.group);
        let reseed = match self.header.checksums {
            Checksums::None => {
                let taken = (range.end - position).min(bytes.len() as u64);
                self.group += u64::from(position + taken == range.end);
                return Ok(taken as usize);
            }
            Checksums::Crc32 { reseed, .. } => reseed,
        };
        let border = range.end - CHECKSUM_BYTES;
        if position < border {
            let taken = (border - position).min(bytes.len() as u64) as usize;
            self.crc.update(&bytes[..taken]);
            return Ok(taken);
        }
        let taken = (range.end - position).min(bytes.len() as u64) as usize;
        self.stored.extend(&bytes[..taken]);
        if position + taken as u64 == range.end {
            let value = self.crc.value();
            if self.stored != value.to_le_bytes() {
                return Err((self.wrong_checksum(), range));
            }
            self.stored.clear();
            self.group += 1;
            let before = if reseed { START } else { value };
            self.crc = Running::new(self.header.version, self.header.block_bytes, before);
        }
        Ok(taken)
    }

    fn wrong_checksum(&self) -> String {
        let blocks = self.layout.blocks(self.group);
        let number = |nth| self.used.nth_used(nth).unwrap_or_default();
        wrong_checksum(number(blocks.start)..=number(blocks.end - 1), self.layout.group(self.group))
    }

    /// The block of the filesystem that stands at `position` of the stream.
    fn block_at(&self, position: u64) -> u64 {
        let blocks = self.layout.blocks(self.group);
        let inside = position - self.layout.group(self.group).start;
        let nth = (blocks.start + inside / u64::from(self.header.block_bytes)).min(blocks.end - 1);
        self.used.nth_used(nth).unwrap_or_default()
    }
}

/// What is said of a group whose checksum does not fit its blocks.
pub(super) fn wrong_checksum(blocks: std::ops::RangeInclusive<u64>, range: Range<u64>) -> String {
    let (first, last) = (blocks.start(), blocks.end());
    format!(
        "the checksum of blocks {first} to {last}, at {} to {} of the unpacked image, is wrong",
        range.start, range.end
    )
}
