//! The first 32 bytes of each direction: which versions an end speaks, and what it wishes.

use std::ops::RangeInclusive;

use image::{Error, ErrorKind, Result};

use super::{MAGIC, VERSIONS};

/// Length of a hello in bytes.
pub(super) const HELLO_BYTES: usize = 32;

const WANTS_NO_COMPRESSION: u32 = 1;
const WANTS_DRY_RUN: u32 = 2;

/// What an end says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) versions: RangeInclusive<u16>,
    pub(super) compress: bool,
    pub(super) dry_run: bool,
}

impl Hello {
    pub(super) fn of(compress: bool, dry_run: bool) -> Self {
        Hello { versions: VERSIONS, compress, dry_run }
    }

    pub(super) fn to_bytes(&self) -> [u8; HELLO_BYTES] {
        let mut flags = 0;
        if !self.compress {
            flags |= WANTS_NO_COMPRESSION;
        }
        if self.dry_run {
            flags |= WANTS_DRY_RUN;
        }
        let mut bytes = [0; HELLO_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&self.versions.start().to_le_bytes());
        bytes[10..12].copy_from_slice(&self.versions.end().to_le_bytes());
        bytes[12..16].copy_from_slice(&u32::to_le_bytes(flags));
        bytes
    }

    /// # Errors
    ///
    /// `Damaged` for what is no hello.
    pub(super) fn from_bytes(bytes: &[u8; HELLO_BYTES]) -> Result<Self> {
        if bytes[..8] != MAGIC {
            let sentence = format!(
                "the other end does not speak blockprint's sync protocol: it begins with \"{}\"",
                bytes[..8].escape_ascii()
            );
            return Err(Error::new(ErrorKind::Damaged, sentence));
        }
        let number = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let flags = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
        Ok(Hello {
            versions: number(8)..=number(10),
            compress: flags & WANTS_NO_COMPRESSION == 0,
            dry_run: flags & WANTS_DRY_RUN != 0,
        })
    }

    /// What both ends make of it: the version that is spoken, whether data is compressed, whether it is a dry run.
    ///
    /// # Errors
    ///
    /// `Unsupported` if there is no version that both speak.
    pub(super) fn meet(&self, other: &Hello) -> Result<Agreed> {
        let version = *self.versions.end().min(other.versions.end());
        if version < *self.versions.start().max(other.versions.start()) {
            let words = |versions: &RangeInclusive<u16>| match (versions.start(), versions.end()) {
                (one, other) if one == other => format!("version {one}"),
                (oldest, newest) => format!("versions {oldest} to {newest}"),
            };
            let sentence = format!(
                "this end speaks {} of the sync protocol, the other end {}: install the same blockprint on both",
                words(&self.versions),
                words(&other.versions)
            );
            return Err(Error::new(ErrorKind::Unsupported, sentence));
        }
        Ok(Agreed {
            compress: self.compress && other.compress,
            dry_run: self.dry_run || other.dry_run,
        })
    }
}

/// How the two ends will work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Agreed {
    pub(super) compress: bool,
    pub(super) dry_run: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_is_read_as_it_was_written() {
        for (compress, dry_run) in [(false, false), (false, true), (true, false), (true, true)] {
            let hello = Hello::of(compress, dry_run);
            assert_eq!(Hello::from_bytes(&hello.to_bytes()).unwrap(), hello);
        }
        assert_eq!(
            Hello::of(false, true).to_bytes()[..16],
            *b"BLKPSYNC\x01\x00\x01\x00\x03\x00\x00\x00"
        );
    }

    #[test]
    fn what_is_unknown_in_a_hello_is_ignored() {
        let mut bytes = Hello::of(true, false).to_bytes();
        bytes[12] |= 0x80;
        bytes[15] = 0xff;
        bytes[16..].fill(0xee);
        assert_eq!(Hello::from_bytes(&bytes).unwrap(), Hello::of(true, false));
    }

    #[test]
    fn ends_speak_the_newest_version_that_both_know_or_say_why_not() {
        let speaks = |versions| Hello { versions, compress: true, dry_run: false };
        assert!(speaks(1..=3).meet(&speaks(2..=9)).is_ok());
        assert!(speaks(1..=3).meet(&speaks(3..=3)).is_ok());
        let error = speaks(1..=3).meet(&speaks(4..=5)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(
            error.to_string(),
            "this end speaks versions 1 to 3 of the sync protocol, the other end versions 4 to 5: \
             install the same blockprint on both"
        );
        // A range that ends before it begins meets nobody.
        let (low, high) = (2, 1);
        assert!(speaks(1..=3).meet(&speaks(low..=high)).is_err());
    }
}
