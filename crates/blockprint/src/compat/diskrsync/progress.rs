//! The lines in which an end tells a client how far it is: written by an end, read by a client.
//!
//! ```text
//! [Start calc]           when the taking of digests begins
//! Size: 700000
//! Update: 700000         at most four times a second, and at the end
//! [Start sync]           after it
//! Size: 700000
//! Update: 700000
//! ```

use std::time::{Duration, Instant};

use engine::{Phase, Progress};

/// How much time lies between two updates.
pub(super) const UPDATE_EVERY: Duration = Duration::from_millis(250);

const START_CALC: &str = "[Start calc]";
const START_SYNC: &str = "[Start sync]";

/// Makes the lines of one end from the phases of its task.
#[derive(Debug, Default)]
pub(super) struct Teller {
    calc: bool,
    sync: bool,
    block: Option<Block>,
}

/// What began last and is not over.
#[derive(Debug)]
struct Block {
    phase: Phase,
    size_bytes: u64,
    told: Instant,
}

impl Teller {
    /// One that tells what it was asked for.
    pub(super) fn new(calc: bool, sync: bool) -> Self {
        Teller { calc, sync, block: None }
    }

    /// A phase begins. What began before is done.
    pub(super) fn begin(&mut self, phase: Phase, size_bytes: u64) -> String {
        let mut lines = self.end();
        let head = match phase {
            Phase::Hash if self.calc => START_CALC,
            Phase::Sync if self.sync => START_SYNC,
            _ => return lines,
        };
        lines += &format!("{head}\nSize: {size_bytes}\n");
        if size_bytes > 0 {
            self.block = Some(Block { phase, size_bytes, told: Instant::now() });
        }
        lines
    }

    /// So much is done now.
    pub(super) fn look(&mut self, progress: Progress) -> String {
        let done_bytes = progress.done_bytes;
        match &mut self.block {
            Some(block)
                if block.phase == progress.phase
                    && done_bytes < block.size_bytes
                    && block.told.elapsed() >= UPDATE_EVERY =>
            {
                block.told = Instant::now();
                format!("Update: {done_bytes}\n")
            }
            _ => String::new(),
        }
    }

    /// All is done.
    pub(super) fn end(&mut self) -> String {
        let over = self.block.take();
        over.map_or_else(String::new, |block| format!("Update: {}\n", block.size_bytes))
    }
}

/// Takes the lines of an end apart: what tells of progress, and what is ordinary text.
#[derive(Debug, Default)]
pub(super) enum Reader {
    /// Nothing has begun.
    #[default]
    First,
    /// The head of a block was read, its size comes next.
    Head(Phase),
    /// Updates come until one has reached the size.
    Updates(Phase, i64),
    /// Digests are taken; only the sync can still begin.
    Between,
    /// Nothing more is told.
    Over,
}

/// What a line tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Something begins, and is so large in bytes.
    Began(Phase, u64),
    /// So many bytes of it are done.
    Done(u64),
    /// Nothing by itself.
    Head,
    /// It is ordinary text.
    Text,
}

impl Reader {
    /// Reads one line, without its newline.
    pub(super) fn read(&mut self, line: &str) -> Told {
        let (next, told) = match *self {
            Reader::First if line == START_CALC => (Reader::Head(Phase::Hash), Told::Head),
            Reader::First | Reader::Between if line == START_SYNC => {
                (Reader::Head(Phase::Sync), Told::Head)
            }
            Reader::Head(phase) => match number(line, "Size: ") {
                Some(size) if size > 0 => {
                    (Reader::Updates(phase, size), Told::Began(phase, size.unsigned_abs()))
                }
                Some(_) => (Reader::after(phase), Told::Began(phase, 0)),
                None => return Told::Text,
            },
            Reader::Updates(phase, size) => match number(line, "Update: ") {
                Some(done) if done >= size => {
                    (Reader::after(phase), Told::Done(size.unsigned_abs()))
                }
                Some(done) => {
                    (Reader::Updates(phase, size), Told::Done(u64::try_from(done).unwrap_or(0)))
                }
                None => return Told::Text,
            },
            _ => return Told::Text,
        };
        *self = next;
        told
    }

