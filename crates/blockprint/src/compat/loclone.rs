//! `loclone SOURCE DEST`: its arguments, messages and exit codes, without its weaknesses.
//!
//! Source: loclone as of August 2023. Like that tool it overwrites DEST without a question and prints the two
//! "not mounted" lines on standard output. Unlike it, nothing stays frozen, an old DEST stands until the new
//! one is complete, and partitions, several loop devices and other mount namespaces are found.

use std::error::Error as _;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::location::Location;
use engine::ops::clone::{self, CloneRequest, ModeRule};
use engine::{Error, Reflink, Steps, Task, Threads};

use crate::render::{complain, say};
use crate::{debug, signals};

pub(crate) fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let program = args.next().unwrap_or_default();
    match parse(args) {
        Parsed::Usage => {
            complain(&format!("Usage: {} [src] [dest]", program.display()));
            ExitCode::FAILURE
        }
        Parsed::Missing => {
            complain("Expected arguments");
            ExitCode::FAILURE
        }
        Parsed::Run { source, target } => match run(&source, &target) {
            Ok(()) => ExitCode::SUCCESS,
            Err(sentence) => {
                complain(&sentence);
                ExitCode::FAILURE
            }
        },
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    Usage,
    Missing,
    Run { source: PathBuf, target: PathBuf },
}

/// As getopt reads it: options anywhere before `--`; arguments after the second are ignored.
fn parse(args: impl Iterator<Item = OsString>) -> Parsed {
    let mut names = Vec::new();
    let mut options = true;
    for arg in args {
        if options && arg == "--" {
            options = false;
        } else if options && arg.as_bytes().starts_with(b"-") && arg != "-" {
            return Parsed::Usage;
        } else {
            names.push(PathBuf::from(arg));
        }
    }
    let mut names = names.into_iter();
    match (names.next(), names.next()) {
        (Some(source), Some(target)) => Parsed::Run { source, target },
        _ => Parsed::Missing,
    }
}

fn run(source: &Path, target: &Path) -> Result<(), String> {
    let shown = source.display().to_string();
    let metadata = fs::metadata(source)
        .map_err(|cause| format!("Error opening {shown}: {}", reason_of_io(&cause)))?;
    if !metadata.is_file() {
        return Err(format!("{shown} is not a valid image"));
    }
    if target.is_dir() {
        return Err(format!("Error opening {}: Is a directory", target.display()));
    }
    let stage = Arc::new(Mutex::new("opening"));
    let follow = {
        let stage = Arc::clone(&stage);
        let hooks = debug::steps();
        Steps::new(move |step| {
            let next = match step {
                "opened" => Some("cloning"),
                "flushed" => Some("freezing"),
                "frozen" => Some("cloning"),
                "cloned" => Some("thawing"),
                _ => None,
            };
            if let Some(next) = next {
                *stage.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = next;
            }
            hooks.reach(step);
        })
    };
    let request = CloneRequest {
        sources: vec![Location { format: None, path: source.to_owned() }],
        target: target.to_owned(),
        force: true,
        reflink: Reflink::Always,
        freeze_timeout: Duration::from_secs(5),
        mode: ModeRule::LessUmask,
        threads: Threads::Automatic,
        steps: follow,
    };
    let task = Task::new(Box::new(Quiet), signals::cancel_flag());
    let failed = |error: Error| {
        let stage = *stage.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let about_target = |place: &Path| place == target || Some(place) == target.parent();
        let place = error.location().map(|place| Path::new(&place.name));
        let name = if stage == "opening" && place.is_some_and(about_target) {
            target.display().to_string()
        } else {
            shown.clone()
        };
        format!("Error {stage} {name}: {}", reason(&error))
    };
    let plan = clone::plan(request, &task).map_err(&failed)?;
    let frozen = !plan.filesystems().is_empty();
    if !frozen {
        say(&format!("{shown} is not mounted, not freezing"));
    }
    clone::perform(plan, &task).map_err(&failed)?;
    if !frozen {
        say(&format!("{shown} is not mounted, not thawing"));
    }
    Ok(())
}

/// The text of errno if the trouble has one, else the whole sentence.
fn reason(error: &Error) -> String {
    let mut below = error.source();
    while let Some(cause) = below {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return reason_of_io(io);
        }
        below = cause.source();
    }
    error.full_sentence()
}

fn reason_of_io(cause: &io::Error) -> String {
    let text = cause.to_string();
    text.split(" (os error").next().unwrap_or_default().to_string()
}

/// That tool says nothing on the way.
struct Quiet;

impl engine::Listener for Quiet {
    fn began(&self, _: engine::Phase, _: u64) {}
    fn noted(&self, _: &str) {}
    fn warned(&self, _: &str) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Parsed {
        parse(args.iter().map(OsString::from))
    }

    #[test]
    fn arguments_are_read_as_getopt_reads_them() {
        let both = Parsed::Run { source: "a".into(), target: "b".into() };
        assert_eq!(parsed(&["a", "b"]), both);
        assert_eq!(parsed(&["a", "b", "c"]), both);
        assert_eq!(parsed(&["--", "a", "b"]), both);
        assert_eq!(parsed(&["a", "b", "-h"]), Parsed::Usage);
        assert_eq!(parsed(&["-x", "a", "b"]), Parsed::Usage);
        assert_eq!(parsed(&["a"]), Parsed::Missing);
        assert_eq!(parsed(&[]), Parsed::Missing);
    }
}
