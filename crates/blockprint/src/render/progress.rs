//! Shows how far a task is: a bar on a terminal, lines, or JSON events. Looks at the task; is not called by it.

use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use engine::{Bytes, Phase, Task};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::meter::{Meter, Reading, clock};
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
            let mut meter = Meter::new();
            while let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(every) {
                let Some(progress) = task.progress() else { continue };
                let reading = meter.read(progress);
                // Looking at a map is over before anybody could read that it is being done.
                if progress.phase == Phase::Map {
                    continue;
                }
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
