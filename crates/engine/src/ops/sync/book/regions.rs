//! The digests of an image's regions in memory, and which of them may be kept.

use sync::native::{Digest, Shape};

/// What is known of each region.
pub(super) struct Regions {
    shape: Shape,
    digests: Vec<Option<Digest>>,
    flags: Vec<Flags>,
    unknown: u64,
    /// All below is final: it is not written any more.
    settled: u64,
    /// All that was forgotten lies below.
    front: u64,
}

/// Which digests are put down.
#[derive(Clone, Copy)]
pub(super) enum Which {
    /// All that are known.
    Known,
    /// What may be kept of an image that nobody writes any more: what is durable.
    Durable,
    /// What may be kept of an image that is being written: what is durable, and will not be written soon.
    LeftAlone,
}

/// More of one region.
#[derive(Clone, Copy, Default)]
struct Flags {
    /// Its digest was known before the flush that is under way, and it was not forgotten since.
    pending: bool,
    /// Its digest is that of bytes that are durable.
    durable: bool,
    /// The file that is kept now says its digest.
    kept: bool,
}

/// How far before the place where an image is being written its old digests are given up in what is kept: each write to a
/// region whose digest is kept costs a new file first.
const AHEAD_REGIONS: u64 = 1024;

impl Regions {
    /// Regions of which nothing is known.
    pub(super) fn new(shape: Shape) -> Self {
        let count = shape.regions() as usize;
        Regions {
            shape,
            digests: vec![None; count],
            flags: vec![Flags::default(); count],
            unknown: count as u64,
            settled: 0,
            front: 0,
        }
    }

    /// Takes over what was known of an image of another `shape`, where that has the same regions.
    ///
    /// What was kept was durable.
    pub(super) fn take_over(&mut self, shape: &Shape, digests: &[Option<Digest>]) {
        if shape.region_bytes != self.shape.region_bytes {
            return;
        }
        for (region, digest) in (0..self.shape.regions()).zip(digests) {
            if let Some(digest) = digest
                && shape.region(region) == self.shape.region(region)
            {
                self.learn(region, *digest);
                self.flags[region as usize].durable = true;
            }
        }
    }

    /// How the image is cut.
    pub(super) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The digest of a region, if it is known.
    pub(super) fn digest(&self, region: u64) -> Option<Digest> {
        *self.digests.get(region as usize)?
    }

    /// The digest of a region is that.
    pub(super) fn learn(&mut self, region: u64, digest: Digest) {
        let Some(known) = self.digests.get_mut(region as usize) else { return };
        let before = known.replace(digest);
        self.unknown -= u64::from(before.is_none());
        if before != Some(digest) {
            let flags = &mut self.flags[region as usize];
            *flags = Flags { kept: flags.kept, ..Flags::default() };
        }
    }

    /// The region is about to be written. Returns whether the file that is kept says its digest.
    pub(super) fn forget(&mut self, region: u64) -> bool {
        let Some(known) = self.digests.get_mut(region as usize) else { return false };
        self.unknown += u64::from(known.take().is_some());
        self.front = self.front.max(region + 1);
        let flags = &mut self.flags[region as usize];
        *flags = Flags { kept: flags.kept, ..Flags::default() };
        flags.kept
    }

    /// All below is final.
    pub(super) fn settle(&mut self, below: u64) {
        self.settled = self.settled.max(below);
    }

    /// A flush begins: what is known now is durable when it ends.
    pub(super) fn begin_flush(&mut self) {
        for (flags, digest) in self.flags.iter_mut().zip(&self.digests) {
            flags.pending = digest.is_some();
        }
    }

    /// It has ended well.
    pub(super) fn end_flush(&mut self) {
        for flags in &mut self.flags {
            flags.durable |= std::mem::take(&mut flags.pending);
        }
    }

    /// Those digests, for each region. There may be 16 MiB of them, so they are not copied.
    pub(super) fn chosen(&self, which: Which) -> impl Iterator<Item = Option<&Digest>> + Clone {
        let ahead = self.front.max(self.settled).saturating_add(AHEAD_REGIONS);
        let is_chosen = move |region: u64, flags: &Flags| match which {
            Which::Known => true,
            Which::Durable => flags.durable,
            Which::LeftAlone => flags.durable && (region < self.settled || region >= ahead),
        };
        let all = (0..).zip(self.digests.iter().zip(&self.flags));
        all.map(move |(region, (digest, flags))| {
            digest.as_ref().filter(|_| is_chosen(region, flags))
        })
    }

