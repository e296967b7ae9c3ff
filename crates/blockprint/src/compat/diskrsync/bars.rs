//! What a client shows on a terminal: a bar for what is done here, and one for what the other ends tell.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::ops::sync::ServeRole;
use engine::{Phase, Result, Task};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::meanwhile;
use super::progress::{Reader, Told};
use crate::render::complain;

/// The bars of a client, and the lines between them.
pub(super) struct Bars {
    /// Whether there are any, and the other ends were asked to tell.
    shown: bool,
    screen: MultiProgress,
    here: Mutex<Option<ProgressBar>>,
    /// By role.
    there: Mutex<[There; 2]>,
}

/// What one of the other ends has told.
#[derive(Default)]
struct There {
    reader: Reader,
    bar: Option<ProgressBar>,
}

const DRAW_EVERY: Duration = Duration::from_millis(100);

impl Bars {
    /// Bars on standard error, if that is a terminal and they are `wanted`.
    pub(super) fn new(wanted: bool) -> Self {
        Bars {
            shown: wanted,
            screen: MultiProgress::new(),
            here: Mutex::default(),
            there: Mutex::default(),
        }
    }

    /// Does the work, and shows meanwhile how far `task` is.
    pub(super) fn watch<R>(&self, task: &Task, work: impl FnOnce() -> Result<R>) -> Result<R> {
        let draw = || {
            if let (Some(bar), Some(progress)) = (&*lock(&self.here), task.progress()) {
                bar.set_position(progress.done_bytes);
            }
        };
        let done = if self.shown { meanwhile(DRAW_EVERY, draw, work) } else { work() };
        if done.is_ok() {
            let here = lock(&self.here).take();
            let there = std::mem::take(&mut *lock(&self.there));
            let there = there.into_iter().filter_map(|there| there.bar);
            here.into_iter().chain(there).for_each(|bar| bar.finish());
        } else {
            let _ = self.screen.clear();
        }
        done
    }

    /// Something begins here; what began before is done. What has no size needs no bar.
    pub(super) fn begin_here(&self, side: Option<ServeRole>, phase: Phase, total_bytes: u64) {
        if self.shown && phase != Phase::Map && total_bytes > 0 {
            let mut here = lock(&self.here);
            if let Some(done) = here.replace(self.bar(side, phase, total_bytes)) {
                done.finish();
            }
        }
    }

    /// A line from the standard error of an end that was called.
    pub(super) fn hear(&self, role: ServeRole, line: &str) {
        let told = {
            let mut there = lock(&self.there);
            let end = &mut there[role as usize];
            // Nobody was asked to tell anything unless bars are shown: what looks like it is text.
            let told = if self.shown { end.reader.read(line) } else { Told::Text };
            match told {
                Told::Began(phase, size_bytes) => {
                    if let Some(done) = end.bar.replace(self.bar(Some(role), phase, size_bytes)) {
                        done.finish();
                    }
                }
                Told::Done(bytes) => {
                    if let Some(bar) = &end.bar {
                        bar.set_position(bytes);
                    }
                }
                Told::Head | Told::Text => {}
            }
            told
        };
        if told == Told::Text {
            self.line(line);
        }
    }

    /// One line on standard error, between the bars.
    pub(super) fn line(&self, line: &str) {
        self.screen.suspend(|| complain(line));
    }

    fn bar(&self, side: Option<ServeRole>, phase: Phase, total_bytes: u64) -> ProgressBar {
        let side = match side {
            Some(ServeRole::Source) => "source ",
            Some(ServeRole::Target) => "target ",
            None => "",
        };
        let bar = self.screen.add(ProgressBar::new(total_bytes));
        let form = "{prefix:>14} {wide_bar} {bytes}/{total_bytes} {eta}";
        if let Ok(style) = ProgressStyle::with_template(form) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(format!("{side}{}", phase.name()));
        bar
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
