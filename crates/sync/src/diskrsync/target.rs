//! The target end: sends digests, and writes what comes in answer.

use std::ops::Range;

use image::{Error, ErrorKind, ImageMut, Phase, Result, Task};

use super::header::{header, read_header};
use super::incoming::Incoming;
use super::outgoing::{Outgoing, with_output};
use super::tree::{DIGEST_BYTES, Tree};
use super::{How, Node, Report, SOURCE, Shape, reply, tail};
use crate::{Target, Wire};

/// The target end: makes `target` what the other end sends.
///
/// Digests are sent ahead: after that of a leaf it is known which comes next, so that only the answers to inner nodes are
/// waited for.
///
/// Phases of the task: as [`source`](super::source).
///
/// # Errors
///
/// `Damaged` and `Unsupported` for a peer that does not speak the protocol, or sends less or more than it has announced;
/// `Io` for one that ends the connection early; what reading or writing fails with. The wire is left then, and what was
/// written of the target is what the [`Target`] says.
pub fn target(
    target: &mut dyn Target,
    wire: Wire<'_>,
    how: &How<'_>,
    task: &Task,
) -> Result<Report> {
    let Wire { input, output, hangup } = wire;
    let mut incoming = Incoming::new(input, SOURCE, task);
    with_output(output, &hangup, SOURCE, task, |out| {
        let old = target.size_bytes();
        out.put(&header(old)?)?;
        out.send()?;
        let size = read_header(&mut incoming)?;
        target.begin(size)?;

        let common = size.min(old);
        let shape = Shape::of(common);
        let tree = match common {
            0 => None,
            _ => Some(Tree::of(&target.image(), shape, how.threads, task)?),
        };
        task.begin(Phase::Sync, size);
        let mut report = Report {
            source_bytes: size,
            target_bytes: old,
            compared_bytes: common,
            ..Report::default()
        };
        if let Some(tree) = tree {
            let patch = Patch::new(target.image());
            let ahead = Ahead::new(&tree, shape, out)?;
            Answers { incoming: &mut incoming, shape, ahead, patch, task, report: &mut report }
                .apply()?;
        }
        if size > old {
            // What is new in a file is zero; a device may have held anything there.
            let fresh_from = target.image().size().max(old);
            target.resize(size)?;
            let patch = Patch::new(target.image());
            let (incoming, report) = (&mut incoming, &mut report);
            let mut tail = Tail { incoming, size, at: old, fresh_from, patch, task, report };
            if let Err(error) = tail.apply() {
                // The size must not say that more came than did. What did come is not sent again.
                let came = tail.patch.written_until.max(old);
                let _ = target.resize(came);
                return Err(error);
            }
        } else if size < old {
            target.resize(size)?;
        }
        task.checkpoint()?;
        target.finish()?;
        Ok(report)
    })
}

/// Sends digests as far as it is known which is next.
struct Ahead<'a> {
    tree: &'a Tree<DIGEST_BYTES>,
    shape: Shape,
    out: &'a mut Outgoing,
}

impl<'a> Ahead<'a> {
    /// Sends the root's.
    fn new(tree: &'a Tree<DIGEST_BYTES>, shape: Shape, out: &'a mut Outgoing) -> Result<Self> {
        let mut ahead = Ahead { tree, shape, out };
        ahead.send_from(Some(Node { level: 0, index: 0 }))?;
        Ok(ahead)
    }

    /// Sends those from `next` on, up to that of an inner node.
    fn send_from(&mut self, mut next: Option<Node>) -> Result<()> {
        while let Some(node) = next {
            self.out.put(self.tree.digest(node))?;
            if !self.shape.is_leaf(node) {
                break;
            }
            next = self.shape.next(node);
        }
        self.out.send()
    }
}

/// The answers to the digests.
struct Answers<'a, 'w> {
    incoming: &'a mut Incoming<'w>,
    shape: Shape,
    ahead: Ahead<'a>,
    patch: Patch<'a>,
    task: &'a Task,
    report: &'a mut Report,
}

impl Answers<'_, '_> {
    fn apply(mut self) -> Result<()> {
        let mut next = Some(Node { level: 0, index: 0 });
        while let Some(node) = next {
            self.task.checkpoint()?;
            let range = self.shape.range(node);
            let len = range.end - range.start;
            let mut reply = [0];
            self.incoming.take(&mut reply, |_| {
                format!("before its reply to the digest of {}", self.shape.name(node))
            })?;
            next = match (reply[0], self.shape.is_leaf(node)) {
                (reply::DIFFERENT, false) => Some(self.shape.child(node)),
                (reply::EQUAL, _) => {
                    self.task.advance(len);
                    self.shape.next(node)
                }
                (reply::HOLE, true) => {
                    self.patch.zero(range)?;
                    self.report.zeroed_bytes += len;
                    self.task.advance(len);
                    self.shape.next(node)
                }
                (reply::DIFFERENT, true) => {
                    let name =
                        |got| format!("after {got} bytes of the data of {}", self.shape.name(node));
                    self.patch.take(self.incoming, range, self.task, name)?;
                    self.report.data_bytes += len;
                    self.shape.next(node)
                }
                (reply, is_leaf) => {
                    let possible = if is_leaf { "0, 2 or 3 are" } else { "2 or 3 are" };
                    let name = self.shape.name(node);
                    let sentence =
                        format!("{SOURCE} sent reply {reply} for {name}; {possible} possible");
                    return Err(Error::new(ErrorKind::Damaged, sentence).at(SOURCE, Some(range)));
                }
            };
            // The next digests after an inner node's, once it is known which.
            if !self.shape.is_leaf(node) {
                self.ahead.send_from(next)?;
            }
        }
        self.patch.flush()
    }
}