    /// Whether the file says now the digest of each region.
    pub(super) fn kept(&mut self, are_kept: impl IntoIterator<Item = bool>) {
        for (flags, is_kept) in self.flags.iter_mut().zip(are_kept) {
            flags.kept = is_kept;
        }
    }

    /// Whether the file says all that is known, and nothing else.
    pub(super) fn is_as_kept(&self) -> bool {
        self.digests.iter().zip(&self.flags).all(|(digest, flags)| digest.is_some() == flags.kept)
    }

    /// All that is known.
    pub(super) fn known(&self) -> &[Option<Digest>] {
        &self.digests
    }

    /// Whether the digests of all regions are known.
    pub(super) fn is_complete(&self) -> bool {
        self.unknown == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGIONS: u64 = 3 * AHEAD_REGIONS;

    fn regions() -> Regions {
        Regions::new(Shape::of(REGIONS << 20))
    }

    fn digest(region: u64) -> Digest {
        [(region as u8).wrapping_add(1); 32]
    }

    fn kept(regions: &Regions) -> Vec<u64> {
        let all = (0..).zip(regions.chosen(Which::LeftAlone));
        all.filter_map(|(region, digest)| digest.map(|_| region)).collect()
    }

    #[test]
    fn what_is_learnt_is_known_and_what_is_forgotten_is_not() {
        let mut regions = regions();
        (0..REGIONS).for_each(|region| regions.learn(region, digest(region)));
        assert!(regions.is_complete());
        regions.forget(5);
        regions.forget(5);
        assert_eq!((regions.digest(5), regions.is_complete()), (None, false));
        regions.learn(5, digest(9));
        assert_eq!((regions.digest(5), regions.is_complete()), (Some(digest(9)), true));
        regions.learn(REGIONS, digest(0));
        assert!(!regions.forget(REGIONS) && regions.digest(u64::MAX).is_none());
    }

    #[test]
    fn only_what_was_known_before_a_flush_and_not_written_since_is_kept() {
        let mut regions = regions();
        (0..8).for_each(|region| regions.learn(region, digest(region)));
        regions.settle(REGIONS);
        assert!(kept(&regions).is_empty());
        regions.begin_flush();
        regions.forget(3);
        regions.forget(4);
        regions.learn(4, digest(40));
        regions.learn(8, digest(8));
        regions.end_flush();
        assert_eq!(kept(&regions), [0, 1, 2, 5, 6, 7]);
        regions.begin_flush();
        regions.end_flush();
        assert_eq!(kept(&regions), [0, 1, 2, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn old_digests_are_kept_where_nothing_is_written_soon() {
        let mut regions = regions();
        let shape = *regions.shape();
        let old: Vec<_> = (0..REGIONS).map(|region| Some(digest(region))).collect();
        regions.take_over(&shape, &old);
        regions.settle(10);
        let expected = |front: u64| (0..10).chain(front + AHEAD_REGIONS..REGIONS);
        assert!(kept(&regions).into_iter().eq(expected(10)));
        assert!(!regions.forget(100), "nothing was kept yet");
        assert!(kept(&regions).into_iter().eq(expected(101)));
        let are_kept: Vec<bool> =
            regions.chosen(Which::LeftAlone).map(|digest| digest.is_some()).collect();
        regions.kept(are_kept);
        assert!(!regions.forget(101) && regions.forget(101 + AHEAD_REGIONS));
    }

    #[test]
    fn of_an_image_of_another_size_the_same_regions_are_taken_over() {
        let size = 10 << 20;
        let old: Vec<_> = (0..11).map(|region| Some(digest(region))).collect();
        for (new_size, same) in [(size, 10), (size + 7, 10), (size - 7, 9), (size + 100, 10)] {
            let mut regions = Regions::new(Shape::of(new_size));
            regions.take_over(&Shape::of(size + 100), &old);
            let known = regions.known().iter().flatten().count();
            assert_eq!(known, same + usize::from(new_size == size + 100), "{new_size}");
        }
        // Beyond 512 GiB regions are longer.
        let mut regions = Regions::new(Shape::of(1 << 40));
        regions.take_over(&Shape::of(size), &old);
        assert!(regions.known().iter().all(Option::is_none));
    }
}
