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
    proven: AtomicBool,
}

impl<'a> Sharing<'a> {
    /// Shares blocks of `source` with `target` at the same offsets, as `rule` says.
    pub(crate) fn new(source: &'a File, target: &'a File, rule: Reflink) -> Self {
        let refused = AtomicBool::new(rule == Reflink::Never);
        Sharing { source, target, rule, refused, proven: AtomicBool::new(false) }
    }

    /// Whether something has been shared, and nothing refused yet.
    pub(crate) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed) && self.may_work()
    }

    fn may_work(&self) -> bool {
        !self.refused.load(Ordering::Relaxed)
    }

    /// Shares `range`, whose ends are multiples of the filesystem's block or the end of the source. Returns
    /// whether it was done; if not, it has to be copied.
    ///
    /// # Errors
    ///
    /// `Unsupported` where blocks must be shared and cannot be.
    pub(crate) fn share(&self, range: &Range<u64>) -> Result<bool> {
        if !self.may_work() {
            return Ok(false);
        }
        match sys::clone_range(self.source, self.target, range.clone()) {
            Ok(()) => {
                self.proven.store(true, Ordering::Relaxed);
                Ok(true)
            }
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
