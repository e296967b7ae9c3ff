//! The one error type: a kind for programs, a sentence for people, a location, and the cause below.

use std::fmt;
use std::io;
use std::ops::Range;

/// What a function of blockprint returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Something that could not be done.
///
/// `Display` prints the sentence, which by itself says what was wanted, where, and why not.
/// [`Error::full_sentence`] adds the causes below it.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    sentence: String,
    location: Option<Location>,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What sort of trouble it is, for programs. Each has an exit code of its own in the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file, device or folder that was named is not there.
    NotFound,
    /// Something is already there, and nobody asked to replace it.
    Exists,
    /// The operating system does not permit it.
    Denied,
    /// It is mounted, attached, or held by somebody else.
    InUse,
    /// The target cannot hold what it should hold.
    TooSmall,
    /// The medium has no space left.
    Full,
    /// This system, filesystem or format cannot do it.
    Unsupported,
    /// A request, a number or a name that makes no sense.
    Invalid,
    /// Bytes that are not what they should be: a broken file, or a failed verification.
    Damaged,
    /// Something changed under our hands, so that the result would be neither old nor new.
    Changed,
    /// Reading or writing failed.
    Io,
    /// The work was told to stop.
    Cancelled,
}

impl ErrorKind {
    /// The name that programs see, in JSON and in the documentation of exit codes.
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "not-found",
            ErrorKind::Exists => "exists",
            ErrorKind::Denied => "denied",
            ErrorKind::InUse => "in-use",
            ErrorKind::TooSmall => "too-small",
            ErrorKind::Full => "full",
            ErrorKind::Unsupported => "unsupported",
            ErrorKind::Invalid => "invalid",
            ErrorKind::Damaged => "damaged",
            ErrorKind::Changed => "changed",
            ErrorKind::Io => "io",
            ErrorKind::Cancelled => "cancelled",
        }
    }
}

/// Where it happened: a name that people know, and the bytes of it, if it was about certain bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// A path, or the name of a medium that has none.
    pub name: String,
    /// Offsets in bytes.
    pub range: Option<Range<u64>>,
}

impl Error {
    /// An error of `kind`. The sentence says what was wanted, where, why not, and what to do.
    pub fn new(kind: ErrorKind, sentence: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, sentence: sentence.into(), location: None, cause: None }))
    }

    /// An error of the operating system, its kind taken from `cause`; the sentence says what was attempted.
    pub fn io(sentence: impl Into<String>, cause: io::Error) -> Self {
        Error::new(kind_of(&cause), sentence).because(cause)
    }

    /// Says where it happened.
    #[must_use]
    pub fn at(mut self, name: impl Into<String>, range: Option<Range<u64>>) -> Self {
        self.0.location = Some(Location { name: name.into(), range });
        self
    }

    /// Says what lies below.
    #[must_use]
    pub fn because(
        mut self,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync + 'static>>,
    ) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// The same trouble seen from one floor up: keeps kind and location, the old error becomes the cause.
    #[must_use]
    pub fn context(self, sentence: impl Into<String>) -> Self {
        let kind = self.kind();
        let location = self.0.location.clone();
        let mut outer = Error::new(kind, sentence).because(self);
        outer.0.location = location;
        outer
    }

    /// The same error with one more sentence behind it, such as what was left behind and what to do.
    #[must_use]
    pub fn and(mut self, more: impl fmt::Display) -> Self {
        self.0.sentence = match self.0.cause.take() {
            Some(cause) => format!("{}: {}; {more}", self.0.sentence, chain(&*cause)),
            None => format!("{}; {more}", self.0.sentence),
        };
        self
    }

    /// What sort of trouble it is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Where it happened, if it is about one place.
    pub fn location(&self) -> Option<&Location> {
        self.0.location.as_ref()
    }

    /// The sentence and, after colons, the causes below it: what is printed, once.
    pub fn full_sentence(&self) -> String {
        chain(self)
    }
}

fn kind_of(cause: &io::Error) -> ErrorKind {
    match cause.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::AlreadyExists => ErrorKind::Exists,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Denied,
        io::ErrorKind::ResourceBusy | io::ErrorKind::ExecutableFileBusy => ErrorKind::InUse,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Full,
        io::ErrorKind::FileTooLarge => ErrorKind::TooSmall,
        io::ErrorKind::Unsupported | io::ErrorKind::CrossesDevices => ErrorKind::Unsupported,
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidFilename => ErrorKind::Invalid,
        io::ErrorKind::InvalidData => ErrorKind::Damaged,
        _ => ErrorKind::Io,
    }
}

/// The sentences from `error` downwards, a colon between them.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = words_of(error);
    let mut below = error.source();
    while let Some(cause) = below {
        let words = words_of(cause);
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        below = cause.source();
    }
    text
}

/// The words of one error; those of the system without Rust's "(os error 5)".
fn words_of(error: &(dyn std::error::Error + 'static)) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(end) if error.is::<io::Error>() => text[..end].to_string(),
        _ => text,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.sentence)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, chain(self))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_sentence_names_each_cause_once_and_without_numbers() {
        let low = io::Error::from_raw_os_error(5);
        let error = Error::io("cannot read disk.img", low).context("cannot copy disk.img");
        assert_eq!(
            error.full_sentence(),
            "cannot copy disk.img: cannot read disk.img: Input/output error"
        );
        assert_eq!(error.kind(), ErrorKind::Io);
    }

    #[test]
    fn what_is_added_comes_after_the_cause() {
        let error = Error::io("cannot write a", io::Error::from_raw_os_error(28)).and("b is kept");
        assert_eq!(error.full_sentence(), "cannot write a: No space left on device; b is kept");
        assert_eq!(error.kind(), ErrorKind::Full);
    }

    #[test]
    fn a_location_survives_its_context() {
        let error = Error::new(ErrorKind::Damaged, "bad").at("x", Some(5..9)).context("worse");
        assert_eq!(error.location().unwrap().range, Some(5..9));
    }
}
