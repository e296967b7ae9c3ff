//! What partclone prints while it works: progress, success, the reason of a failure.

use std::collections::VecDeque;
use std::time::Duration;

use super::reason;

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
///
/// Its lines are torn: reports stand between carriage returns and movements of the cursor, and errors are glued to
/// them. So what is between two control characters is a segment here, and is searched, not compared.
#[derive(Debug, Default)]
pub struct Reports {
    /// The segment that has not ended yet.
    segment: Vec<u8>,
    /// How much of it has been reported, in bytes.
    reported: usize,
    /// Within a movement of the cursor (`ESC [ … letter`): how much of it was seen.
    escape: Escape,
    /// The bitmap has been made: what comes now is about the work itself.
    is_at_work: bool,
    is_synced: bool,
    reason: Option<String>,
    lines: VecDeque<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Begun,
    Sequence,
}

/// More of one segment is not kept: partclone's are shorter than 200 bytes, but for the names of devices.
const SEGMENT_BYTES: usize = 4 << 10;

/// As many lines are kept.
const LINES: usize = 12;

/// As much of a line is kept, in characters.
const LINE_CHARACTERS: usize = 400;

impl Reports {
    /// The next bytes of its standard error.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Report> {
        let mut reports = Vec::new();
        for &byte in bytes {
            match (self.escape, byte) {
                (Escape::None, b'\x1b') => {
                    self.end_segment(&mut reports);
                    self.escape = Escape::Begun;
                }
                (Escape::None, b'\n' | b'\r') => self.end_segment(&mut reports),
                (Escape::None, byte) if self.segment.len() < SEGMENT_BYTES => {
                    self.segment.push(byte);
                    // A report ends with a comma, and `OK!` with its mark: neither waits for the end of its line.
                    if matches!(byte, b',' | b'!') {
                        self.look(&mut reports);
                    }
                }
                (Escape::None, _) => {}
                (Escape::Begun, b'[') => self.escape = Escape::Sequence,
                (Escape::Sequence, b'0'..=b'9' | b';' | b'?') => {}
                (Escape::Begun | Escape::Sequence, _) => self.escape = Escape::None,
            }
        }
        reports
    }

    /// The reason of a failure in a sentence, if it gave one that we know: `/dev/sdb1 is mounted at /mnt/usb`.
    pub fn reason(&self) -> Option<String> {
        self.reason.clone().or_else(|| reason::of(&String::from_utf8_lossy(&self.segment)))
    }

    /// The last lines that it printed, for those who look closer.
    pub fn last_lines(&self) -> String {
        let mut lines: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        let last = line_of(&self.segment);
        lines.extend(last.as_deref());
        lines.join("\n")
    }

    fn end_segment(&mut self, reports: &mut Vec<Report>) {
        if self.segment.is_empty() {
            return;
        }
        self.look(reports);
        let text = String::from_utf8_lossy(&self.segment);
        self.is_at_work |= text.trim_start().starts_with("File system:");
        if self.reason.is_none() {
            self.reason = reason::of(&text);
        }
        if let Some(line) = line_of(&self.segment) {
            if self.lines.len() == LINES {
                self.lines.pop_front();
            }
            self.lines.push_back(line);
        }
        self.segment.clear();
        self.reported = 0;
    }

    /// Reports what stands in the segment and was not reported yet.
    fn look(&mut self, reports: &mut Vec<Report>) {
        if !self.is_at_work {
            return;
        }
        let text = String::from_utf8_lossy(&self.segment[self.reported..]);
        let synced = !self.is_synced && text.contains("Syncing... OK!");
        if let Some(progress) = progress_in(&text) {
            self.reported = self.segment.len();
            reports.push(Report::Progress(progress));
        }
        if synced {
            self.is_synced = true;
            reports.push(Report::Synced);
        }
    }
}

/// The first whole report in `text`: `Remaining: 00:00:03, Completed:  36.64%,   1.49GB/min,`.
fn progress_in(text: &str) -> Option<Progress> {
    let (_, rest) = text.split_once("Remaining:")?;
    let (remaining, rest) = rest.split_once(',')?;
    let (_, rest) = rest.split_once("Completed:")?;
    let (percent, rest) = rest.split_once('%')?;
    let rest = rest.trim_start().strip_prefix(',')?;
    let (rate, _) = rest.split_once(',')?;
    let rate = rate.trim().trim_start_matches("Rate:").trim();
    if !rate.starts_with(|first: char| first.is_ascii_digit()) || rate.len() > 40 {
        return None;
    }
    let digits = rate.trim_end_matches(|last: char| !last.is_ascii_digit());
    let is_zero = digits.chars().all(|digit| matches!(digit, '0' | '.'));
    Some(Progress {
        complete: hundredths(percent.trim())?,
        rate: (!is_zero).then(|| rate.to_string()),
        remaining: time(remaining.trim())?,
    })
}

