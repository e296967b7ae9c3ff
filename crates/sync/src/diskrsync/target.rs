//! The target end: sends digests, and writes what comes in answer.

use image::{Error, ErrorKind, Phase, Result, Task};

use super::header::{header, read_header};
use super::incoming::Incoming;
use super::outgoing::{Outgoing, with_output};
use super::patch::{Patch, with_patch};
use super::tree::{DIGEST_BYTES, Tree};
use super::{How, Node, Report, SOURCE, Shape, reply, tail};
use crate::{Target, Wire};

/// The target end: makes `target` what the other end sends.
///
/// Digests are sent ahead: after that of a leaf it is known which comes next, so that only the answers to inner nodes are
/// waited for.
///
/// Phases of the task: as [`source`](super::source()).
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
            let ahead = Ahead::new(&tree, shape, out)?;
            let answers = Answers { incoming: &mut incoming, shape, ahead, task };
            let (done, _) =
                with_patch(target.image(), how.threads, |patch| answers.apply(patch, &mut report));
            done?;
        }
        if size > old {
            // What is new in a file is zero; a device may have held anything there.
            let fresh_from = target.image().size().max(old);
            target.resize(size)?;
            let mut tail = Tail { incoming: &mut incoming, size, at: old, fresh_from, task };
            let (done, unwritten_from) =
                with_patch(target.image(), how.threads, |patch| tail.apply(patch, &mut report));
            if let Err(error) = done {
                // The size must not say that more came than did. What did come is not sent again.
                let _ = target.resize(tail.at.min(unwritten_from).max(old));
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
    task: &'a Task,
}

impl Answers<'_, '_> {
    fn apply(mut self, patch: &mut Patch<'_>, report: &mut Report) -> Result<()> {
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
                    patch.zero(range)?;
                    report.zeroed_bytes += len;
                    self.task.advance(len);
                    self.shape.next(node)
                }
                (reply::DIFFERENT, true) => {
                    let name =
                        |got| format!("after {got} bytes of the data of {}", self.shape.name(node));
                    patch.take(self.incoming, range, self.task, name)?;
                    report.data_bytes += len;
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
        Ok(())
    }
}

/// What the source has behind the common size.
struct Tail<'a, 'w> {
    incoming: &'a mut Incoming<'w>,
    size: u64,
    at: u64,
    /// From here on all is zero already.
    fresh_from: u64,
    task: &'a Task,
}

impl Tail<'_, '_> {
    fn apply(&mut self, patch: &mut Patch<'_>, report: &mut Report) -> Result<()> {
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
                tail::BLOCK => self.block(left.min(tail::CHUNK_BYTES), patch, report)?,
                tail::HOLE => self.hole(left, patch, report)?,
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

    fn block(&mut self, len: u64, patch: &mut Patch<'_>, report: &mut Report) -> Result<u64> {
        let range = self.at..self.at + len;
        let place =
            |got| format!("after {got} bytes of the block at {}..{}", range.start, range.end);
        patch.take(self.incoming, range.clone(), self.task, place)?;
        report.data_bytes += len;
        Ok(len)
    }

    fn hole(&mut self, left: u64, patch: &mut Patch<'_>, report: &mut Report) -> Result<u64> {
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
            patch.zero(at..held_end)?;
        }
        report.zeroed_bytes += len;
        self.task.advance(len);
        Ok(len)
    }

    fn lie(&self, sentence: String) -> Error {
        Error::new(ErrorKind::Damaged, sentence).at(SOURCE, Some(self.at..self.size))
    }
}
