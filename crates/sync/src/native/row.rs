//! The digests of all regions of one end, as threads find them.

use std::collections::BTreeMap;

use super::Digest;

/// Digests in order. Threads take regions in ascending order and finish them in almost that order.
#[derive(Default)]
pub(super) struct Row {
    done: Vec<Digest>,
    /// Those that are there before one in front of them: at most as many as there are threads.
    early: BTreeMap<u64, Digest>,
    /// The next region of which nobody takes the digest yet.
    next: u64,
}

impl Row {
    /// The next region whose digest is to be taken.
    pub(super) fn take(&mut self, count: u64) -> Option<u64> {
        let number = self.next;
        (number < count).then(|| {
            self.next += 1;
            number
        })
    }

    /// The digest of a region that was taken.
    pub(super) fn put(&mut self, number: u64, digest: Digest) {
        self.early.insert(number, digest);
        while let Some(digest) = self.early.remove(&(self.done.len() as u64)) {
            self.done.push(digest);
        }
    }

    /// Another digest for a region that has one.
    pub(super) fn replace(&mut self, number: u64, digest: Digest) {
        if let Some(old) = self.done.get_mut(number as usize) {
            *old = digest;
        }
    }

    /// The digests of all regions below the first whose digest is not known.
    pub(super) fn done(&self) -> &[Digest] {
        &self.done
    }
}
