//! What an interrupted copy has finished, in a small file: enough to go on, and to refuse when things changed.
//!
//! The file is text, one fact a line, replaced as a whole at each checkpoint. Invariant: a range that it calls
//! done was durable on the target before the journal was written.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use image::ranges::RangeSet;
use image::{Error, ErrorKind, Folder, Result};

use crate::folders::beside;
use crate::publish::replace_small;
use crate::registry::Identity;

/// The journal of one copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Journal {
    /// What was being read.
    pub(crate) source: Identity,
    /// What was being written; of a file, only which one it is.
    pub(crate) target: Identity,
    /// Size of the image in bytes.
    pub(crate) size_bytes: u64,
    /// What is on the target.
    pub(crate) done: RangeSet,
    /// What could not be read, and stands on the target as zeroes; part of `done`.
    pub(crate) unreadable: RangeSet,
}

/// First line of the file. The number changes with the meaning of any line.
const HEADER: &str = "blockprint copy journal 2";
/// Last line: a file without it was cut.
const FOOTER: &str = "end";
/// Larger than any journal: a million ranges.
const LEN_MAX_BYTES: u64 = 64 << 20;

impl Journal {
    /// Reads the journal `name` in `folder`; `None` if there is none.
    pub(crate) fn load(folder: &dyn Folder, name: &OsStr) -> Result<Option<Journal>> {
        let medium = match folder.open(name) {
            Ok(medium) => medium,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let len = medium.len()?;
        let damaged = || {
            let sentence = format!(
                "{} is no journal of a copy, or damaged (remove it, and copy without --resume)",
                medium.name()
            );
            Error::new(ErrorKind::Damaged, sentence).at(medium.name(), None)
        };
        if len > LEN_MAX_BYTES {
            return Err(damaged());
        }
        let mut bytes = vec![0; len as usize];
        medium.read_at(&mut bytes, 0)?;
        let text = std::str::from_utf8(&bytes).ok();
        text.and_then(Journal::from_text).map(Some).ok_or_else(damaged)
    }

    /// Writes it as `name` in `folder`, replacing an earlier one.
    pub(crate) fn store(&self, folder: &dyn Folder, name: &OsStr) -> Result<()> {
        replace_small(folder, &beside(name, ".new"), name, self.to_text().as_bytes())
    }

    /// Removes `name`, and what an interrupted [`store`](Journal::store) may have left beside it. It does not
    /// come back: what is written to the target from now on is not what it says.
    pub(crate) fn remove(folder: &dyn Folder, name: &OsStr) -> Result<()> {
        folder.remove(&beside(name, ".new"))?;
        match folder.open(name) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            _ => {
                folder.remove(name)?;
                folder.sync()
            }
        }
    }

    fn to_text(&self) -> String {
        let mut text = format!("{HEADER}\n");
        let lines = [
            format!("source {}", identity_to_text(&self.source)),
            format!("target {}", identity_to_text(&self.target)),
            format!("size {}", self.size_bytes),
        ];
        let ranges = |word: &str, set: &RangeSet| {
            set.iter().map(|range| format!("{word} {} {}", range.start, range.end)).collect()
        };
        let done: Vec<String> = ranges("done", &self.done);
        let unreadable: Vec<String> = ranges("unreadable", &self.unreadable);
        for line in lines.into_iter().chain(done).chain(unreadable) {
            let _ = writeln!(text, "{line}");
        }
        text + FOOTER + "\n"
    }

    fn from_text(text: &str) -> Option<Journal> {
        let body = text.strip_prefix(HEADER)?.strip_prefix('\n')?;
        let body = body.strip_suffix('\n')?.strip_suffix(FOOTER)?;
        let mut lines = body.lines();
        let source = identity_from_text(lines.next()?.strip_prefix("source ")?)?;
        let target = identity_from_text(lines.next()?.strip_prefix("target ")?)?;
        let size_bytes = lines.next()?.strip_prefix("size ")?.parse().ok()?;
        let (mut done, mut unreadable) = (RangeSet::new(), RangeSet::new());
        for line in lines {
            let mut words = line.split(' ');
            let set = match words.next()? {
                "done" => &mut done,
                "unreadable" => &mut unreadable,
                _ => return None,
            };
            let range = words.next()?.parse().ok()?..words.next()?.parse().ok()?;
            if range.start >= range.end || range.end > size_bytes || words.next().is_some() {
                return None;
            }
            set.insert(range);
        }
        Some(Journal { source, target, size_bytes, done, unreadable })
    }
}

fn identity_to_text(identity: &Identity) -> String {
    match identity {
        Identity::File { inode, size_bytes, time_ns } => {
            format!("file {inode} {size_bytes} {time_ns}")
        }
        Identity::Device { path, size_bytes } => {
            format!("device {size_bytes} {}", escape(path.as_os_str()))
        }
    }
}

fn identity_from_text(text: &str) -> Option<Identity> {
    let words: Vec<&str> = text.split(' ').collect();
    match words[..] {
        ["file", inode, size, modified] => Some(Identity::File {
            inode: inode.parse().ok()?,
            size_bytes: size.parse().ok()?,
            time_ns: modified.parse().ok()?,
        }),
        ["device", size, path] => Some(Identity::Device {
            path: PathBuf::from(unescape(path)?),
            size_bytes: size.parse().ok()?,
        }),
        _ => None,
    }
}

/// A path as one word: bytes that are no plain letters become `%XX`.
fn escape(path: &OsStr) -> String {
    path.as_bytes().iter().fold(String::new(), |mut text, &byte| {
        match byte {
            b'%' | 0..=b' ' | 0x7f.. => {
                let _ = write!(text, "%{byte:02x}");
            }
            _ => text.push(char::from(byte)),
        }
        text
    })
}

fn unescape(text: &str) -> Option<OsString> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    Some(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Journal {
        let file = Identity::File { inode: 77, size_bytes: 1 << 40, time_ns: -3 };
        let path = PathBuf::from(OsString::from_vec(b"/dev/my disk%\xff".to_vec()));
        let device = Identity::Device { path, size_bytes: 1 << 41 };
        let done = [0..4096, 8192..1 << 30].into_iter().collect();
        let unreadable = std::iter::once(8192..12288).collect();
        Journal { source: file, target: device, size_bytes: 1 << 40, done, unreadable }
    }

    #[test]
    fn a_journal_reads_back_as_it_was() {
        assert_eq!(Journal::from_text(&sample().to_text()), Some(sample()));
    }

    #[test]
    fn each_cut_of_a_journal_is_refused() {
        let text = sample().to_text();
        for end in 0..text.len() {
            assert_eq!(Journal::from_text(&text[..end]), None, "cut at {end}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic_and_never_claims_past_the_end(
            at in 0usize..200, with in "[ -~\n]{0,20}",
        ) {
            let mut text = sample().to_text();
            let at = at.min(text.len());
            text.replace_range(at..(at + with.len()).min(text.len()), &with);
            if let Some(journal) = Journal::from_text(&text) {
                prop_assert!(journal.done.iter().all(|range| range.end <= journal.size_bytes));
            }
        }
    }
}
