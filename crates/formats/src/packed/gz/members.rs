//! A file of gzip from front to back: its members, one after the other.

use image::{Medium, Result};
use libdeflater::Crc;

use super::inflate::{Inflate, Input, State, Window};
use crate::packed::Unpack;

/// Flags in the header of a member; those above have no meaning.
const HAS_CHECKSUM: u8 = 2;
const HAS_EXTRA: u8 = 4;
const HAS_NAME: u8 = 8;
const HAS_COMMENT: u8 = 16;
const FLAGS: u8 = 31;

/// Reads all members of a file. Zeroes behind the last one are passed over, as `gzip` does: tapes and devices round
/// lengths up. Anything else is damage.
pub(super) struct Members<'a> {
    input: Input<'a>,
    inflate: Inflate,
    window: Window,
    /// Checksum and length of the member so far; `None` if it was not read from its beginning.
    content: Option<(Crc, u32)>,
    place: Place,
}

/// Where in the file it stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before a member, or the end.
    Between,
    /// In the blocks of a member.
    Member,
    End,
}

/// A place to start from, in the middle of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    /// Where it lies, in bits.
    pub(super) bit: u64,
    /// Where the block begins that it lies in, in bits, if that is one with codes.
    pub(super) block_bit: u64,
    /// In which state the blocks are; `None` before the header of a member.
    pub(super) state: Option<State>,
    /// Whether it is in the last block.
    pub(super) is_last: bool,
}

impl Point {
    /// The beginning of a file.
    pub(super) const START: Point = Point { bit: 0, block_bit: 0, state: None, is_last: false };
}

impl<'a> Members<'a> {
    pub(super) fn new(medium: &'a dyn Medium) -> Result<Self> {
        Members::from(medium, Point::START, &[])
    }

    /// From `point` on, before which the content ended with `past`.
    pub(super) fn from(medium: &'a dyn Medium, point: Point, past: &[u8]) -> Result<Self> {
        let mut input = Input::new(medium, point.bit)?;
        let mut inflate = Inflate::new();
        match point.state {
            Some(State::Stored(left)) => inflate.resume_stored(left, point.is_last),
            Some(State::Coded) => inflate.resume_coded(&mut input, point.block_bit, point.bit)?,
            _ => {}
        }
        let mut window = Window::new();
        window.restart(past);
        let place = if point.state.is_some() { Place::Member } else { Place::Between };
        Ok(Members { input, inflate, window, content: None, place })
    }

    /// Where it stands. All that was unpacked has been taken.
    pub(super) fn point(&self) -> Point {
        Point {
            bit: self.input.position_bits(),
            block_bit: self.inflate.block_bit(),
            state: (self.place == Place::Member).then(|| self.inflate.state()),
            is_last: self.inflate.is_last(),
        }
    }

    /// What blocks from here on may look back at.
    pub(super) fn past(&self) -> &[u8] {
        self.window.past()
    }

    /// Content that was not taken yet; none only at the end of the file.
    pub(super) fn ready(&mut self) -> Result<&[u8]> {
        while self.window.ready().is_empty() && self.place != Place::End {
            match self.place {
                Place::Between => self.begin_or_end()?,
                Place::Member if self.inflate.state() == State::Done => self.end_member()?,
                Place::Member => {
                    self.inflate.run(&mut self.input, &mut self.window)?;
                    let new = self.window.ready();
                    if let Some((crc, len)) = &mut self.content {
                        crc.update(new);
                        *len = len.wrapping_add(new.len() as u32);
                    }
                }
                Place::End => {}
            }
        }
        Ok(self.window.ready())
    }

    /// So many bytes of it were taken.
    pub(super) fn take(&mut self, len: usize) {
        self.window.take(len);
    }

    /// Reads the header of a member, or what stands behind the last.
    fn begin_or_end(&mut self) -> Result<()> {
        let is_first = self.input.position_bits() == 0;
        if !is_first && self.input.is_at_end() {
            self.place = Place::End;
            return Ok(());
        }
        let mut header = Crc::new();
        let [id_1, id_2] = self.bytes(&mut header)?;
        if (id_1, id_2) == (0, 0) && !is_first {
            return self.pass_zeroes();
        }
        if (id_1, id_2) != (0x1f, 0x8b) {
            let why = "behind a member stand bytes that are no other";
            return Err(self.input.damaged(why));
        }
        let [method, flags, ..] = self.bytes::<8>(&mut header)?;
        if method != 8 || flags & !FLAGS != 0 {
            return Err(self.input.damaged("the header of a member has values without a meaning"));
        }
        if flags & HAS_EXTRA != 0 {
            let len = self.bytes(&mut header)?;
            for _ in 0..u16::from_le_bytes(len) {
                self.bytes::<1>(&mut header)?;
            }
        }
        for flag in [HAS_NAME, HAS_COMMENT] {
            while flags & flag != 0 && self.bytes::<1>(&mut header)? != [0] {}
        }
        let checksum = header.sum() as u16;
        if flags & HAS_CHECKSUM != 0 && u16::from_le_bytes(self.bytes(&mut header)?) != checksum {
            return Err(self.input.damaged("the header of a member has another checksum"));
        }
        self.inflate.restart();
        self.window.forget();
        self.content = Some((Crc::new(), 0));
        self.place = Place::Member;
        Ok(())
    }

    fn bytes<const N: usize>(&mut self, header: &mut Crc) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.bytes(&mut bytes)?;
        header.update(&bytes);
        Ok(bytes)
    }

    fn pass_zeroes(&mut self) -> Result<()> {
        while !self.input.is_at_end() {
            if self.bytes::<1>(&mut Crc::new())? != [0] {
                let why = "behind zeroes, which would be its end, it goes on";
                return Err(self.input.damaged(why));
            }
        }
        self.place = Place::End;
        Ok(())
    }

    /// Reads checksum and length of a member.
    fn end_member(&mut self) -> Result<()> {
        let mut words = [0; 8];
        self.input.bytes(&mut words)?;
        let words = u64::from_le_bytes(words);
        if let Some((crc, len)) = self.content.take() {
            if crc.sum() != words as u32 {
                let why = "the content of a member has another checksum than it says";
                return Err(self.input.damaged(why));
            }
            if len != (words >> 32) as u32 {
                return Err(self.input.damaged("a member has another length than it says"));
            }
        }
        self.place = Place::Between;
        Ok(())
    }
}

impl Unpack for Members<'_> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            let ready = self.ready()?;
            let part = ready.len().min(buf.len() - filled);
            if part == 0 {
                break;
            }
            buf[filled..filled + part].copy_from_slice(&ready[..part]);
            filled += part;
            self.take(part);
        }
        Ok(filled)
    }

    fn packed_position(&self) -> u64 {
        self.input.position()
    }
}
