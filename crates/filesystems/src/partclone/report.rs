//! What partclone prints while it works: progress, success, the reason of a failure.

use std::time::Duration;

/// How far partclone says that it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// In hundredths of a percent: 0 to 10,000.
    pub complete: u32,
    /// Its own text for the rate, such as `1.49GB/min`, if it is known and not zero.
    pub rate: Option<String>,
    /// What it says that is left.
    pub remaining: Duration,
}

/// One thing that it said.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// How far it is. Only after the bitmap has been made.
    Progress(Progress),
    /// `Syncing... OK!`.
    Synced,
}

/// Takes what partclone prints, in any pieces, and gives what it said.
#[derive(Debug, Default)]
pub struct Reports {}

impl Reports {
    /// The next bytes of its standard error.
    pub fn feed(&mut self, _bytes: &[u8]) -> Vec<Report> {
        todo!()
    }

    /// The reason of a failure in a sentence, if it gave one that we know: `/dev/sdb1 is mounted at /mnt/usb`.
    pub fn reason(&self) -> Option<String> {
        todo!()
    }

    /// The last lines that it printed, for those who look closer.
    pub fn last_lines(&self) -> String {
        todo!()
    }
}
