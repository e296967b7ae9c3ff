//! A job as its client sees it: which messages it is due, each at its time, and the last one once.

use std::error::Error as _;
use std::time::{Duration, Instant, SystemTime};

use engine::jobs::{JobId, Standing};
use engine::partitions::PartcloneFailure;
use engine::partitions::Report;
use engine::{Error, ErrorKind, Phase};

use super::outbound::{self, Message};

/// Which work it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Clone,
    Restore,
}

/// What a client is told of a job.
pub(super) struct View {
    id: JobId,
    kind: Kind,
    source: String,
    destination: String,
    source_uuid: Option<String>,
    start: SystemTime,
    accepted: Instant,
    /// It has passed the checks; until then a refusal is all that is said, unless they take long.
    is_ready: bool,
    last_told: Option<Instant>,
    /// In ten thousandths.
    complete: u32,
    rate: Option<String>,
    finish: Option<SystemTime>,
    /// There is news of the running job.
    is_pending: bool,
    is_syncing: bool,
    has_told_syncing: bool,
    is_cancelled: bool,
}

/// What a job that ended well has to say of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Size of the image that was made, in bytes.
    pub(super) image_bytes: Option<u64>,
    /// Whether it was read back.
    pub(super) verified: bool,
    /// The digest of an image that was read back.
    pub(super) sha256: Option<String>,
}

/// At the latest then a client hears that its request is being worked on: it waits 500 ms.
const FIRST_WITHIN: Duration = Duration::from_millis(300);
/// Messages of one job are so far apart.
const APART: Duration = Duration::from_millis(50);
/// So often the standing of a job is told, where partclone does not say when.
const STANDING_EVERY: Duration = Duration::from_millis(500);
/// So often it is said that a job is syncing.
const SYNCING_EVERY: Duration = Duration::from_millis(700);
/// A job that runs is never further, in ten thousandths.
const NEARLY: u32 = 9999;

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Clone => "clone",
            Kind::Restore => "restore",
        }
    }
}

