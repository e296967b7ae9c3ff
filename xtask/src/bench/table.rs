//! Rows of measurements, their goals, and the table that shows them.

use std::fmt;
use std::time::Duration;

use crate::units;

/// One job of ours beside one peer.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// The job, and where it is done.
    pub(super) job: String,
    /// Our figure.
    pub(super) ours: Measure,
    /// The peer's command.
    pub(super) peer: String,
    /// The peer's figure.
    pub(super) theirs: Measure,
    /// What we promised.
    pub(super) goal: Goal,
}

/// A figure: the less, the better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Measure {
    /// How long it took.
    Time(Duration),
    /// How much memory or space it took.
    Bytes(u64),
}

impl Measure {
    fn value(self) -> f64 {
        match self {
            Measure::Time(time) => time.as_secs_f64(),
            Measure::Bytes(bytes) => bytes as f64,
        }
    }
}

impl From<Duration> for Measure {
    fn from(time: Duration) -> Self {
        Measure::Time(time)
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Measure::Time(time) => f.write_str(&units::time(*time)),
            Measure::Bytes(bytes) => f.write_str(&units::size(*bytes)),
        }
    }
}

/// What a row must show.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Goal {
    /// The peer takes at least so many times our time.
    TimesAsFast(f64),
    /// We take at most so many times the peer's time.
    AtMostTimes(f64),
    /// We take at most this, whatever the peer takes.
    Within(Measure),
    /// Shown for comparison.
    None,
}

/// All rows of a run.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<Row>,
    skipped: Vec<String>,
}

impl Row {
    /// The peer's figure as a multiple of ours: above 1 we are better.
    fn ratio(&self) -> f64 {
        self.theirs.value() / self.ours.value()
    }

    fn is_met(&self) -> Option<bool> {
        match self.goal {
            Goal::TimesAsFast(times) => Some(self.ratio() >= times),
            Goal::AtMostTimes(times) => Some(self.ratio() * times >= 1.0),
            Goal::Within(most) => Some(self.ours.value() <= most.value()),
            Goal::None => None,
        }
    }

    fn cells(&self) -> [String; 7] {
        let met = match self.is_met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        [
            self.job.clone(),
            self.ours.to_string(),
            self.peer.clone(),
            self.theirs.to_string(),
            format!("{}x", units::three_digits(self.ratio())),
            self.goal.to_string(),
            met.to_string(),
        ]
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Goal::TimesAsFast(times) => write!(f, ">= {times}x"),
            Goal::AtMostTimes(times) => write!(f, ">= 1/{times}x"),
            Goal::Within(most) => write!(f, "<= {most}"),
            Goal::None => Ok(()),
        }
    }
}

impl Table {
    pub(super) fn extend(&mut self, rows: Vec<Row>) {
        self.rows.extend(rows);
    }

    pub(super) fn skip(&mut self, case: &str, reason: &str) {
        self.skipped.push(format!("skipped: {case}: {reason}"));
    }

    /// How many goals were missed.
    pub(super) fn missed(&self) -> usize {
        self.rows.iter().filter(|row| row.is_met() == Some(false)).count()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["job", "ours", "peer", "theirs", "ratio", "goal", ""].map(str::to_string);
        let lines: Vec<[String; 7]> =
            std::iter::once(head).chain(self.rows.iter().map(Row::cells)).collect();
        let width = |column: usize| {
            lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0)
        };
        let widths: [usize; 7] = std::array::from_fn(width);
        let is_number = [false, true, false, true, true, true, false];
        for line in &lines {
            let mut text = String::new();
            for (column, cell) in line.iter().enumerate() {
                let width = widths[column];
                let cell = if is_number[column] {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                };
                text.push_str(&cell);
                text.push_str("  ");
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        for sentence in &self.skipped {
            writeln!(f, "{sentence}")?;
        }
        let goals = self.rows.iter().filter(|row| row.is_met().is_some()).count();
        let (met, skipped) = (goals - self.missed(), self.skipped.len());
        writeln!(f, "{met} of {goals} goals met, {skipped} cases skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ours_ms: u64, theirs_ms: u64, goal: Goal) -> Row {
        Row {
            job: "copy".to_string(),
            ours: Duration::from_millis(ours_ms).into(),
            peer: "cp".to_string(),
            theirs: Duration::from_millis(theirs_ms).into(),
            goal,
        }
    }

    #[test]
    fn goals_are_judged_by_the_ratio() {
        assert_eq!(row(100, 120, Goal::TimesAsFast(1.2)).is_met(), Some(true));
        assert_eq!(row(100, 119, Goal::TimesAsFast(1.2)).is_met(), Some(false));
        assert_eq!(row(12, 10, Goal::AtMostTimes(1.2)).is_met(), Some(true));
        assert_eq!(row(13, 10, Goal::AtMostTimes(1.2)).is_met(), Some(false));
        assert_eq!(row(20, 100, Goal::AtMostTimes(0.2)).is_met(), Some(true));
        assert_eq!(row(21, 100, Goal::AtMostTimes(0.2)).is_met(), Some(false));
        assert_eq!(row(999, 1, Goal::Within(Duration::from_secs(1).into())).is_met(), Some(true));
        assert_eq!(row(1, 1, Goal::None).is_met(), None);
    }

    #[test]
    fn the_table_counts_what_it_shows() {
        let mut table = Table::default();
        table
            .extend(vec![row(100, 500, Goal::TimesAsFast(5.0)), row(2, 1, Goal::AtMostTimes(1.2))]);
        table.skip("freeze", "it needs root");
        let text = table.to_string();
        assert!(
            text.ends_with("skipped: freeze: it needs root\n1 of 2 goals met, 1 cases skipped\n"),
            "{text}"
        );
        assert_eq!(table.missed(), 1);
    }
}
