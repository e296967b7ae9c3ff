//! Counts what `cargo test` reports.

use std::fmt;
use std::ops::AddAssign;

/// How many tests passed, failed and were skipped. Its text is the last line of a test run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) skipped: u64,
}

impl Tally {
    /// Tests that skipped themselves were reported as passed.
    pub(super) fn move_to_skipped(&mut self, count: u64) {
        let count = count.min(self.passed);
        self.passed -= count;
        self.skipped += count;
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Reads the lines of a `cargo test` as they come.
#[derive(Debug, Default)]
pub(super) struct Lines {
    total: Tally,
    binaries_started: u64,
    binaries_ended: u64,
}

impl Lines {
    pub(super) fn take(&mut self, line: &str) {
        let line = line.trim();
        let starts = ["Running unittests ", "Running tests/", "Running benches/", "Doc-tests "];
        if starts.iter().any(|start| line.starts_with(start)) {
            self.binaries_started += 1;
        }
        let Some((_, counts)) =
            line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        self.binaries_ended += 1;
        for count in counts.split("; ") {
            let mut words = count.split_whitespace();
            let number = words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
            match words.next() {
                Some("passed") => self.total.passed += number,
                Some("failed") => self.total.failed += number,
                Some("ignored") => self.total.skipped += number,
                _ => {}
            }
        }
    }

    /// The sum. A binary that ended without a result (killed, aborted) is one failure.
    pub(super) fn tally(&self) -> Tally {
        let crashed = self.binaries_started.saturating_sub(self.binaries_ended);
        Tally { failed: self.total.failed + crashed, ..self.total }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_binaries_are_added_up() {
        let mut lines = Lines::default();
        for line in [
            "     Running unittests src/lib.rs (target/debug/deps/image-1)",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s",
            "     Running tests/clone.rs (target/debug/deps/clone-1)",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 9s",
            "   Doc-tests image",
            "error: test failed, to rerun pass `--doc`",
        ] {
            lines.take(line);
        }
        let mut tally = lines.tally();
        assert_eq!(tally.to_string(), "15 passed, 3 failed, 1 skipped");
        tally.move_to_skipped(5);
        assert_eq!(tally.to_string(), "10 passed, 3 failed, 6 skipped");
    }
}
