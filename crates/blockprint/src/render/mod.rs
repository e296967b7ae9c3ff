//! The two faces of the program: text for people, JSON lines for programs, over the same events.

mod items;
pub(crate) mod json;
mod meter;
mod progress;
pub(crate) mod text;

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex};

use engine::{Error, Listener, Phase, Result, Task};

use crate::args::{ColorArg, Common, ProgressArg};
use crate::signals;
use items::Items;
use progress::{Progress, Show};

/// How the program speaks.
pub(crate) struct Face {
    name: &'static str,
    json: bool,
    quiet: bool,
    color: bool,
    show: Show,
}

/// Something that an operation returned, in both forms.
pub(crate) trait Report {
    /// As lines of text, without a newline at the end.
    fn text(&self) -> String;
    /// As an object with an `event`.
    fn json(&self) -> serde_json::Value;
}

impl Face {
    /// The face that the common options ask for.
    pub(crate) fn new(common: &Common) -> Self {
        let terminal = io::stderr().is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let show = match (common.json, common.quiet, common.progress) {
            (_, true, _) | (_, _, ProgressArg::None) => Show::Nothing,
            (true, ..) => Show::Json,
            (_, _, ProgressArg::Plain) => Show::Lines,
            (_, _, ProgressArg::Bar) => Show::Bar,
            (_, _, ProgressArg::Auto) if terminal => Show::Bar,
            (_, _, ProgressArg::Auto) => Show::Nothing,
        };
        Face {
            name: "blockprint",
            json: common.json,
            quiet: common.quiet,
            color: match common.color {
                ColorArg::Auto => terminal && !no_color,
                ColorArg::Always => true,
                ColorArg::Never => false,
            },
            show,
        }
    }

    /// That of a peer: one that is called `name`, says what it notes only if `verbose`, and shows no JSON.
    pub(crate) fn of_peer(name: &'static str, verbose: bool, progress: ProgressArg) -> Self {
        let terminal = io::stderr().is_terminal();
        let show = match progress {
            ProgressArg::None => Show::Nothing,
            ProgressArg::Plain => Show::Lines,
            ProgressArg::Bar => Show::Bar,
            ProgressArg::Auto if terminal => Show::Bar,
            ProgressArg::Auto => Show::Nothing,
        };
        Face { name, json: false, quiet: !verbose, color: false, show }
    }

    /// Runs `work` with a task that is listened to, and that signals stop.
    pub(crate) fn run<R>(&self, work: impl FnOnce(&Task) -> Result<R>) -> Result<R> {
        let bar = Arc::new(Mutex::new(None));
        let ears = Ears {
            json: self.json,
            quiet: self.quiet,
            warning: self.paint("warning:", anstyle::AnsiColor::Yellow),
            bar: Arc::clone(&bar),
        };
        let task = Task::new(Box::new(ears), signals::cancel_flag());
        let _progress = Progress::start(self.show, &task, bar);
        work(&task)
    }

    /// Shows a report on standard output; `wanted` ones also when quiet.
    pub(crate) fn report(&self, report: &impl Report, wanted: Wanted) {
        if self.json {
            say(&report.json().to_string());
        } else if !self.quiet || wanted == Wanted::Always {
            let text = report.text();
            if !text.is_empty() {
                say(&text);
            }
        }
    }

    /// A long list on standard output.
    pub(crate) fn items(&self) -> Items {
        Items::new(self.json)
    }

    /// Shows an error: once, in one line.
    pub(crate) fn error(&self, error: &Error) {
        if self.json {
            say(&json::error(error).to_string());
        } else {
            let word = self.paint(&format!("{}:", self.name), anstyle::AnsiColor::Red);
            complain(&format!("{word} {}", error.full_sentence()));
        }
    }

    fn paint(&self, word: &str, color: anstyle::AnsiColor) -> String {
        if !self.color {
            return word.to_string();
        }
        let style = color.on_default().bold();
        format!("{style}{word}{style:#}")
    }
}

/// Whether a report is what the command is for, or only tells that it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Shown also when quiet.
    Always,
    /// Shown unless quiet.
    UnlessQuiet,
}

/// Hears what a task says.
struct Ears {
    json: bool,
    quiet: bool,
    warning: String,
    bar: Arc<Mutex<Option<indicatif::ProgressBar>>>,
}

impl Ears {
    fn line(&self, line: &str) {
        let bar = self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &*bar {
            Some(bar) => bar.suspend(|| complain(line)),
            None => complain(line),
        }
    }
}

impl Listener for Ears {
    fn began(&self, _phase: Phase, _total_bytes: u64) {
        // The progress thread looks at the task by itself.
    }

    fn noted(&self, sentence: &str) {
        if self.json {
            say(&json::message("note", sentence).to_string());
        } else if !self.quiet {
            self.line(&format!("note: {sentence}"));
        }
    }

    fn warned(&self, sentence: &str) {
        if self.json {
            say(&json::message("warning", sentence).to_string());
        } else {
            self.line(&format!("{} {sentence}", self.warning));
        }
    }
}

/// Writes lines to standard output. A reader that has gone is no trouble of ours: the work goes on.
pub(crate) fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Writes lines to standard error.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
