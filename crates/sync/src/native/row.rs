//! The digests of all regions of one end, as threads find them.

use super::Digest;

/// Digests in order. Threads take regions in ascending order and finish them in almost any.
#[derive(Default)]
pub(super) struct Row {
    /// Also those that are there before one in front of them, which may be nearly all: zeroes are quicker than data.
    digests: Vec<Digest>,
    is_there: Vec<bool>,
    /// How many are there without a gap.
    done: usize,
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
        let number = number as usize;
        if self.digests.len() <= number {
            self.digests.resize(number + 1, [0; 32]);
            self.is_there.resize(number + 1, false);
        }
        self.digests[number] = digest;
        self.is_there[number] = true;
        self.done += self.is_there[self.done..].iter().take_while(|is_there| **is_there).count();
    }

    /// Another digest for a region that has one.
    pub(super) fn replace(&mut self, number: u64, digest: Digest) {
        if number < self.done as u64 {
            self.digests[number as usize] = digest;
        }
    }

    /// The digests of all regions below the first whose digest is not known.
    pub(super) fn done(&self) -> &[Digest] {
        &self.digests[..self.done]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_done_in_order_however_they_come() {
        let mut row = Row::default();
        let taken: Vec<u64> = std::iter::from_fn(|| row.take(5)).collect();
        assert_eq!(taken, [0, 1, 2, 3, 4]);
        for (number, done) in [(3, 0), (1, 0), (0, 2), (4, 2), (2, 5)] {
            row.put(number, [number as u8 + 1; 32]);
            assert_eq!(row.done().len(), done, "after {number}");
        }
        row.replace(3, [9; 32]);
        assert_eq!(row.done().iter().map(|digest| digest[0]).collect::<Vec<_>>(), [1, 2, 3, 9, 5]);
    }
}