/// What the source has behind the common size.
struct Tail<'a, 'w> {
    incoming: &'a mut Incoming<'w>,
    size: u64,
    at: u64,
    /// From here on all is zero already.
    fresh_from: u64,
    patch: Patch<'a>,
    task: &'a Task,
    report: &'a mut Report,
}

impl Tail<'_, '_> {
    fn apply(&mut self) -> Result<()> {
        let done = self.apply_all();
        // Also what came before it failed.
        let written = self.patch.flush();
        done.and(written)
    }

    fn apply_all(&mut self) -> Result<()> {
        while let Some(record) = self.incoming.take_byte()? {
            self.task.checkpoint()?;
            let left = self.size - self.at;
            if left == 0 {
                let sentence = format!(
                    "{SOURCE} sent more than the {} bytes that it had announced",
                    self.size
                );
                return Err(self.lie(sentence));
            }
            let len = match record {
                tail::BLOCK => self.block(left.min(tail::CHUNK_BYTES))?,
                tail::HOLE => self.hole(left)?,
                _ => {
                    let sentence = format!(
                        "{SOURCE} sent record {record} at offset {}; 0 or 1 are possible",
                        self.at
                    );
                    return Err(self.lie(sentence));
                }
            };
            self.at += len;
        }
        if self.at < self.size {
            let sentence = format!(
                "{SOURCE} ended the connection at offset {} of the {} bytes that it had announced",
                self.at, self.size
            );
            return Err(Error::new(ErrorKind::Io, sentence).at(SOURCE, Some(self.at..self.size)));
        }
        Ok(())
    }

    fn block(&mut self, len: u64) -> Result<u64> {
        let range = self.at..self.at + len;
        let place =
            |got| format!("after {got} bytes of the block at {}..{}", range.start, range.end);
        self.patch.take(self.incoming, range.clone(), self.task, place)?;
        self.report.data_bytes += len;
        Ok(len)
    }

    fn hole(&mut self, left: u64) -> Result<u64> {
        let at = self.at;
        let mut len = [0; 8];
        self.incoming.take(&mut len, |got| {
            format!("after {got} of the 8 bytes that say how long the zeroes at {at} are")
        })?;
        let said = i64::from_le_bytes(len);
        let len = match u64::try_from(said) {
            Ok(len) if (1..=left).contains(&len) => len,
            _ => {
                let sentence = format!(
                    "{SOURCE} sent a run of {said} zeroes at offset {at}; 1 to {left} are possible"
                );
                return Err(self.lie(sentence));
            }
        };
        let held_end = self.fresh_from.min(at + len);
        if at < held_end {
            self.patch.zero(at..held_end)?;
        }
        self.report.zeroed_bytes += len;
        self.task.advance(len);
        Ok(len)
    }

    fn lie(&self, sentence: String) -> Error {
        Error::new(ErrorKind::Damaged, sentence).at(SOURCE, Some(self.at..self.size))
    }
}

/// What is to be written: data up to [`WRITE_BYTES`], or zeroes, in one run.
struct Patch<'a> {
    image: &'a dyn ImageMut,
    data: Vec<u8>,
    data_at: u64,
    zeroes: Range<u64>,
    /// Where that ends which was written last.
    written_until: u64,
}

/// The longest write, in bytes.
const WRITE_BYTES: usize = 1 << 20;

impl<'a> Patch<'a> {
    fn new(image: &'a dyn ImageMut) -> Self {
        Patch { image, data: Vec::new(), data_at: 0, zeroes: 0..0, written_until: 0 }
    }

    /// Takes the bytes of `range` from the source. `place` says where it is, from how many of them came, if that ends.
    fn take(
        &mut self,
        incoming: &mut Incoming<'_>,
        range: Range<u64>,
        task: &Task,
        place: impl Fn(u64) -> String,
    ) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            task.checkpoint()?;
            if self.data_at + self.data.len() as u64 != at || self.data.len() == WRITE_BYTES {
                self.flush()?;
                self.data_at = at;
            }
            let held = self.data.len();
            let len = (range.end - at).min((WRITE_BYTES - held) as u64);
            self.data.resize(held + len as usize, 0);
            let before = at - range.start;
            let came = incoming.take(&mut self.data[held..], |got| place(before + got as u64));
            if came.is_err() {
                self.data.truncate(held);
            }
            came?;
            at += len;
            task.advance(len);
        }
        Ok(())
    }

    /// Makes `range` zero, together with the zeroes before it if it touches them.
    fn zero(&mut self, range: Range<u64>) -> Result<()> {
        if self.zeroes.is_empty() || self.zeroes.end != range.start {
            self.flush()?;
            self.zeroes = range;
        } else {
            self.zeroes.end = range.end;
        }
        Ok(())
    }

    /// Writes what is held.
    fn flush(&mut self) -> Result<()> {
        if !self.data.is_empty() {
            let data = std::mem::take(&mut self.data);
            self.image.write_at(&data, self.data_at)?;
            self.written_until = self.data_at + data.len() as u64;
            // The memory is used again.
            self.data = data;
            self.data.clear();
        }
        if !self.zeroes.is_empty() {
            let zeroes = std::mem::replace(&mut self.zeroes, 0..0);
            self.image.zero(zeroes.clone())?;
            self.written_until = zeroes.end;
        }
        Ok(())
    }
}
