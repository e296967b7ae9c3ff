//! Rates and times left, made of counts.

use std::time::{Duration, Instant};

use engine::{Bytes, Phase};

/// Makes rates out of counts.
pub(super) struct Meter {
    /// The phase, and a moment before it began, but not long before.
    phase: Option<(Phase, Instant)>,
    /// When it was last looked at.
    looked: Instant,
}

/// One look at a task.
pub(super) struct Reading {
    pub(super) phase: Phase,
    pub(super) done_bytes: u64,
    pub(super) total_bytes: u64,
    pub(super) bytes_per_s: u64,
    pub(super) left: Option<Duration>,
}

impl Meter {
    pub(super) fn new() -> Self {
        Meter { phase: None, looked: Instant::now() }
    }

    /// Looks at a task.
    pub(super) fn read(&mut self, progress: engine::Progress) -> Reading {
        let last_look = std::mem::replace(&mut self.looked, Instant::now());
        let since = match self.phase {
            Some((phase, since)) if phase == progress.phase => since,
            _ => self.phase.insert((progress.phase, last_look)).1,
        };
        let elapsed_s = since.elapsed().as_secs_f64();
        let rate = if elapsed_s > 0.05 { progress.done_bytes as f64 / elapsed_s } else { 0.0 };
        let left_bytes = progress.total_bytes.saturating_sub(progress.done_bytes);
        let left = (rate >= 1.0).then(|| left_bytes as f64 / rate).filter(|&s| s < 1e8);
        Reading {
            phase: progress.phase,
            done_bytes: progress.done_bytes,
            total_bytes: progress.total_bytes,
            bytes_per_s: rate as u64,
            left: left.map(Duration::from_secs_f64),
        }
    }
}

impl Reading {
    /// It in one line, without a newline.
    pub(super) fn line(&self) -> String {
        let mut line = self.phase.name().to_string();
        if self.total_bytes > 0 {
            let percent = self.done_bytes as f64 * 100.0 / self.total_bytes as f64;
            let (done, total) = (Bytes(self.done_bytes), Bytes(self.total_bytes));
            line += &format!(
                " {:.0}%, {done} of {total}, {}/s",
                percent.min(100.0),
                Bytes(self.bytes_per_s)
            );
            if let Some(left) = self.left {
                line += &format!(", {} left", clock(left));
            }
        }
        line
    }
}

/// `1:05` or `2:00:09`.
pub(super) fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_share_rate_and_time_left() {
        let reading = Reading {
            phase: Phase::Copy,
            done_bytes: 1 << 30,
            total_bytes: 4 << 30,
            bytes_per_s: 100 << 20,
            left: Some(Duration::from_secs(3725)),
        };
        assert_eq!(reading.line(), "copy 25%, 1 GiB of 4 GiB, 100 MiB/s, 1:02:05 left");
    }
}
