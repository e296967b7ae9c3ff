//! Long lists on standard output: one line, or one JSON object, for each item.

use std::io::{self, BufWriter, Stdout, Write};

use engine::{Error, ErrorKind, Result};
use serde_json::Value;

/// Writes items as they come. They are shown also when quiet: who asks for a list wants it.
pub(crate) struct Items {
    json: bool,
    out: BufWriter<Stdout>,
}

impl Items {
    pub(super) fn new(json: bool) -> Self {
        Items { json, out: BufWriter::new(io::stdout()) }
    }

    /// One more.
    ///
    /// # Errors
    ///
    /// `Cancelled` if nobody reads any more; `Full`, `Io`.
    pub(crate) fn item(
        &mut self,
        text: impl FnOnce() -> String,
        json: impl FnOnce() -> Value,
    ) -> Result<()> {
        let line = if self.json { json().to_string() } else { text() };
        writeln!(self.out, "{line}").map_err(failed)
    }

    /// No more. Without it the last ones may be missing.
    pub(crate) fn end(mut self) -> Result<()> {
        self.out.flush().map_err(failed)
    }
}

fn failed(cause: io::Error) -> Error {
    if cause.kind() == io::ErrorKind::BrokenPipe {
        return Error::new(ErrorKind::Cancelled, "nobody reads the output");
    }
    Error::io("cannot write to standard output", cause)
}
