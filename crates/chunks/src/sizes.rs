//! How large chunks are: smallest, average, largest, and the divisor that follows from them.

use std::fmt;

use digest::rolling::WINDOW_BYTES;
use image::{Error, ErrorKind, Result};

/// No chunk is larger, in bytes (casync: 128 MiB).
pub const MAX_CHUNK_BYTES: u64 = 128 << 20;

/// Above this average the divisor approaches its pole: cuts by content become rare, and chunks mostly have the
/// largest size. In bytes.
pub const RARE_CUTS_ABOVE_BYTES: u64 = 7_574_944;

/// Sizes of chunks in bytes: `1 <= min <= avg <= max <=` [`MAX_CHUNK_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkSizes {
    min: u64,
    avg: u64,
    max: u64,
}

impl Default for ChunkSizes {
    /// 16, 64 and 256 KiB, the default of casync and desync.
    fn default() -> Self {
        ChunkSizes { min: 16 << 10, avg: 64 << 10, max: 256 << 10 }
    }
}

impl ChunkSizes {
    /// Sizes as an index may state them.
    ///
    /// # Errors
    ///
    /// `Invalid` unless `1 <= min <= avg <= max <=` [`MAX_CHUNK_BYTES`].
    pub fn new(min: u64, avg: u64, max: u64) -> Result<Self> {
        if min == 0 || min > avg || avg > max || max > MAX_CHUNK_BYTES {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "chunk sizes {min}:{avg}:{max} make no sense: 1 <= min <= avg <= max <= {MAX_CHUNK_BYTES} is needed"
                ),
            ));
        }
        Ok(ChunkSizes { min, avg, max })
    }

    /// The sizes that casync derives from an average: a quarter and four times of it.
    ///
    /// # Errors
    ///
    /// `Invalid` for 0 and for more than [`MAX_CHUNK_BYTES`].
    pub fn around(avg: u64) -> Result<Self> {
        Self::new((avg / 4).max(1), avg, avg.saturating_mul(4).min(MAX_CHUNK_BYTES))
    }

    /// Sizes that chunks can be cut with: below the 48 bytes of the rolling hash, no chunk can end.
    ///
    /// # Errors
    ///
    /// `Invalid` if the largest is below 48 bytes.
    pub fn for_cutting(self) -> Result<Self> {
        if self.max < WINDOW_BYTES as u64 {
            let sentence = format!(
                "chunks of at most {} bytes cannot be cut: the rolling hash covers {WINDOW_BYTES} bytes",
                self.max
            );
            return Err(Error::new(ErrorKind::Invalid, sentence));
        }
        Ok(self)
    }

    /// The smallest chunk, in bytes; only the last of a blob may be smaller.
    pub fn min(self) -> u64 {
        self.min
    }

    /// The size that chunks have on average, in bytes.
    pub fn avg(self) -> u64 {
        self.avg
    }

    /// The largest chunk, in bytes.
    pub fn max(self) -> u64 {
        self.max
    }

    /// The divisor of the cut test, as casync computes it: from the average, within the smallest and the
    /// largest. Where the formula has no answer (averages above 9.3 MB), it is the largest, as casync's is on
    /// x86-64.
    pub fn divisor(self) -> u32 {
        let computed = unclamped_divisor(self.avg);
        if computed < 0.0 || computed > self.max as f64 {
            return self.max as u32;
        }
        (computed as u64).clamp(self.min, self.max) as u32
    }

    /// The divisor of desync up to v1.0.4, which does not bound it. Where the formula is negative, the low 32 bits
    /// of its integer, as on x86-64.
    pub fn unbounded_divisor(self) -> u32 {
        (unclamped_divisor(self.avg) as i64 as u32).max(1)
    }
}

/// casync's formula, which follows measured distances between cuts.
fn unclamped_divisor(avg: u64) -> f64 {
    let avg = avg as f64;
    avg / (1.332_375_15 - 1.428_888_52e-7 * avg)
}

/// `16:64:256` in KiB where all are whole KiB, else with `B`: what `-m` reads.
impl fmt::Display for ChunkSizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes = [self.min, self.avg, self.max];
        if sizes.iter().all(|size| size % 1024 == 0) {
            write!(f, "{}:{}:{}", self.min >> 10, self.avg >> 10, self.max >> 10)
        } else {
            write!(f, "{}B:{}B:{}B", self.min, self.avg, self.max)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divisors_are_those_of_casync() {
        let known = [
            (1024, 768),
            (4096, 3075),
            (8192, 6153),
            (16384, 12318),
            (65536, 49535),
            (131_072, 99777),
            (262_144, 202_440),
            (1 << 20, 886_711),
            (4 << 20, 5_721_670),
        ];
        for (avg, divisor) in known {
            assert_eq!(ChunkSizes::around(avg).unwrap().divisor(), divisor);
        }
    }

    #[test]
    fn the_divisor_is_bounded_and_behind_the_pole_it_is_the_largest() {
        let narrow = ChunkSizes::new(60 << 10, 64 << 10, 128 << 10).unwrap();
        assert_eq!((narrow.divisor(), narrow.unbounded_divisor()), (61440, 49535));
        for avg in [9_330_000, 16 << 20] {
            let sizes = ChunkSizes::around(avg).unwrap();
            assert_eq!(u64::from(sizes.divisor()), sizes.max());
        }
    }

    #[test]
    fn sizes_out_of_order_are_refused() {
        for (min, avg, max) in [(0, 1, 2), (3, 2, 4), (1, 5, 4), (1, 2, MAX_CHUNK_BYTES + 1)] {
            assert_eq!(ChunkSizes::new(min, avg, max).unwrap_err().kind(), ErrorKind::Invalid);
        }
        assert!(ChunkSizes::new(1, 1, 1).unwrap().for_cutting().is_err());
    }
}
