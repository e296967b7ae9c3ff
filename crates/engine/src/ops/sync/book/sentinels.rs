//! Samples of what is said to be known: enough to see that another program has made something else of a medium.

use digest::blake3::Hasher;
use image::{Image, Result};
use sync::native::{Digest, Shape};

/// How many regions are looked at between the first and the last that are known.
const BETWEEN: u64 = 8;
/// How much is read at once, in bytes.
const PIECE_BYTES: usize = 256 << 10;

/// Whether the first known region, the last one, and a few that `seed` chooses hold what `digests` say. Filesystems,
/// partition tables and containers change their first region whenever they are used for writing.
pub(super) fn hold(
    image: &dyn Image,
    shape: &Shape,
    digests: &[Option<Digest>],
    seed: u64,
) -> Result<bool> {
    let known: Vec<(u64, Digest)> =
        (0..).zip(digests).filter_map(|(region, digest)| Some((region, (*digest)?))).collect();
    for (region, digest) in chosen(&known, seed) {
        let range = shape.region(region);
        if range.end > image.size() {
            return Ok(false);
        }
        let mut hasher = Hasher::new();
        let mut buf = vec![0; PIECE_BYTES];
        let mut at = range.start;
        while at < range.end {
            let len = (range.end - at).min(PIECE_BYTES as u64) as usize;
            image.read_at(&mut buf[..len], at)?;
            hasher.update(&buf[..len]);
            at += len as u64;
        }
        if hasher.finish() != digest {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The first, the last, and some between.
fn chosen(known: &[(u64, Digest)], seed: u64) -> Vec<(u64, Digest)> {
    let count = known.len() as u64;
    // Weyl's sequence: any seed spreads well.
    let between = (1..=BETWEEN).map(|step| {
        let random = seed.wrapping_add(step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        ((u128::from(random) * u128::from(count)) >> 64) as u64
    });
    let mut places: Vec<u64> = match count {
        0 => Vec::new(),
        _ => [0, count - 1].into_iter().chain(between).collect(),
    };
    places.sort_unstable();
    places.dedup();
    places.into_iter().map(|place| known[place as usize]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use digest::blake3;
    use formats::raw::RawImage;
    use image::{Medium, MemoryMedium};

    const SIZE: u64 = (40 << 20) + 5;

    fn content() -> (Vec<u8>, Vec<Option<Digest>>) {
        let mut bytes = vec![0; SIZE as usize];
        fastrand::Rng::with_seed(1).fill(&mut bytes);
        let digests = bytes.chunks(1 << 20).map(|region| Some(blake3::hash(region))).collect();
        (bytes, digests)
    }

    fn holds(bytes: &[u8], digests: &[Option<Digest>]) -> bool {
        let medium = MemoryMedium::new("memory", 0);
        medium.write_at(bytes, 0).unwrap();
        let image = RawImage::open(medium).unwrap();
        hold(&image, &Shape::of(SIZE), digests, 12345).unwrap()
    }

    #[test]
    fn what_is_as_it_was_holds_and_a_changed_beginning_or_end_does_not() {
        let (bytes, mut digests) = content();
        assert!(holds(&bytes, &digests));
        for at in [0, SIZE as usize - 1] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(!holds(&changed, &digests), "changed at {at}");
        }
        assert!(!holds(&bytes[..bytes.len() - 1], &digests), "it became shorter");
        // Only what is said to be known is looked at.
        let mut changed = bytes;
        changed[0] ^= 1;
        digests[0] = None;
        assert!(holds(&changed, &digests));
        assert!(holds(&[], &[None, None]));
    }

    #[test]
    fn ten_different_regions_are_chosen_among_many() {
        let known: Vec<_> = (0..1000).map(|region| (region, [0; 32])).collect();
        for seed in [0, 1, u64::MAX, 0x1234_5678_9abc_def0] {
            let chosen = chosen(&known, seed);
            assert!(chosen.len() > 7, "{}", chosen.len());
            assert!(chosen.first().unwrap().0 == 0 && chosen.last().unwrap().0 == 999);
        }
    }
}
