//! A JSON object of numbers, in the order in which that tool writes them.

use std::fmt::Display;

/// The object, indented by two spaces.
pub(super) fn object(numbers: &[(&str, u64)]) -> String {
    let line = |(name, number): &(&str, u64)| format!("  \"{name}\": {number}");
    format!("{{\n{}\n}}", joined(numbers.iter().map(line), ",\n"))
}

/// The words, with `between` between them.
pub(super) fn joined(words: impl IntoIterator<Item = impl Display>, between: &str) -> String {
    words.into_iter().map(|word| word.to_string()).collect::<Vec<_>>().join(between)
}
