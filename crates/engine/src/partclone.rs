//! A partclone that works for an operation: who hears what it says, and what is said of its failure.

use std::fmt;
use std::sync::Arc;

use filesystems::partclone::{Ended, Partclone, Report, Variant};
use image::{Error, ErrorKind, Result};

/// Hears what partclone says.
pub type OnReport = Arc<dyn Fn(Report) + Send + Sync>;

/// A partclone that did not do what it was started for: what lies below the error that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartcloneFailure {
    /// The program's name.
    pub program: String,
    /// Why, in a sentence, if it said so in words that we know.
    pub reason: Option<String>,
    /// The last lines that it printed.
    pub last_lines: String,
}

/// The error for a partclone that ended otherwise than well.
pub(crate) fn refuse_failure(ended: &Ended, partclone: &Partclone, variant: Variant) -> Result<()> {
    if ended.success {
        return Ok(());
    }
    let program = partclone
        .program(variant)
        .and_then(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()));
    let failure = PartcloneFailure {
        program: program.unwrap_or_else(|| format!("partclone.{}", variant.name())),
        reason: ended.reason.clone(),
        last_lines: ended.last_lines.clone(),
    };
    let sentence = match &failure.reason {
        Some(reason) => reason.clone(),
        None => format!("{} has failed", failure.program),
    };
    Err(Error::new(ErrorKind::Io, sentence).because(failure))
}

impl fmt::Display for PartcloneFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = |line: &&str| !line.is_empty() && !line.starts_with("Partclone fail");
        match self.last_lines.lines().map(str::trim).rfind(said) {
            Some(line) => write!(f, "{} said: {}", self.program, line.escape_debug()),
            None => write!(f, "{} said nothing", self.program),
        }
    }
}

impl std::error::Error for PartcloneFailure {}
