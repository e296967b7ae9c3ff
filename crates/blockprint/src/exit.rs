//! Exit codes: one for each kind of trouble, so that scripts need not read sentences.

use std::process::ExitCode;

use engine::ErrorKind;

/// The two images are different.
pub(crate) const DIFFERENT: u8 = 1;
/// The copy is complete except for ranges that could not be read.
pub(crate) const INCOMPLETE: u8 = 3;

/// All codes and their meanings: help, manual page and code are held together by a test.
pub(crate) const TABLE: &[(u8, &str)] = &[
    (0, "done; compare: equal"),
    (1, "compare, verify: different; store verify: damaged chunks are left"),
    (2, "the command line could not be understood"),
    (3, "copied, except for ranges that could not be read"),
    (10, "something that was named is not there"),
    (11, "something is there already, and --force was not given"),
    (12, "the system does not permit it"),
    (13, "mounted, attached, or held by somebody else"),
    (14, "the target is too small"),
    (15, "no space left"),
    (16, "this system, filesystem or format cannot do it"),
    (17, "a request or a name that makes no sense"),
    (18, "damaged: bytes are not what they should be"),
    (19, "something changed meanwhile, so that the result would be worthless"),
    (20, "reading or writing failed"),
    (130, "interrupted (Ctrl-C); 143 for SIGTERM, 129 for SIGHUP"),
];

/// The code for an error.
pub(crate) fn code(kind: ErrorKind) -> ExitCode {
    ExitCode::from(match kind {
        ErrorKind::NotFound => 10,
        ErrorKind::Exists => 11,
        ErrorKind::Denied => 12,
        ErrorKind::InUse => 13,
        ErrorKind::TooSmall => 14,
        ErrorKind::Full => 15,
        ErrorKind::Unsupported => 16,
        ErrorKind::Invalid => 17,
        ErrorKind::Damaged => 18,
        ErrorKind::Changed => 19,
        ErrorKind::Cancelled => 128 + crate::signals::received().unwrap_or(2),
        _ => 20,
    })
}

/// The table as text, for help and manual pages.
pub(crate) fn table() -> String {
    TABLE
        .iter()
        .fold(String::new(), |text, (code, meaning)| text + &format!("  {code:>3}  {meaning}\n"))
}
