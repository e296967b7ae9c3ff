//! Sharing blocks between two files instead of writing them a second time (reflinks).

use std::fs::File;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use image::{Error, ErrorKind, Result};

use crate::reflink::{Reflink, is_unsupported};

/// Two files on one filesystem that may be able to share blocks. Learns from the first refusal.
#[derive(Debug)]
pub(crate) struct Sharing<'a> {
    source: &'a File,
    target: &'a File,
    rule: Reflink,
    refused: AtomicBool,
}

impl<'a> Sharing<'a> {
    /// Shares blocks of `source` with `target` at the same offsets, as `rule` says.
    pub(crate) fn new(source: &'a File, target: &'a File, rule: Reflink) -> Self {
        Sharing { source, target, rule, refused: AtomicBool::new(rule == Reflink::Never) }
    }

    /// Whether nothing has been refused yet.
    pub(crate) fn works(&self) -> bool {
        !self.refused.load(Ordering::Relaxed)
    }

    /// Shares `range`, whose ends are multiples of the filesystem's block or the end of the source. Returns
    /// whether it was done; if not, it has to be copied.
    ///
    /// # Errors
    ///
    /// `Unsupported` where blocks must be shared and cannot be.
    pub(crate) fn share(&self, range: &Range<u64>) -> Result<bool> {
        if !self.works() {
            return Ok(false);
        }
        match sys::clone_range(self.source, self.target, range.clone()) {
            Ok(()) => Ok(true),
            Err(cause) if is_unsupported(&cause) => match self.rule {
                Reflink::Always => Err(impossible().because(cause)),
                _ => {
                    self.refused.store(true, Ordering::Relaxed);
                    Ok(false)
                }
            },
            Err(cause) => Err(Error::io("cannot share blocks with the target", cause)),
        }
    }
}

/// The error where blocks must be shared and cannot be.
pub(super) fn impossible() -> Error {
    let sentence = "the two cannot share blocks (both have to be files on one filesystem that can, such as XFS \
                    or Btrfs)";
    Error::new(ErrorKind::Unsupported, sentence)
}
