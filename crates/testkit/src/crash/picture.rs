//! What happened, and what of it is durable: the log of a disk, and its state after a part of the log.

use std::ffi::OsString;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::content::Content;
use super::{File, FileId, Image};

/// One thing that happened to a disk.
#[derive(Clone)]
pub(super) enum Op {
    Change(FileId, Change),
    Sync(FileId),
    Naming(Naming),
    SyncNames,
}

/// Something that happened to the bytes of one medium.
#[derive(Clone)]
pub(super) enum Change {
    Write { offset: u64, bytes: Arc<[u8]> },
    Punch(Range<u64>),
    Discard(Range<u64>),
    SetLen(u64),
}

/// Something that happened to the names.
#[derive(Clone)]
pub(super) enum Naming {
    Create(OsString, FileId),
    Rename(OsString, OsString),
    Remove(OsString),
}

/// A disk after a part of its log: what is durable, and what may be there or not.
#[derive(Clone)]
pub(super) struct Picture {
    /// How many operations of the log it has seen.
    pub(super) after: usize,
    pub(super) durable: Image,
    /// Changes since the last sync of their medium, in the order of the log.
    pub(super) changes: Vec<Pending>,
    /// Namings since the last sync of the names.
    pub(super) namings: Vec<Naming>,
}

/// A change that may be there or not.
#[derive(Clone)]
pub(super) struct Pending {
    /// The number of the operation, from 1.
    pub(super) number: usize,
    pub(super) file: FileId,
    pub(super) change: Change,
}

/// What was discarded reads as this.
const GARBAGE: u8 = 0xd5;

impl Op {
    pub(super) fn is_sync(&self) -> bool {
        matches!(self, Op::Sync(_) | Op::SyncNames)
    }

    pub(super) fn apply(&self, image: &mut Image) {
        match self {
            Op::Change(file, change) => {
                if let Some(file) = image.files.get_mut(file) {
                    change.apply(&mut file.content);
                }
            }
            Op::Naming(naming) => {
                naming.make_file(image);
                naming.apply(image);
            }
            Op::Sync(_) | Op::SyncNames => {}
        }
    }
}

impl Change {
    pub(super) fn apply(&self, content: &mut Content) {
        match self {
            Change::SetLen(len_bytes) => content.set_len(*len_bytes),
            _ => self.apply_part(self.range(), content),
        }
    }

    /// Applies only what lies in `part`, which is within [`range`](Change::range).
    pub(super) fn apply_part(&self, part: Range<u64>, content: &mut Content) {
        match self {
            Change::Write { offset, bytes } => {
                let inside = (part.start - offset) as usize..(part.end - offset) as usize;
                content.write(&bytes[inside], part.start);
            }
            Change::Punch(_) => content.clear(part),
            Change::Discard(_) => {
                let end = part.end.min(content.len_bytes());
                let len = end.saturating_sub(part.start) as usize;
                content.write(&vec![GARBAGE; len], part.start);
            }
            Change::SetLen(_) => {}
        }
    }

    /// The bytes that it puts or changes; a length change has none.
    pub(super) fn range(&self) -> Range<u64> {
        match self {
            Change::Write { offset, bytes } => *offset..offset + bytes.len() as u64,
            Change::Punch(range) | Change::Discard(range) => range.clone(),
            Change::SetLen(len_bytes) => *len_bytes..*len_bytes,
        }
    }
}

impl Naming {
    /// A created file exists as soon as it can be written, whether or not its name will last.
    fn make_file(&self, image: &mut Image) {
        if let Naming::Create(name, file) = self {
            image.files.insert(*file, File::empty(name));
        }
    }

    pub(super) fn apply(&self, image: &mut Image) {
        match self {
            Naming::Create(name, file) => {
                image.names.insert(name.clone(), *file);
            }
            Naming::Rename(from, to) => {
                if let Some(file) = image.names.remove(from) {
                    image.names.insert(to.clone(), file);
                }
            }
            Naming::Remove(name) => {
                image.names.remove(name);
            }
        }
    }
}

impl Picture {
    pub(super) fn new(start: Image) -> Self {
        Picture { after: 0, durable: start, changes: Vec::new(), namings: Vec::new() }
    }

    /// Takes in the next operation of the log.
    pub(super) fn advance(&mut self, op: &Op) {
        self.after += 1;
        match op {
            Op::Change(file, change) => {
                let (number, change) = (self.after, change.clone());
                self.changes.push(Pending { number, file: *file, change });
            }
            Op::Sync(synced) => {
                for pending in self.changes.extract_if(.., |pending| pending.file == *synced) {
                    Op::Change(*synced, pending.change).apply(&mut self.durable);
                }
            }
            Op::Naming(naming) => {
                naming.make_file(&mut self.durable);
                self.namings.push(naming.clone());
            }
            Op::SyncNames => {
                for naming in self.namings.drain(..) {
                    naming.apply(&mut self.durable);
                }
            }
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Change(_, change) => change.fmt(f),
            Op::Sync(_) => f.write_str("sync"),
            Op::Naming(Naming::Create(name, _)) => write!(f, "create {}", name.display()),
            Op::Naming(Naming::Rename(from, to)) => {
                write!(f, "rename {} to {}", from.display(), to.display())
            }
            Op::Naming(Naming::Remove(name)) => write!(f, "remove {}", name.display()),
            Op::SyncNames => f.write_str("sync the folder"),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Write { .. } => write!(f, "write {:?}", self.range()),
            Change::Punch(range) => write!(f, "punch {range:?}"),
            Change::Discard(range) => write!(f, "discard {range:?}"),
            Change::SetLen(len_bytes) => write!(f, "set the length to {len_bytes}"),
        }
    }
}
