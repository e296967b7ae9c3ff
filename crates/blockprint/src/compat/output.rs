//! What a peer prints: lines of which none may be lost, and JSON objects of numbers.

use std::fmt::Display;
use std::io::{self, Write};

use engine::{Error, Result};

/// Lines on standard output. That nobody reads them is no error; that they cannot be written is one.
pub(super) fn show(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(cause) if cause.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::io("cannot write to standard output", cause))
        }
        _ => Ok(()),
    }
}

/// An object of numbers in the order in which that tool writes them, indented by two spaces.
pub(super) fn object(numbers: &[(&str, u64)]) -> String {
    let line = |(name, number): &(&str, u64)| format!("  \"{name}\": {number}");
    format!("{{\n{}\n}}", joined(numbers.iter().map(line), ",\n"))
}

/// The words, with `between` between them.
pub(super) fn joined(words: impl IntoIterator<Item = impl Display>, between: &str) -> String {
    words.into_iter().map(|word| word.to_string()).collect::<Vec<_>>().join(between)
}
