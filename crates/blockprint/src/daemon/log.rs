//! The log on standard error: its level is that of `RUST_LOG`, by default only errors.

use std::sync::LazyLock;

use engine::{Listener, Phase};

use crate::render::complain;

/// How much somebody wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Off,
    Error,
    Warn,
    Info,
    Debug,
}

static WANTED: LazyLock<Level> =
    LazyLock::new(|| std::env::var("RUST_LOG").map_or(Level::Error, |text| level_of(&text)));

/// What the work of a job says, into the log.
pub(super) struct Log {
    pub(super) job: String,
}

/// Something did not work.
pub(super) fn error(sentence: &str) {
    write(Level::Error, "error", sentence);
}

/// Something went other than wished, though the work goes on.
pub(super) fn warn(sentence: &str) {
    write(Level::Warn, "warn", sentence);
}

/// Something that people may want to know.
pub(super) fn info(sentence: &str) {
    write(Level::Info, "info", sentence);
}

/// What passes.
pub(super) fn debug(sentence: &str) {
    write(Level::Debug, "debug", sentence);
}

fn write(level: Level, word: &str, sentence: &str) {
    if level <= *WANTED {
        // A client's text may be in it: it shall not move the terminal's cursor.
        let shown: String = sentence.chars().flat_map(visible).collect();
        complain(&format!("blockprint daemon: {word}: {shown}"));
    }
}

fn visible(character: char) -> Vec<char> {
    match character.is_control() {
        true => character.escape_default().collect(),
        false => vec![character],
    }
}

/// `info`, or a list such as `warn,apart_core=debug`, of which the most talkative counts.
fn level_of(text: &str) -> Level {
    let words = text.split(',').map(|part| part.rsplit('=').next().unwrap_or_default().trim());
    let levels = words.map(|word| match word.to_ascii_lowercase().as_str() {
        "off" => Level::Off,
        "warn" => Level::Warn,
        "info" => Level::Info,
        "debug" | "trace" => Level::Debug,
        _ => Level::Error,
    });
    levels.max().unwrap_or(Level::Error)
}

impl Listener for Log {
    fn began(&self, phase: Phase, total_bytes: u64) {
        debug(&format!("{}: {} of {total_bytes} bytes begins", self.job, phase.name()));
    }

    fn noted(&self, sentence: &str) {
        info(&format!("{}: {sentence}", self.job));
    }

    fn warned(&self, sentence: &str) {
        warn(&format!("{}: {sentence}", self.job));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_the_most_talkative_one_that_is_named() {
        for (text, level) in [
            ("", Level::Error),
            ("info", Level::Info),
            ("OFF", Level::Off),
            ("warn,apart_core=debug", Level::Debug),
            ("apart_core=info", Level::Info),
            ("nonsense", Level::Error),
        ] {
            assert_eq!(level_of(text), level, "{text}");
        }
    }
}
