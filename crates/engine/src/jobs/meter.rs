//! How fast a job is, of its last seconds.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use image::{Listener, Phase, Progress};

/// So much of the past counts.
const WINDOW: Duration = Duration::from_secs(8);
/// Samples are at least so far apart, and a rate is of at least so long a time.
const APART: Duration = Duration::from_millis(250);
/// Times above this are not worth saying.
const LONGEST: f64 = 1e9;

/// What was seen of a phase lately.
#[derive(Debug, Default)]
pub(super) struct Meter {
    phase: Option<Phase>,
    samples: VecDeque<(Instant, u64)>,
}

impl Meter {
    fn began(&mut self, phase: Phase, now: Instant) {
        self.phase = Some(phase);
        self.samples.clear();
        self.samples.push_back((now, 0));
    }

    /// Takes note of `progress`, and says how many bytes a second the last seconds had; `None` if they had none.
    pub(super) fn rate(&mut self, progress: Progress, now: Instant) -> Option<f64> {
        let done = progress.done_bytes;
        let is_new = self.phase != Some(progress.phase);
        if is_new || self.samples.back().is_none_or(|&(_, before)| before > done) {
            self.began(progress.phase, now);
            self.samples[0].1 = done;
        }
        // Of those that are older than the window, one is kept, so that the window is always full.
        while self.samples.get(1).is_some_and(|&(then, _)| now.duration_since(then) >= WINDOW) {
            self.samples.pop_front();
        }
        let &(first, before) = self.samples.front()?;
        if self.samples.back().is_some_and(|&(then, _)| now.duration_since(then) >= APART) {
            self.samples.push_back((now, done));
        }
        let time = now.duration_since(first);
        (time >= APART && done > before).then(|| (done - before) as f64 / time.as_secs_f64())
    }
}

/// How long `bytes` take at that rate.
pub(super) fn time_for(bytes: u64, rate_bytes_per_s: f64) -> Option<Duration> {
    let seconds = bytes as f64 / rate_bytes_per_s;
    (seconds <= LONGEST).then(|| Duration::from_secs_f64(seconds))
}

/// Tells the meter of each phase, and the listener of everything.
pub(super) struct Metered {
    pub(super) listener: Box<dyn Listener>,
    pub(super) meter: Arc<Mutex<Meter>>,
}

impl Listener for Metered {
    fn began(&self, phase: Phase, total_bytes: u64) {
        self.meter.lock().unwrap_or_else(PoisonError::into_inner).began(phase, Instant::now());
        self.listener.began(phase, total_bytes);
    }

    fn noted(&self, sentence: &str) {
        self.listener.noted(sentence);
    }

    fn warned(&self, sentence: &str) {
        self.listener.warned(sentence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(done_bytes: u64) -> Progress {
        Progress { phase: Phase::Copy, done_bytes, total_bytes: 1 << 40 }
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let start = Instant::now();
        let mut meter = Meter::default();
        meter.began(Phase::Copy, start);
        assert_eq!(meter.rate(at(5), start), None);
        let mut done = 0;
        let mut last = None;
        for tenth in 1..=600_u64 {
            // A hundred bytes a second for half a minute, then a thousand.
            done += if tenth <= 300 { 10 } else { 100 };
            last = meter.rate(at(done), start + Duration::from_millis(100 * tenth));
            if tenth == 300 {
                assert!((last.unwrap() - 100.0).abs() < 1.0, "{last:?}");
            }
        }
        assert!((last.unwrap() - 1000.0).abs() < 1.0, "{last:?}");
        assert!(meter.samples.len() < 50);
    }

    #[test]
    fn nothing_is_said_of_what_stands_still_or_has_just_begun() {
        let start = Instant::now();
        let mut meter = Meter::default();
        let second = |count: u64| start + Duration::from_secs(count);
        assert_eq!(meter.rate(at(7), start), None);
        assert_eq!(meter.rate(at(9), second(1)), Some(2.0));
        for later in 2..20 {
            let rate = meter.rate(at(9), second(later));
            assert_eq!(rate.is_none(), later >= 9, "after {later} seconds: {rate:?}");
        }
        // A new phase begins anew.
        let verify = Progress { phase: Phase::Verify, ..at(3) };
        assert_eq!(meter.rate(verify, second(20)), None);
        assert_eq!(time_for(100, 50.0), Some(Duration::from_secs(2)));
        assert_eq!(time_for(u64::MAX, 1e-9), None);
    }
}
