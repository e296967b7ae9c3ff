//! Names in a store: `<4 digits>/<64 digits>[.cacnk]`, and those of files under way.

use std::fmt::{self, Write};
use std::ops::Deref;

use digest::DIGEST_BYTES;
use image::{Error, ErrorKind, Result};

use crate::ChunkId;
use crate::store::Form;

/// The digits of a name that name its folder too.
const FOLDER_DIGITS: usize = 4;
const ID_DIGITS: usize = 2 * DIGEST_BYTES;
/// What casync puts behind the name of a compressed chunk, unless this variable has something else.
const SUFFIX: &str = ".cacnk";
const SUFFIX_VARIABLE: &str = "CASYNC_COMPRESSED_CHUNK_SUFFIX";
const SUFFIX_BYTES_MAX: usize = 64;
/// casync's files under way end so, behind 16 random digits; those of desync begin so.
const TEMPORARY_END: &str = ".tmp";
const TEMPORARY_DIGITS: usize = 16;
const TEMPORARY_OF_DESYNC: &[u8] = b".tmp-cacnk";

/// How the files of one store are named.
#[derive(Debug)]
pub(super) struct Layout {
    suffix: String,
}

/// What a file in one of the folders is, by its name.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Chunk(ChunkId, Form),
    /// A chunk under way, or what was left of one.
    Temporary,
    /// None of ours: left alone.
    Foreign,
}

impl Layout {
    /// `suffix` for compressed chunks; without it that of casync's environment, or `.cacnk`.
    pub(super) fn new(suffix: Option<&str>) -> Result<Self> {
        let from_environment = || std::env::var(SUFFIX_VARIABLE).ok();
        let given = suffix.map(str::to_string).or_else(from_environment);
        let suffix = given.filter(|text| !text.is_empty()).unwrap_or_else(|| SUFFIX.into());
        if suffix.len() > SUFFIX_BYTES_MAX || suffix.contains(['/', '\0']) {
            let sentence = format!(
                "{suffix:?} cannot end the name of a chunk ({SUFFIX_VARIABLE}): \
                 at most {SUFFIX_BYTES_MAX} bytes without a slash"
            );
            return Err(Error::new(ErrorKind::Invalid, sentence));
        }
        Ok(Layout { suffix })
    }

    /// The path of a chunk below the store.
    pub(super) fn chunk(&self, id: &ChunkId, form: Form) -> Name {
        let mut name = Name::of(id);
        if form == Form::Compressed {
            name.push(format_args!("{}", self.suffix));
        }
        name
    }

    /// The path of a chunk under way.
    pub(super) fn temporary(id: &ChunkId, random: u64) -> Name {
        let mut name = Name::of(id);
        name.push(format_args!(".{random:016x}{TEMPORARY_END}"));
        name
    }

    /// What the file `name` is in the folder `folder`.
    pub(super) fn entry(&self, folder: &[u8], name: &[u8]) -> Entry {
        if name.starts_with(TEMPORARY_OF_DESYNC) {
            return Entry::Temporary;
        }
        let Some((digits, rest)) = name.split_at_checked(ID_DIGITS) else {
            return Entry::Foreign;
        };
        match ChunkId::from_hex(digits) {
            Some(id) if digits.starts_with(folder) => match rest {
                b"" => Entry::Chunk(id, Form::Plain),
                _ if rest == self.suffix.as_bytes() => Entry::Chunk(id, Form::Compressed),
                _ if ends_temporary(rest) => Entry::Temporary,
                _ => Entry::Foreign,
            },
            _ => Entry::Foreign,
        }
    }
}

/// Whether chunks may lie in a folder of this name.
pub(super) fn is_folder(name: &[u8]) -> bool {
    name.len() == FOLDER_DIGITS && name.iter().all(is_digit)
}

fn ends_temporary(rest: &[u8]) -> bool {
    let random =
        rest.strip_prefix(b".").and_then(|rest| rest.strip_suffix(TEMPORARY_END.as_bytes()));
    random.is_some_and(|random| random.len() == TEMPORARY_DIGITS && random.iter().all(is_digit))
}