/// `36.64` as 3664.
fn hundredths(percent: &str) -> Option<u32> {
    let (whole, fraction) = percent.split_once('.').unwrap_or((percent, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || whole.len() > 3 || fraction.len() > 2 {
        return None;
    }
    let scale = if fraction.len() == 1 { 10 } else { 1 };
    let hundredths = whole.parse::<u32>().ok()? * 100 + fraction.parse::<u32>().ok()? * scale;
    Some(hundredths.min(10_000))
}

/// `01:02:03`, with any number of hours.
fn time(text: &str) -> Option<Duration> {
    let mut parts = text.split(':').map(|part| part.parse::<u32>().ok());
    let mut next = || parts.next()?;
    let (hours, minutes, seconds) = (next()?, next()?, next()?);
    let seconds = u64::from(hours) * 3600 + u64::from(minutes) * 60 + u64::from(seconds);
    parts.next().is_none().then(|| Duration::from_secs(seconds))
}

/// A segment as a line for people; `None` for an empty one, and for progress that failed nowhere.
fn line_of(segment: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(segment);
    let is_progress = ["Elapsed:", "current block:"].iter().any(|begin| text.starts_with(begin));
    if text.trim().is_empty() || (is_progress && reason::of(&text).is_none()) {
        return None;
    }
    let printable = text.trim().chars().map(|one| if one.is_control() { ' ' } else { one });
    Some(printable.take(LINE_CHARACTERS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What partclone 0.3.23 prints for a clone of an ext4 filesystem whose consumer is slow.
    const CLONE: &str = "Partclone v0.3.23 http://partclone.org\n\
        Starting to clone device (/dev/loop8p1) to image (-)\n\
        Reading Super Block\n\
        Calculating bitmap... Please wait... \n\
        \r<80sp>\rElapsed: 00:00:01, Remaining: 00:01:39, Completed:   1.00%\
        \r<80sp>\rElapsed: 00:00:01, Remaining: 00:00:00, Completed: 100.00%\n\
        Total Time: 00:00:01, 100.00% completed!\n\
        done!\n\
        File system:  EXTFS\n\
        Device size:  314.6 MB = 307200 Blocks\n\
        Space in use: 135.2 MB = 131992 Blocks\n\
        Free Space:   179.4 MB = 175208 Blocks\n\
        Block size:   1024 Byte\n\
        \r<80sp>\rElapsed: 00:00:01, Remaining: 00:01:39, Completed:   1.00%,   0.00byte/min,\n\
        \r<80sp>\rcurrent block:          0, total block:     307200, Complete:   0.00%\x1b[A\r\
        \r<80sp>\rElapsed: 00:00:02, Remaining: 00:00:03, Completed:  36.64%,   1.49GB/min,\n\
        \r<80sp>\rcurrent block:      61441, total block:     307200, Complete:  20.00%\x1b[A\r\
        \r<80sp>\rElapsed: 00:00:04, Remaining: 00:00:01, Completed:  74.07%,   1.50GB/min,\n\
        \r<80sp>\rcurrent block:     112641, total block:     307200, Complete:  36.67%\x1b[A\r\
        \r<80sp>\rElapsed: 00:00:06, Remaining: 00:00:00, Completed: 100.00%, Rate:   1.35GB/min,\n\
        \r<80sp>\rcurrent block:     265193, total block:     307200, Complete: 100.00%\r\n\
        Total Time: 00:00:06, Ave. Rate:    1.4GB/min, 100.00% completed!\n\
        Syncing... OK!\n\
        Partclone successfully cloned the device (/dev/loop8p1) to the image (-)\n\
        Cloned successfully.\n";

    fn clone_text() -> Vec<u8> {
        CLONE.replace("<80sp>", &" ".repeat(80)).into_bytes()
    }

    fn progress(complete: u32, rate: Option<&str>, remaining: u64) -> Report {
        let remaining = Duration::from_secs(remaining);
        Report::Progress(Progress { complete, rate: rate.map(str::to_string), remaining })
    }

    fn expected() -> Vec<Report> {
        vec![
            progress(100, None, 99),
            progress(3664, Some("1.49GB/min"), 3),
            progress(7407, Some("1.50GB/min"), 1),
            progress(10_000, Some("1.35GB/min"), 0),
            Report::Synced,
        ]
    }

    #[test]
    fn a_clone_is_understood_in_whatever_pieces_it_comes() {
        let text = clone_text();
        let mut random = fastrand::Rng::with_seed(5);
        for round in 0..300 {
            let longest = [1, 3, 40, 2000][round % 4];
            let mut reports = Reports::default();
            let mut said = Vec::new();
            let mut rest = &text[..];
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at(random.usize(1..=longest).min(rest.len()));
                said.extend(reports.feed(piece));
                rest = behind;
            }
            assert_eq!(said, expected(), "in pieces of up to {longest} bytes");
            assert_eq!(reports.reason(), None);
            assert!(reports.last_lines().ends_with(
                "Syncing... OK!\nPartclone successfully cloned \
                the device (/dev/loop8p1) to the image (-)\nCloned successfully."
            ));
        }
    }

    #[test]
    fn a_report_is_there_with_its_last_comma() {
        let mut reports = Reports::default();
        assert!(reports.feed(b"File system:  raw\n Elapsed: 00:00:09, ").is_empty());
        assert!(
            reports.feed(b"Remaining: 123:00:05, Completed:  0.00%, Rate: 3.0KB/min").is_empty()
        );
        assert_eq!(reports.feed(b","), [progress(0, Some("3.0KB/min"), 123 * 3600 + 5)]);
        assert!(reports.feed(b"\x1b[2A\n").is_empty());
        assert!(reports.feed(b"Syncing... ").is_empty());
        assert_eq!(reports.feed(b"OK!"), [Report::Synced]);
        assert!(reports.feed(b"\n").is_empty());
    }

    #[test]
    fn nothing_counts_before_the_map_is_made() {
        let mut reports = Reports::default();
        let text = b"Elapsed: 00:00:01, Remaining: 00:01:39, Completed: 1.00%, 2.00GB/min,\n\
            Syncing... OK!\n";
        assert!(reports.feed(text).is_empty());
        reports.feed(b"File system:  EXTFS\n");
        assert_eq!(reports.feed(text).len(), 2);
    }

    #[test]
    fn what_is_no_number_is_no_progress() {
        let mut reports = Reports::default();
        reports.feed(b"File system:  EXTFS\n");
        for bad in [
            "Remaining: 00:00:0x, Completed: 1.00%, 2GB/min,",
            "Remaining: 00:00, Completed: 1.00%, 2GB/min,",
            "Remaining: 00:00:01, Completed: 1.000%, 2GB/min,",
            "Remaining: 00:00:01, Completed: -1%, 2GB/min,",
            "Remaining: 00:00:01, Completed: 9999999999%, 2GB/min,",
            "Remaining: 00:00:01, Completed: 5%, fast,",
            "Remaining: 99999999999:00:01, Completed: 5%, 1GB/min,",
        ] {
            assert!(reports.feed(format!("{bad}\n").as_bytes()).is_empty(), "{bad}");
        }
        assert_eq!(
            reports.feed(b"Remaining: 00:00:01, Completed: 999%, 2GB/min,\n"),
            [progress(10_000, Some("2GB/min"), 1)]
        );
    }

    #[test]
    fn any_bytes_are_taken_and_little_is_kept() {
        let mut random = fastrand::Rng::with_seed(9);
        let words: [&[u8]; 10] = [
            b"File system:",
            b"Remaining: 00:00:01",
            b", Completed: 50%",
            b", 1GB/min,",
            b"\n",
            b"\x1b[",
            b"Syncing... OK!",
            b"CRC error, block_id=",
            b"\xff\xfe",
            b"is mounted at ",
        ];
        let mut reports = Reports::default();
        for _ in 0..20_000 {
            let said = match random.bool() {
                true => reports.feed(words[random.usize(..words.len())]),
                false => reports.feed(&[random.u8(..), random.u8(..)]),
            };
            assert!(said.len() <= 2);
        }
        reports.feed(&vec![b'x'; 1 << 20]);
        assert!(reports.segment.len() <= SEGMENT_BYTES);
        assert!(reports.last_lines().chars().count() <= (LINES + 1) * (LINE_CHARACTERS + 1));
    }
}
