//! Any file of Zstandard, from front to back.

use std::ops::Range;

use image::{Error, ErrorKind, Medium, Result};
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

use crate::packed::Unpack;

/// So much of the file is read at once.
const READ_BYTES: u64 = 1 << 20;
/// The longest window that the format has (`zstd --long=31`). Memory for one is taken only as it fills.
const WINDOW_LOG_MAX: u32 = 31;

/// One frame after the other; skippable ones are skipped.
pub(super) struct Stream<'a> {
    medium: &'a dyn Medium,
    len_bytes: u64,
    /// What was read of the file; it ends at `position`, and `used` of it were given to zstd.
    packed: Vec<u8>,
    used: usize,
    position: u64,
    context: DCtx<'static>,
    /// Where the frame begins that has begun and not ended.
    frame: Option<u64>,
    /// What was wrong, once something was.
    failure: Option<(String, Range<u64>)>,
}

impl<'a> Stream<'a> {
    pub(super) fn new(medium: &'a dyn Medium) -> Result<Self> {
        let mut context = DCtx::create();
        let name = medium.name();
        context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(|code| {
            let why = zstd_safe::get_error_name(code);
            Error::new(ErrorKind::Unsupported, format!("cannot unpack {name} with zstd: {why}"))
        })?;
        Ok(Stream {
            medium,
            len_bytes: medium.len()?,
            packed: Vec::new(),
            used: 0,
            position: 0,
            context,
            frame: None,
            failure: None,
        })
    }

    fn refill(&mut self) -> Result<()> {
        let len = (self.len_bytes - self.position).min(READ_BYTES);
        self.packed.resize(len as usize, 0);
        self.used = 0;
        self.medium.read_at(&mut self.packed, self.position)?;
        self.position += len;
        Ok(())
    }

    /// One step of zstd's; whether it got further.
    fn step(&mut self, buf: &mut [u8], filled: &mut usize) -> Result<bool, (String, Range<u64>)> {
        let at = self.packed_position();
        let frame = *self.frame.get_or_insert(at);
        let mut input = InBuffer::around(&self.packed[self.used..]);
        let mut output = OutBuffer::around_pos(buf, *filled);
        let hint = self.context.decompress_stream(&mut output, &mut input);
        let (taken, given) = (input.pos(), output.pos() - *filled);
        self.used += taken;
        *filled += given;
        match hint {
            Ok(0) => self.frame = None,
            Ok(_) => {}
            Err(code) => {
                let why = zstd_safe::get_error_name(code);
                let why = format!("the frame that begins at {frame} cannot be unpacked: {why}");
                return Err((why, frame..self.packed_position().max(frame + 1)));
            }
        }
        Ok(taken > 0 || given > 0 || self.frame.is_none())
    }

    fn fill(&mut self, buf: &mut [u8], filled: &mut usize) -> Result<()> {
        while *filled < buf.len() {
            let is_at_end = self.position == self.len_bytes && self.used == self.packed.len();
            if is_at_end && self.frame.is_none() {
                break;
            }
            if self.used == self.packed.len() && !is_at_end {
                self.refill()?;
            }
            let failure = match self.step(buf, filled) {
                Ok(true) => continue,
                Ok(false) if self.used < self.packed.len() || !is_at_end => continue,
                Ok(false) => {
                    let frame = self.frame.unwrap_or(self.len_bytes);
                    let why = format!("the frame that begins at {frame} is cut off");
                    (why, frame..self.len_bytes)
                }
                Err(failure) => failure,
            };
            self.failure = Some(failure);
            return Ok(());
        }
        Ok(())
    }
}

impl Unpack for Stream<'_> {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        if self.failure.is_none() {
            self.fill(buf, &mut filled)?;
        }
        match &self.failure {
            Some((why, range)) => {
                let name = self.medium.name();
                let sentence = format!("{name} is damaged: {why}");
                Err(Error::new(ErrorKind::Damaged, sentence).at(name, Some(range.clone())))
            }
            None => Ok(filled),
        }
    }

    fn packed_position(&self) -> u64 {
        self.position - (self.packed.len() - self.used) as u64
    }
}
