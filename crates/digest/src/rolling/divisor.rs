//! The test `hash % divisor == divisor - 1` without a division, for any divisor.

/// A divisor, as constants that replace it.
///
/// A processor with products of 64 bits asks whether the fraction of `(hash + 1) / divisor` is 0, with the reciprocal
/// in units of 2^-64, rounded up: [`passes`](Self::passes). The error stays below one reciprocal for every
/// `hash + 1` up to 2^32, so that this is exact for every divisor.
///
/// Vectors have products of 32 bits. There, with `divisor = 2^s * odd`, `hash + 1` has to be a multiple of both
/// factors. Multiplication by the inverse of `odd` modulo 2^32 maps the multiples of `odd` onto their quotients, which
/// are the small numbers, and all others onto larger ones. Multiples of 2^s keep their `s` low zeros in this, and a
/// rotation makes all other numbers large. So a hash passes when
///
/// ```text
/// lowest <= rotate_right((hash + 1) * multiplier, rotation) <= highest
/// ```
///
/// The hash `u32::MAX` is the one trap: there `hash + 1` is 2^32, a multiple of powers of two only, but wraps to 0, a
/// multiple of everything. For divisors that are no power of two, the lowest quotient is therefore 1. Since nothing
/// but this one hash gives 0, a first look may leave the lowest out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Divisor {
    /// 2^64 divided by the divisor, rounded up; 0 instead of 2^64.
    reciprocal: u64,
    /// The inverse of the odd factor.
    pub(super) multiplier: u32,
    /// The `s` of 2^s; 0 for odd divisors, so that their kernels leave the rotation out.
    pub(super) rotation: u32,
    /// The least quotient that passes.
    pub(super) lowest: u32,
    /// The largest quotient that passes.
    pub(super) highest: u32,
}

impl Divisor {
    /// The constants for a divisor of at least 1.
    pub(super) const fn new(divisor: u32) -> Self {
        assert!(divisor > 0, "a divisor of zero");
        let reciprocal = (u64::MAX / divisor as u64).wrapping_add(1);
        let rotation = divisor.trailing_zeros();
        let multiplier = inverse(divisor >> rotation);
        let lowest = if divisor.is_power_of_two() { 0 } else { 1 };
        Divisor { reciprocal, multiplier, rotation, lowest, highest: u32::MAX / divisor }
    }

    /// Whether `hash % divisor == divisor - 1`.
    #[inline(always)]
    pub(super) const fn passes(&self, hash: u32) -> bool {
        let product = (hash as u64).wrapping_mul(self.reciprocal);
        product.wrapping_add(self.reciprocal) <= self.reciprocal.wrapping_sub(1)
    }
}

/// The inverse of an odd number modulo 2^32. Each step doubles the right bits, of which an odd number as its own
/// inverse has three.
const fn inverse(odd: u32) -> u32 {
    let mut inverse = odd;
    let mut right_bits = 3;
    while right_bits < 32 {
        inverse = inverse.wrapping_mul(2u32.wrapping_sub(odd.wrapping_mul(inverse)));
        right_bits *= 2;
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agrees(divisor: u32, constants: &Divisor, hash: u32) {
        let expected = hash % divisor == divisor - 1;
        assert_eq!(constants.passes(hash), expected, "divisor {divisor}, hash {hash}");
        let product = hash.wrapping_add(1).wrapping_mul(constants.multiplier);
        let quotient = product.rotate_right(constants.rotation);
        let passes = (constants.lowest..=constants.highest).contains(&quotient);
        assert_eq!(passes, expected, "divisor {divisor}, hash {hash}, as a vector");
    }

    /// Hashes around the first, the last and some other multiples, and around the ends of the range.
    fn agrees_at_the_edges(divisor: u32) {
        let constants = Divisor::new(divisor);
        let largest = u32::MAX / divisor;
        for quotient in [0, 1, 2, 3, largest / 2, largest.saturating_sub(1), largest] {
            let Some(multiple) = divisor.checked_mul(quotient) else { continue };
            for hash in multiple.saturating_sub(2)..=multiple.saturating_add(2) {
                agrees(divisor, &constants, hash);
            }
        }
        for hash in [0, 1, 2, u32::MAX / 2, u32::MAX / 2 + 1, u32::MAX - 2, u32::MAX - 1, u32::MAX]
        {
            agrees(divisor, &constants, hash);
        }
    }

    #[test]
    fn the_test_agrees_with_the_remainder_at_the_edges_of_very_many_divisors() {
        (1..50_000).for_each(agrees_at_the_edges);
        (u32::MAX - 10_000..=u32::MAX).for_each(agrees_at_the_edges);
        for shift in 0..32 {
            let power = 1u32 << shift;
            (power.saturating_sub(50).max(1)..=power.saturating_add(50))
                .for_each(agrees_at_the_edges);
            for odd in (1u32..2000).step_by(2) {
                odd.checked_mul(power).into_iter().for_each(agrees_at_the_edges);
            }
        }
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..50_000 {
            agrees_at_the_edges(random.u32(1..));
            agrees_at_the_edges((random.u32(1..) >> random.u32(0..32)) | 1);
        }
    }

    #[test]
    fn the_test_agrees_with_the_remainder_on_random_hashes() {
        let mut random = fastrand::Rng::with_seed(2);
        let chosen = [1, 2, 3, 48, 192, 768, 3075, 49_535, 61_440, 99_777, 5_721_670, 134_217_728];
        let others =
            (0..200).map(|_| (random.u32(1..) >> random.u32(0..32)) | 1).collect::<Vec<_>>();
        for divisor in chosen.into_iter().chain(others) {
            let constants = Divisor::new(divisor);
            for _ in 0..5_000 {
                agrees(divisor, &constants, random.u32(..));
                let multiple = random.u32(..) / divisor * divisor;
                agrees(divisor, &constants, multiple.wrapping_sub(1));
            }
        }
    }

    #[test]
    fn every_hash_of_a_small_range_is_decided_as_by_the_remainder() {
        for divisor in 1..300 {
            let constants = Divisor::new(divisor);
            (0..3000).for_each(|hash| agrees(divisor, &constants, hash));
            (u32::MAX - 3000..=u32::MAX).for_each(|hash| agrees(divisor, &constants, hash));
        }
    }

    #[test]
    fn the_largest_hash_passes_for_powers_of_two_only() {
        for shift in 0..32 {
            let power = 1u32 << shift;
            agrees(power, &Divisor::new(power), u32::MAX);
            assert!(Divisor::new(power).passes(u32::MAX));
            // 641 divides 2^32 + 1: no odd number comes closer to 2^32 with a multiple.
            for divisor in [3, 5, 641, 49_535].into_iter().filter_map(|odd| power.checked_mul(odd))
            {
                agrees(divisor, &Divisor::new(divisor), u32::MAX);
                assert!(!Divisor::new(divisor).passes(u32::MAX), "{divisor}");
            }
        }
    }
}
