//! The source end: sends what differs.

use std::ops::Range;

use digest::blake2b::Hasher;
use digest::is_zero;
use image::{Error, ErrorKind, Image, Phase, Result, Task};

use super::header::{header, read_header};
use super::holes::Holes;
use super::incoming::Incoming;
use super::outgoing::{Outgoing, PIECE_BYTES, with_output};
use super::tree::{DIGEST_BYTES, Tree};
use super::{How, Node, Report, SOURCE, Shape, TARGET, reply, tail};
use crate::Wire;

/// What is kept of a digest: two that begin alike are not found by anybody.
const KEPT_BYTES: usize = 32;

/// The source end: sends what differs of `image`.
///
/// Nothing tells whether the target has got everything, and has made it durable: only its exit status does. Data that
/// is sent in answer to a digest is hashed again, so that an image that is written to meanwhile is noticed.
///
/// Phases of the task: `Hash` over the common size, unless that is 0; then `Sync` over the size of the source.
///
/// # Errors
///
/// `Changed` if the image was written to meanwhile; `Damaged` and `Unsupported` for a peer that does not speak the
/// protocol; `Io` for one that ends the connection early; what reading fails with. The wire is left then.
pub fn source(image: &dyn Image, wire: Wire<'_>, how: &How<'_>, task: &Task) -> Result<Report> {
    let Wire { input, output, hangup } = wire;
    let incoming = Incoming::new(input, TARGET, task);
    with_output(output, &hangup, TARGET, task, |out| {
        let report = Report { source_bytes: image.size(), ..Report::default() };
        let holes = Holes::of(image);
        let mut end = End { image, holes, incoming, out, task, report };
        end.run(how)?;
        // The last reply or record is still held back: a target that knows how much must come will miss it.
        (how.unchanged)()?;
        Ok(end.report)
    })
}

struct End<'a, 'w> {
    image: &'a dyn Image,
    holes: Holes<'a>,
    incoming: Incoming<'w>,
    out: &'a mut Outgoing,
    task: &'a Task,
    report: Report,
}

impl End<'_, '_> {
    fn run(&mut self, how: &How<'_>) -> Result<()> {
        let size = self.report.source_bytes;
        self.out.put(&header(size)?)?;
        self.out.send()?;
        self.report.target_bytes = read_header(&mut self.incoming)?;
        let common = size.min(self.report.target_bytes);
        self.report.compared_bytes = common;
        let shape = Shape::of(common);
        let tree = match common {
            0 => None,
            _ => Some(Tree::of(self.image, shape, how.threads, self.task)?),
        };
        self.task.begin(Phase::Sync, size);
        if let Some(tree) = tree {
            self.answer(&shape, &tree)?;
        }
        self.send_tail(common..size)
    }

    /// Answers each digest.
    fn answer(&mut self, shape: &Shape, tree: &Tree<KEPT_BYTES>) -> Result<()> {
        let mut next = Some(Node { level: 0, index: 0 });
        let mut visited = 0_u64;
        while let Some(node) = next {
            self.task.checkpoint()?;
            if !self.incoming.has(DIGEST_BYTES) {
                self.out.send()?;
            }
            let mut digest = [0; DIGEST_BYTES];
            self.incoming.take(&mut digest, |got| {
                let name = shape.name(node);
                format!("after {visited} digests and {got} of the 64 bytes of that of {name}")
            })?;
            visited += 1;
            let range = shape.range(node);
            if digest.starts_with(tree.digest(node)) {
                self.out.put(&[reply::EQUAL])?;
                self.task.advance(range.end - range.start);
            } else if !shape.is_leaf(node) {
                self.out.put(&[reply::DIFFERENT])?;
                next = Some(shape.child(node));
                continue;
            } else if tree.is_zero(node) {
                self.check_zero(range.clone())?;
                self.out.put(&[reply::HOLE])?;
                self.report.zeroed_bytes += range.end - range.start;
                self.task.advance(range.end - range.start);
            } else {
                self.out.put(&[reply::DIFFERENT])?;
                self.send_leaf(range, tree.digest(node))?;
            }
            next = shape.next(node);
        }
        Ok(())
    }

    /// Sends the bytes of a leaf, if they are still those of its digest.
    fn send_leaf(&mut self, range: Range<u64>, digest: &[u8; KEPT_BYTES]) -> Result<()> {
        let mut hasher = Hasher::<DIGEST_BYTES>::new();
        for piece in pieces(range.clone()) {
            self.task.checkpoint()?;
            let len = piece.end - piece.start;
            let bytes = self.out.room(len as usize)?;
            self.image.read_at(bytes, piece.start)?;
            hasher.update(bytes);
            self.report.data_bytes += len;
            self.task.advance(len);
        }
        if hasher.finish().starts_with(digest) { Ok(()) } else { Err(changed(range)) }
    }

    /// That a leaf whose digest was that of zeroes is still zero.
    fn check_zero(&mut self, range: Range<u64>) -> Result<()> {
        if self.holes.zeroes_until(range.start, range.end)? == range.end {
            return Ok(());
        }
        let mut buf = vec![0; PIECE_BYTES.min((range.end - range.start) as usize)];
        for piece in pieces(range.clone()) {
            self.task.checkpoint()?;
            let bytes = &mut buf[..(piece.end - piece.start) as usize];
            self.image.read_at(bytes, piece.start)?;
            if !is_zero(bytes) {
                return Err(changed(range));
            }
        }
        Ok(())
    }

    /// Sends what the target does not have, in chunks; runs of chunks that are zero as their length.
    fn send_tail(&mut self, range: Range<u64>) -> Result<()> {
        let mut chunk = vec![0; tail::CHUNK_BYTES.min(range.end - range.start) as usize];
        let (mut at, mut zero_bytes) = (range.start, 0);
        while at < range.end {
            self.task.checkpoint()?;
            let mut zero_len = self.holes.zeroes_until(at, range.end)? - at;
            if at + zero_len < range.end {
                zero_len -= zero_len % tail::CHUNK_BYTES;
            }
            let mut len = zero_len;
            if zero_len == 0 {
                len = tail::CHUNK_BYTES.min(range.end - at);
                let bytes = &mut chunk[..len as usize];
                self.image.read_at(bytes, at)?;
                if is_zero(bytes) {
                    zero_len = len;
                } else {
                    self.send_zeroes(std::mem::take(&mut zero_bytes))?;
                    self.out.put(&[tail::BLOCK])?;
                    self.out.put(bytes)?;
                    self.report.data_bytes += len;
                }
            }
            zero_bytes += zero_len;
            at += len;
            self.task.advance(len);
        }
        self.send_zeroes(zero_bytes)
    }

    fn send_zeroes(&mut self, len_bytes: u64) -> Result<()> {
        if len_bytes > 0 {
            self.out.put(&[tail::HOLE])?;
            self.out.put(&len_bytes.to_le_bytes())?;
            self.report.zeroed_bytes += len_bytes;
        }
        Ok(())
    }
}

/// Cuts `range` into what is read at once.
fn pieces(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end = range.end;
    range
        .step_by(PIECE_BYTES)
        .map(move |start| start..end.min(start.saturating_add(PIECE_BYTES as u64)))
}

fn changed(range: Range<u64>) -> Error {
    let sentence = format!(
        "{SOURCE} was written to at {}..{} after its digests were taken: sync again when nobody writes to it",
        range.start, range.end
    );
    Error::new(ErrorKind::Changed, sentence).at(SOURCE, Some(range))
}