fn is_digit(letter: &u8) -> bool {
    matches!(letter, b'0'..=b'9' | b'a'..=b'f')
}

/// A short path below the store, without memory of its own: one is made for each call of the system.
pub(super) struct Name {
    bytes: [u8; NAME_BYTES],
    len: usize,
}

const NAME_BYTES: usize = FOLDER_DIGITS + 1 + ID_DIGITS + SUFFIX_BYTES_MAX;

impl Name {
    fn of(id: &ChunkId) -> Self {
        let mut name = Name { bytes: [0; NAME_BYTES], len: FOLDER_DIGITS };
        name.push(format_args!("/{id}"));
        name.bytes.copy_within(FOLDER_DIGITS + 1..2 * FOLDER_DIGITS + 1, 0);
        name
    }

    fn push(&mut self, text: fmt::Arguments<'_>) {
        self.write_fmt(text).expect("it is long enough for the longest name");
    }

    /// The folder in it.
    pub(super) fn folder(&self) -> &[u8] {
        &self.bytes[..FOLDER_DIGITS]
    }
}

impl Write for Name {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let free = self.bytes.get_mut(self.len..self.len + text.len()).ok_or(fmt::Error)?;
        free.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

impl Deref for Name {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// As it is shown.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&String::from_utf8_lossy(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "c672b8d1ef56ed28ab87c3622c5114069bdd3ad7b8f9737498d0c01ecef0967a";

    #[test]
    fn names_are_those_of_casync() {
        let (layout, id) = (Layout::new(None).unwrap(), ID.parse().unwrap());
        let compressed = layout.chunk(&id, Form::Compressed);
        assert_eq!(compressed.to_string(), format!("c672/{ID}.cacnk"));
        assert_eq!(compressed.folder(), b"c672");
        assert_eq!(layout.chunk(&id, Form::Plain).to_string(), format!("c672/{ID}"));
        let temporary = Layout::temporary(&id, 0xabc).to_string();
        assert_eq!(temporary, format!("c672/{ID}.0000000000000abc.tmp"));
    }

    #[test]
    fn only_exact_names_are_chunks() {
        let (layout, id) = (Layout::new(None).unwrap(), ID.parse().unwrap());
        let entry = |folder: &str, name: &str| layout.entry(folder.as_bytes(), name.as_bytes());
        assert_eq!(entry("c672", ID), Entry::Chunk(id, Form::Plain));
        assert_eq!(entry("c672", &format!("{ID}.cacnk")), Entry::Chunk(id, Form::Compressed));
        for temporary in [&format!("{ID}.0123456789abcdef.tmp"), ".tmp-cacnk123"] {
            assert_eq!(entry("c672", temporary), Entry::Temporary);
        }
        for foreign in [
            "",
            "README",
            &ID[1..],
            &ID.to_uppercase(),
            &format!("{ID}.xz"),
            &format!("{ID}.cacnk.aes-256-gcm-00112233"),
            &format!("{ID}.0123456789abcde.tmp"),
            &format!("{ID}.0123456789abcdeg.tmp"),
        ] {
            assert_eq!(entry("c672", foreign), Entry::Foreign, "{foreign}");
        }
        assert_eq!(entry("c673", ID), Entry::Foreign, "it lies in the wrong folder");
        assert!(is_folder(b"c672") && !is_folder(b"C672") && !is_folder(b"c67"));
    }

    #[test]
    fn another_suffix_is_taken_if_it_can_end_a_name() {
        let id = ID.parse().unwrap();
        let old = Layout::new(Some(".xz")).unwrap();
        assert_eq!(old.chunk(&id, Form::Compressed).to_string(), format!("c672/{ID}.xz"));
        let longest = "x".repeat(SUFFIX_BYTES_MAX);
        Layout::new(Some(&longest)).unwrap().chunk(&id, Form::Compressed);
        for bad in ["/x", &"x".repeat(SUFFIX_BYTES_MAX + 1)] {
            assert_eq!(Layout::new(Some(bad)).unwrap_err().kind(), ErrorKind::Invalid);
        }
    }
}
