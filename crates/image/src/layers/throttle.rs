//! A limit on the rate at which an image is read, shared by all who read it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::{Extent, Image, Result};

/// A budget of bytes a second. Clones share it.
#[derive(Clone)]
pub struct Throttle(Arc<Inner>);

struct Inner {
    bytes_per_s: u64,
    /// The moment at which everything that was granted so far has been paid for.
    paid_until: Mutex<Instant>,
}

/// How much may be granted ahead of time, so that short pauses are made up for.
const BURST: Duration = Duration::from_millis(50);

impl Throttle {
    /// A budget of `bytes_per_s`, at least 1.
    pub fn new(bytes_per_s: u64) -> Self {
        let paid_until = Mutex::new(Instant::now());
        Throttle(Arc::new(Inner { bytes_per_s: bytes_per_s.max(1), paid_until }))
    }

    /// Takes `bytes` from the budget, and sleeps until they are paid for.
    pub fn take(&self, bytes: u64) {
        let price = Duration::from_secs_f64(bytes as f64 / self.0.bytes_per_s as f64);
        let wake = {
            let now = Instant::now();
            let mut paid =
                self.0.paid_until.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let earliest = now.checked_sub(BURST).unwrap_or(now);
            *paid = (*paid).max(earliest) + price;
            paid.saturating_duration_since(now)
        };
        if wake > Duration::ZERO {
            std::thread::sleep(wake);
        }
    }
}

/// An image that is read no faster than a [`Throttle`] allows. What is not read (holes) costs nothing.
pub struct Throttled<I> {
    image: I,
    throttle: Throttle,
}

impl<I: Image> Throttled<I> {
    /// Reads `image` within the budget of `throttle`.
    pub fn new(image: I, throttle: Throttle) -> Self {
        Throttled { image, throttle }
    }
}

impl<I: Image> Image for Throttled<I> {
    fn size(&self) -> u64 {
        self.image.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.throttle.take(buf.len() as u64);
        self.image.read_at(buf, offset)
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.image.extent_at(offset)
    }

    fn block_size_bytes(&self) -> u64 {
        self.image.block_size_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sleeping too long is the machine's affair, sleeping too short would be ours: only that is asserted.
    #[test]
    fn what_is_taken_beyond_the_budget_takes_its_time() {
        let throttle = Throttle::new(1_000_000);
        let start = Instant::now();
        for _ in 0..4 {
            throttle.take(50_000);
        }
        assert!(start.elapsed() >= Duration::from_millis(140));
    }
}
