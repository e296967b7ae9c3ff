//! Shows how far a task is: a bar on a terminal, lines, or JSON events. Looks at the task; is not called by it.

use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engine::{Bytes, Phase, Task};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{complain, json, say};

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Show {
    Nothing,
    Bar,
    Lines,
    Json,
}

/// A thread that shows progress until this is dropped.
pub(super) struct Progress {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

type SharedBar = Arc<Mutex<Option<ProgressBar>>>;

impl Progress {
    pub(super) fn start(show: Show, task: &Task, bar: SharedBar) -> Self {
        if show == Show::Nothing {
            return Progress { stop: None, thread: None };
        }
        let (stop, stopped) = mpsc::channel();
        let task = task.clone();
        let every = match show {
            Show::Bar => Duration::from_millis(100),
            Show::Lines => Duration::from_secs(2),
            _ => Duration::from_millis(500),
        };
        let thread = std::thread::spawn(move || {
            let mut meter = Meter::default();
            while let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(every) {
                let Some(progress) = task.progress() else { continue };
                // Looking at a map is over before anybody could read that it is being done.
                if progress.phase == Phase::Map {
                    continue;
                }
                let reading = meter.read(progress);
                match show {
                    Show::Bar => draw(&bar, &reading),
                    Show::Lines => complain(&reading.line()),
                    _ => say(&json::progress(&reading).to_string()),
                }
            }
            if let Some(bar) = lock(&bar).take() {
                bar.finish_and_clear();
            }
        });
        Progress { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // If it panicked it has said so itself.
            let _ = thread.join();
        }
    }
}

/// Makes rates out of counts.
#[derive(Default)]
struct Meter {
    phase: Option<(Phase, Instant)>,
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
    fn read(&mut self, progress: engine::Progress) -> Reading {
        let since = match self.phase {
            Some((phase, since)) if phase == progress.phase => since,
            _ => self.phase.insert((progress.phase, Instant::now())).1,
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
    fn line(&self) -> String {
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

fn draw(shared: &SharedBar, reading: &Reading) {
    let mut bar = lock(shared);
    let bar = bar.get_or_insert_with(|| {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{prefix:>8} {wide_bar} {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        bar
    });
    bar.set_prefix(reading.phase.name());
    bar.set_length(reading.total_bytes.max(1));
    bar.set_position(reading.done_bytes);
    let total = Bytes(reading.total_bytes);
    let left = reading.left.map_or_else(|| "-:--".to_string(), clock);
    bar.set_message(match reading.total_bytes {
        0 => String::new(),
        _ => format!(
            "{} / {total}  {}/s  {left}",
            Bytes(reading.done_bytes),
            Bytes(reading.bytes_per_s)
        ),
    });
    bar.tick();
}

fn lock(bar: &SharedBar) -> std::sync::MutexGuard<'_, Option<ProgressBar>> {
    bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// `1:05` or `2:00:09`.
fn clock(time: Duration) -> String {
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