    fn after(phase: Phase) -> Self {
        if phase == Phase::Hash { Reader::Between } else { Reader::Over }
    }
}

fn number(line: &str, head: &str) -> Option<i64> {
    line.strip_prefix(head)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(teller: &mut Teller, phases: &[(Phase, u64)]) -> String {
        let mut lines: String =
            phases.iter().map(|&(phase, size)| teller.begin(phase, size)).collect();
        lines += &teller.end();
        lines
    }

    const BOTH: &str = "[Start calc]\nSize: 700000\nUpdate: 700000\n\
                        [Start sync]\nSize: 700000\nUpdate: 700000\n";

    #[test]
    fn an_end_tells_what_it_was_asked_for() {
        let phases = [(Phase::Hash, 700_000), (Phase::Sync, 700_000), (Phase::Flush, 0)];
        assert_eq!(tell(&mut Teller::new(true, true), &phases), BOTH);
        let calc = "[Start calc]\nSize: 700000\nUpdate: 700000\n";
        assert_eq!(tell(&mut Teller::new(true, false), &phases), calc);
        assert_eq!(tell(&mut Teller::new(false, false), &phases), "");
        let empty = [(Phase::Sync, 0)];
        assert_eq!(tell(&mut Teller::new(true, true), &empty), "[Start sync]\nSize: 0\n");
    }

    #[test]
    fn updates_are_told_at_most_four_times_a_second_and_only_of_what_is_under_way() {
        let mut teller = Teller::new(true, true);
        teller.begin(Phase::Hash, 10);
        let at = |phase, done_bytes| Progress { phase, done_bytes, total_bytes: 10 };
        assert_eq!(teller.look(at(Phase::Hash, 3)), "");
        std::thread::sleep(UPDATE_EVERY);
        assert_eq!(teller.look(at(Phase::Sync, 4)), "");
        assert_eq!(teller.look(at(Phase::Hash, 4)), "Update: 4\n");
        assert_eq!(teller.look(at(Phase::Hash, 5)), "");
        std::thread::sleep(UPDATE_EVERY);
        // The last update is told once, at the end.
        assert_eq!(teller.look(at(Phase::Hash, 10)), "");
        assert_eq!(teller.end(), "Update: 10\n");
        assert_eq!(teller.end(), "");
    }

    #[test]
    fn a_client_reads_what_an_end_tells_and_leaves_the_rest() {
        let mut reader = Reader::default();
        let told: Vec<Told> = [
            "hello",
            "Size: 1",
            "[Start calc]",
            "a warning",
            "Size: 9",
            "Update: 4",
            "Update: many",
            "Update: 9",
            "Update: 9",
            "[Start calc]",
            "[Start sync]",
            "Size: 5",
            "Update: 77",
            "[Start sync]",
        ]
        .into_iter()
        .map(|line| reader.read(line))
        .collect();
        let expected = [
            Told::Text,
            Told::Text,
            Told::Head,
            Told::Text,
            Told::Began(Phase::Hash, 9),
            Told::Done(4),
            Told::Text,
            Told::Done(9),
            Told::Text,
            Told::Text,
            Told::Head,
            Told::Began(Phase::Sync, 5),
            Told::Done(5),
            Told::Text,
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_sync_without_digests_is_read_and_a_size_below_one_is_over_at_once() {
        let mut reader = Reader::default();
        assert_eq!(reader.read("[Start sync]"), Told::Head);
        assert_eq!(reader.read("Size: -1"), Told::Began(Phase::Sync, 0));
        assert_eq!(reader.read("Update: 0"), Told::Text);
        let mut reader = Reader::default();
        for line in BOTH.lines() {
            assert_ne!(reader.read(line), Told::Text, "{line}");
        }
    }
}
