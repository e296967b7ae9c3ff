//! Makes frames of what is to be sent: data, joined and compressed, and zeroes.

use std::ops::Range;

use digest::is_zero;
use image::{Error, ErrorKind, Result};
use zstd_safe::{CCtx, CParameter};

use super::super::PAGE_BYTES;
use super::super::content::{Content, Piece};
use super::super::frame::{DATA_MAX_BYTES, Data, Encoding, Frame, PARTS_MAX, Sums};
use super::super::hello::Agreed;
use super::super::link::Link;
use super::table::Table;

/// zstd's level: the wire is to be faster than without, on any machine.
const LEVEL: i32 = 1;
/// Data goes uncompressed if compression saves less than one part in so many.
const WORTH: usize = 16;

/// One thread's way to the wire. What is given to it leaves with [`finish`](Sender::finish) at the latest.
pub(super) struct Sender<'a> {
    link: &'a Link,
    dry_run: bool,
    zstd: Option<CCtx<'static>>,
    /// Where the gathered data lies, in order.
    parts: Vec<Range<u64>>,
    plain: Vec<u8>,
    packed: Vec<u8>,
    /// Joined while they touch.
    zeroes: Option<Range<u64>>,
    /// Frames of zeroes that are ready.
    ready: Vec<u8>,
    holes_are_there: bool,
    sums: Sums,
}

impl<'a> Sender<'a> {
    pub(super) fn new(link: &'a Link, agreed: Agreed) -> Self {
        Sender {
            link,
            dry_run: agreed.dry_run,
            zstd: agreed.compress.then(CCtx::create),
            parts: Vec::new(),
            plain: Vec::new(),
            packed: Vec::new(),
            zeroes: None,
            ready: Vec::new(),
            holes_are_there: false,
            sums: Sums::default(),
        }
    }

    /// Whether the target is known to be zero where the next data lies, so that zeroes need not be said.
    pub(super) fn holes_are_there(&mut self, are_there: bool) {
        self.holes_are_there = are_there;
    }

    /// What stands in `range`, which begins at a page.
    pub(super) fn send(
        &mut self,
        content: &Content<'_>,
        range: Range<u64>,
        buf: &mut [u8],
    ) -> Result<()> {
        content.pieces(range, buf, |piece| {
            match piece {
                Piece::Zero(range) => self.zero(range)?,
                Piece::Data(offset, bytes) => self.send_bytes(offset, bytes)?,
            }
            Ok(())
        })
    }

    /// `bytes`, which stand at `offset`, where a page begins.
    pub(super) fn send_bytes(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut at = offset;
        for page in bytes.chunks(PAGE_BYTES as usize) {
            let end = at + page.len() as u64;
            match is_zero(page) {
                true => self.zero(at..end)?,
                false => self.data(at, page)?,
            }
            at = end;
        }
        Ok(())
    }

    /// Zeroes in `range`.
    pub(super) fn zero(&mut self, range: Range<u64>) -> Result<()> {
        if self.holes_are_there {
            return Ok(());
        }
        self.sums.zeroed_bytes += range.end - range.start;
        match &mut self.zeroes {
            Some(zeroes) if zeroes.end == range.start => zeroes.end = range.end,
            _ => {
                self.zeroes_are_ready();
                self.zeroes = Some(range);
            }
        }
        Ok(())
    }

    fn zeroes_are_ready(&mut self) {
        if let Some(zeroes) = self.zeroes.take()
            && !self.dry_run
        {
            self.ready.extend_from_slice(&Frame::Zero(zeroes).to_bytes());
        }
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        let is_next = self.parts.last().is_some_and(|last| last.end == offset);
        let is_full = self.plain.len() + bytes.len() > DATA_MAX_BYTES
            || (!is_next && self.parts.len() == PARTS_MAX)
            || self.parts.last().is_some_and(|last| last.end > offset);
        if is_full {
            self.data_is_sent()?;
        }
        let end = offset + bytes.len() as u64;
        match self.parts.last_mut() {
            Some(last) if last.end == offset => last.end = end,
            _ => self.parts.push(offset..end),
        }
        self.plain.extend_from_slice(bytes);
        Ok(())
    }

    fn data_is_sent(&mut self) -> Result<()> {
        if self.parts.is_empty() {
            return Ok(());
        }
        let mut encoding = Encoding::Plain;
        let mut bytes = &self.plain;
        if let Some(zstd) = &mut self.zstd {
            self.packed.clear();
            self.packed.reserve(zstd_safe::compress_bound(self.plain.len()));
            zstd.set_parameter(CParameter::CompressionLevel(LEVEL))
                .and_then(|_| zstd.compress2(&mut self.packed, &self.plain))
                .map_err(|code| {
                    let name = zstd_safe::get_error_name(code);
                    Error::new(ErrorKind::Io, format!("cannot compress what is sent: {name}"))
                })?;
            if self.packed.len() <= self.plain.len() - self.plain.len() / WORTH {
                encoding = Encoding::Zstd;
                bytes = &self.packed;
            }
        }
        self.sums.data_bytes += self.plain.len() as u64;
        self.sums.packed_bytes += bytes.len() as u64;
        if !self.dry_run {
            self.link.bulk(Data::frame(&self.parts, encoding, bytes))?;
        }
        self.parts.clear();
        self.plain.clear();
        Ok(())
    }

    /// Hands all that was gathered to the wire, and adds up in `table`.
    pub(super) fn finish(&mut self, table: &Table) -> Result<()> {
        self.data_is_sent()?;
        self.zeroes_are_ready();
        if !self.ready.is_empty() {
            self.link.bulk(std::mem::take(&mut self.ready))?;
        }
        table.add(&std::mem::take(&mut self.sums));
        Ok(())
    }
}