impl View {
    /// A job that has just been asked for.
    pub(super) fn new(id: JobId, kind: Kind, source: String, destination: String) -> Self {
        View {
            id,
            kind,
            source,
            destination,
            source_uuid: None,
            start: outbound::now(),
            accepted: Instant::now(),
            is_ready: false,
            last_told: None,
            complete: 0,
            rate: None,
            finish: None,
            is_pending: false,
            is_syncing: false,
            has_told_syncing: false,
            is_cancelled: false,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// What is known better now.
    pub(super) fn named(&mut self, source: String, destination: String, uuid: Option<String>) {
        self.source = source;
        self.destination = destination;
        self.source_uuid = uuid;
    }

    /// It has passed the checks.
    pub(super) fn ready(&mut self) {
        self.is_ready = true;
    }

    /// Somebody wants it to stop: nothing is said any more but its end.
    pub(super) fn cancelled(&mut self) {
        self.is_cancelled = true;
    }

    /// Partclone has said something.
    pub(super) fn heard(&mut self, report: Report) {
        match report {
            // Its first report has no rate yet, and its numbers mean nothing.
            Report::Progress(progress) => {
                if progress.rate.is_some() {
                    self.complete = progress.complete.min(NEARLY);
                }
                self.finish = progress
                    .rate
                    .as_ref()
                    .and_then(|_| outbound::now().checked_add(progress.remaining));
                self.rate = progress.rate;
                self.is_pending = true;
                self.is_syncing |= self.kind == Kind::Restore && progress.complete >= 10_000;
            }
            Report::Synced => self.is_syncing = true,
        }
    }

    /// The job stands there; for one that does the work itself.
    pub(super) fn stands(&mut self, standing: &Standing) {
        match standing.phase {
            Some(Phase::Copy) if !self.is_syncing => {
                let part = standing.done_bytes as f64 / standing.total_bytes.max(1) as f64;
                let complete = ((part * 10_000.0) as u32).min(NEARLY);
                self.complete = complete.max(self.complete);
                if let Some(rate) = standing.rate_bytes_per_s {
                    self.rate = Some(rate_text(rate));
                    self.finish = standing.left.and_then(|left| outbound::now().checked_add(left));
                }
                let is_due = |last: Instant| last.elapsed() >= STANDING_EVERY;
                self.is_pending = self.last_told.is_some_and(is_due);
            }
            Some(Phase::Flush | Phase::Verify) => self.is_syncing = true,
            _ => {}
        }
    }

    /// The next message that is due at this moment.
    pub(super) fn due(&mut self) -> Option<String> {
        if self.is_cancelled {
            return None;
        }
        let Some(last) = self.last_told else {
            let is_time = self.is_ready || self.accepted.elapsed() >= FIRST_WITHIN;
            return is_time.then(|| self.first());
        };
        if self.is_pending {
            // What comes thick and fast is told together.
            return (self.is_syncing || last.elapsed() >= APART).then(|| self.news());
        }
        let is_time = !self.has_told_syncing || last.elapsed() >= SYNCING_EVERY;
        (self.is_syncing && is_time).then(|| self.syncing())
    }

    /// All that has to be said before the end, and the end.
    pub(super) fn ended(mut self, result: Result<Outcome, &Error>) -> Vec<String> {
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(error) => return vec![self.failed(error)],
        };
        let mut messages = Vec::new();
        if !self.is_cancelled {
            if self.last_told.is_none() {
                messages.push(self.first());
            }
            if self.is_pending {
                messages.push(self.news());
            }
        }
        if !self.has_told_syncing {
            messages.push(self.syncing());
        }
        let mut end = self.head(self.kind.name());
        if self.kind == Kind::Clone {
            end = end.text_if("source_uuid", self.source_uuid.as_deref());
        }
        end = end.part("complete", 10_000).yes_or_no("syncing", false);
        end = end.moment("finish", outbound::now());
        if let Some(bytes) = outcome.image_bytes {
            end = end.number("image_size", bytes);
        }
        if outcome.verified {
            end = end.yes_or_no("verified", true);
        }
        end = end.text_if("sha256", outcome.sha256.as_deref());
        messages.push(end.finish());
        messages
    }

    fn failed(&self, error: &Error) -> String {
        let kind = format!("{}-failed", self.kind.name());
        let (reason, detail) = reason_of(error);
        let mut message = self.head(&kind);
        if self.kind == Kind::Clone {
            message = message.text_if("source_uuid", self.source_uuid.as_deref());
        }
        let message = message.moment("finish", outbound::now()).text("error", &reason);
        message.text_if("detail", detail.as_deref()).finish()
    }

    fn first(&mut self) -> String {
        self.last_told = Some(Instant::now());
        self.running(0, false, Some((None, None)))
    }

    fn news(&mut self) -> String {
        self.is_pending = false;
        self.last_told = Some(Instant::now());
        // A clone is syncing once that is all it does; a restore with the report that has reached the end.
        let is_syncing = self.kind == Kind::Restore && self.is_syncing;
        self.has_told_syncing |= is_syncing;
        let complete = if is_syncing { NEARLY } else { self.complete };
        self.running(complete, is_syncing, Some((self.rate.as_deref(), self.finish)))
    }

    fn syncing(&mut self) -> String {
        self.last_told = Some(Instant::now());
        self.has_told_syncing = true;
        let pace = match self.kind {
            Kind::Clone => None,
            Kind::Restore => Some((self.rate.as_deref(), self.finish)),
        };
        self.running(NEARLY, true, pace)
    }

    fn running(
        &self,
        complete: u32,
        is_syncing: bool,
        pace: Option<(Option<&str>, Option<SystemTime>)>,
    ) -> String {
        let mut message = self.head(self.kind.name());
        if self.kind == Kind::Clone {
            message = message.text_if("source_uuid", self.source_uuid.as_deref());
        }
        message = message.part("complete", complete).yes_or_no("syncing", is_syncing);
        if let Some((rate, finish)) = pace {
            message = message.text_or_nothing("rate", rate);
            message = message.moment_or_nothing("estimated_finish", finish);
        }
        message.finish()
    }

    fn head(&self, kind: &str) -> Message {
        let message = Message::new(kind).text("id", &self.id.to_string());
        let message = message.text("source", &self.source).text("destination", &self.destination);
        message.moment("start", self.start)
    }
}

/// What is said of a failure, and what is said to those who look closer. `Cancelled` and `Failed` are words that clients
/// compare.
fn reason_of(error: &Error) -> (String, Option<String>) {
    if error.kind() == ErrorKind::Cancelled {
        return ("Cancelled".to_string(), None);
    }
    let mut below = error.source();
    while let Some(cause) = below {
        if let Some(failure) = cause.downcast_ref::<PartcloneFailure>() {
            let reason = failure.reason.clone().unwrap_or_else(|| "Failed".to_string());
            let detail = Some(failure.last_lines.clone()).filter(|lines| !lines.is_empty());
            return (reason, detail);
        }
        below = cause.source();
    }
    (error.full_sentence(), None)
}

/// As partclone writes it: `486.36MB/min`.
fn rate_text(bytes_per_s: f64) -> String {
    let mut number = bytes_per_s * 60.0;
    for unit in ["byte", "KB", "MB", "GB"] {
        if number < 1000.0 {
            return format!("{number:.2}{unit}/min");
        }
        number /= 1000.0;
    }
    format!("{number:.2}TB/min")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(kind: Kind) -> View {
        let id = JobId::parse("0b8b9a52-91f2-4c0d-8a2c-0f6b5a8f6a11").unwrap();
        View::new(id, kind, "/dev/sdb1".to_string(), "/srv/x".to_string())
    }

    fn standing(phase: Phase, done_bytes: u64) -> Standing {
        Standing {
            phase: Some(phase),
            done_bytes,
            total_bytes: 1000,
            rate_bytes_per_s: Some(8_106_000.0),
            left: Some(Duration::from_secs(5)),
            started: outbound::now(),
        }
    }

    fn keys(message: &str) -> Vec<&str> {
        message.lines().map(|line| line.split_once(": ").unwrap().0).collect()
    }

    #[test]
    fn a_job_that_is_refused_at_once_says_nothing_before() {
        let mut view = view(Kind::Clone);
        assert_eq!(view.due(), None);
        let error = Error::new(ErrorKind::InUse, "/dev/sdb1 is mounted at /mnt");
        let messages = view.ended(Err(&error));
        assert_eq!(messages.len(), 1);
        let expected = ["type", "id", "source", "destination", "start", "finish", "error"];
        assert_eq!(keys(&messages[0]), expected);
    }

    #[test]
    fn the_first_message_comes_once_all_is_checked() {
        let mut view = view(Kind::Restore);
        view.ready();
        let first = view.due().unwrap();
        assert!(first.ends_with("complete: 0.0\nsyncing: false\nrate: ~\nestimated_finish: ~\n"));
        assert_eq!(view.due(), None);
    }

    #[test]
    fn a_clone_that_ends_at_once_has_told_all_its_stations() {
        let mut view = view(Kind::Clone);
        view.named("/dev/sdb1".into(), "/srv/y".into(), Some("12 34".into()));
        let sha256 = Some("0f".to_string());
        let outcome = Outcome { image_bytes: Some(77), verified: true, sha256 };
        let messages = view.ended(Ok(outcome));
        assert_eq!(messages.len(), 3);
        assert!(messages[1].ends_with("complete: 0.9999\nsyncing: true\n"), "{}", messages[1]);
        assert!(messages[2].contains("source_uuid: \"12 34\"\ncomplete: 1.0\nsyncing: false\n"));
        assert!(messages[2].ends_with("image_size: 77\nverified: true\nsha256: \"0f\"\n"));
    }

    #[test]
    fn a_cancelled_job_says_nothing_but_its_end() {
        let mut view = view(Kind::Clone);
        view.ready();
        view.due().unwrap();
        view.cancelled();
        view.stands(&standing(Phase::Flush, 0));
        assert_eq!(view.due(), None);
        let messages = view.ended(Err(&Error::new(ErrorKind::Cancelled, "interrupted")));
        assert_eq!(messages.len(), 1);
        assert!(messages[0].ends_with("error: \"Cancelled\"\n"));
    }

    #[test]
    fn the_standing_becomes_parts_and_rates() {
        let mut view = view(Kind::Restore);
        view.ready();
        view.due().unwrap();
        view.last_told = Instant::now().checked_sub(STANDING_EVERY);
        view.stands(&standing(Phase::Copy, 457));
        let news = view.due().unwrap();
        assert!(news.contains("complete: 0.457\nsyncing: false\nrate: \"486.36MB/min\"\n"));
        view.stands(&standing(Phase::Flush, 0));
        let syncing = view.due().unwrap();
        assert!(syncing.contains("complete: 0.9999\nsyncing: true\nrate: \"486.36MB/min\"\n"));
        assert_eq!(view.due(), None);
    }

    #[test]
    fn an_unknown_failure_of_partclone_is_the_word_failed_and_its_last_lines() {
        let failure = |reason: Option<&str>| PartcloneFailure {
            program: "partclone.ext4".into(),
            reason: reason.map(str::to_string),
            last_lines: "one\ntwo".into(),
        };
        let error = |reason| Error::new(ErrorKind::Io, "x").because(failure(reason)).context("y");
        let detail = Some("one\ntwo".to_string());
        assert_eq!(reason_of(&error(None)), ("Failed".to_string(), detail.clone()));
        assert_eq!(reason_of(&error(Some("no room"))), ("no room".to_string(), detail));
    }

    #[test]
    fn rates_have_the_unit_that_keeps_them_short() {
        for (rate, text) in [
            (1.0, "60.00byte/min"),
            (100.0, "6.00KB/min"),
            (25e6, "1.50GB/min"),
            (1e15, "60000.00TB/min"),
        ] {
            assert_eq!(rate_text(rate), text);
        }
    }
}
