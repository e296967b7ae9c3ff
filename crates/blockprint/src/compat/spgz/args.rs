//! The command line of that tool, read as Go's `flag` package reads it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// `-c`: make a container.
    Create {
        /// What does not exist yet.
        container: PathBuf,
        /// What is read; `-` is standard input.
        input: PathBuf,
    },
    /// `-x`: write the image out.
    Extract {
        /// What is read.
        container: PathBuf,
        /// What is written; `-` is standard output.
        output: PathBuf,
    },
    /// `-s`: tell the size of the image.
    Size {
        /// What is looked at.
        container: PathBuf,
    },
    /// `-b`: serve it as a block device.
    Serve,
}

/// A call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) work: Work,
    /// `-no-sparse`: zeroes are written.
    pub(super) no_sparse: bool,
    /// `-skip-damaged`: damaged blocks become zeroes, and are listed. That tool has no such flag.
    pub(super) skip_damaged: bool,
    /// `-debug`: says more.
    pub(super) debug: bool,
}

/// Why there is no call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// `-h`, `-help`.
    Help,
    /// What cannot be read: a flag that is not known, or one without its value.
    Flag(String),
    /// What makes no sense together.
    Usage(String),
}

/// Usage, as one line.
pub(super) const USAGE: &str = "Usage: spgz [-debug] {-c CONTAINER INPUT | [-no-sparse] [-skip-damaged] \
                                -x CONTAINER OUTPUT | -s CONTAINER}";

/// The flags, as lines.
pub(super) const FLAGS: &str = "\
  -c CONTAINER
    \tmake CONTAINER, which must not exist, of the image INPUT (- is standard input)
  -x CONTAINER
    \twrite the image in CONTAINER to the file or device OUTPUT (- is standard output)
  -s CONTAINER
    \tprint the size of the image in CONTAINER, in bytes
  -no-sparse
    \twith -x: write zeroes instead of leaving holes
  -skip-damaged
    \twith -x: write zeroes for damaged blocks, list them, and go on
  -debug
    \tsay more
  -b CONTAINER
    \tnot supported: extract the image, and attach it with losetup";

/// The flags that name a container, and those that are on or off.
const MODES: [&str; 4] = ["x", "c", "b", "s"];
const SWITCHES: [&str; 4] = ["no-sparse", "skip-damaged", "debug", "buse-readonly"];

/// Reads the arguments behind the name of the program.
///
/// The flag of a mode takes the container as its value; followed by another flag it takes it from the operands.
pub(super) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Call, Refused> {
    let mut args = args.into_iter().peekable();
    let mut modes: Vec<(&str, Option<PathBuf>)> = Vec::new();
    let mut on: Vec<&str> = Vec::new();
    while let Some(arg) = args.next_if(|arg| is_flag(arg)) {
        if arg == "--" {
            break;
        }
        let (name, mut value) = cut(&arg);
        let shown = String::from_utf8_lossy(name).into_owned();
        let known =
            |table: &'static [&str]| table.iter().copied().find(|known| known.as_bytes() == name);
        if let Some(mode) = known(&MODES) {
            value = value.or_else(|| args.next_if(|next| !is_known_flag(next)));
            modes.push((mode, value.map(PathBuf::from)));
        } else if let Some(switch) = known(&SWITCHES) {
            match value.as_deref().map(OsStr::as_bytes) {
                None | Some(b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True") => on.push(switch),
                Some(b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False") => {
                    on.retain(|other| *other != switch);
                }
                Some(_) => {
                    return Err(Refused::Flag(format!("invalid boolean value for -{shown}")));
                }
            }
        } else if name == b"buse-block-size" {
            if value.is_none() && args.next().is_none() {
                return Err(Refused::Flag(format!("flag needs an argument: -{shown}")));
            }
        } else if name == b"h" || name == b"help" {
            return Err(Refused::Help);
        } else {
            return Err(Refused::Flag(format!("flag provided but not defined: -{shown}")));
        }
    }
    let has = |mode| modes.iter().any(|(given, _)| *given == mode);
    if (has("x") && (has("c") || has("s"))) || (has("c") && has("s")) {
        return Err(usage("only one of -c, -x and -s is possible"));
    }
    let chosen = MODES.into_iter().find(|mode| has(mode));
    let Some(mode) = chosen else { return Err(usage("one of -c, -x and -s is needed")) };
    // Of one that is given twice the last counts, as there.
    let given =
        modes.into_iter().rev().find(|(given, _)| *given == mode).and_then(|(_, path)| path);
    let mut operands = args.map(PathBuf::from);
    let mut next =
        |what: &str| operands.next().ok_or_else(|| usage(&format!("-{mode} needs {what}")));
    let work = match mode {
        "b" => Work::Serve,
        mode => {
            let container = match given {
                Some(path) => path,
                None => next("the name of a container")?,
            };
            match mode {
                "c" => Work::Create { container, input: next("an input behind the container")? },
                "x" => Work::Extract { container, output: next("an output behind the container")? },
                _ => Work::Size { container },
            }
        }
    };
    if work != Work::Serve
        && let Some(extra) = operands.next()
    {
        return Err(usage(&format!("{} is one operand too many", extra.display())));
    }
    let is_on = |switch| on.contains(&switch);
    let call = Call {
        no_sparse: is_on("no-sparse"),
        skip_damaged: is_on("skip-damaged"),
        debug: is_on("debug"),
        work,
    };
    if call.skip_damaged && !matches!(call.work, Work::Extract { .. } | Work::Serve) {
        return Err(usage("-skip-damaged goes with -x"));
    }
    Ok(call)
}

fn usage(why: &str) -> Refused {
    Refused::Usage(why.to_string())
}

/// A lone `-` is an operand.
fn is_flag(arg: &OsStr) -> bool {
    arg.len() > 1 && arg.as_bytes()[0] == b'-'
}

/// Name and value of `-name`, `--name`, `-name=value`.
fn cut(arg: &OsStr) -> (&[u8], Option<OsString>) {
    let bytes = arg.as_bytes();
    let bytes = bytes.strip_prefix(b"--").or(bytes.strip_prefix(b"-")).unwrap_or(bytes);
    match bytes.iter().position(|&byte| byte == b'=') {
        Some(at) => (&bytes[..at], Some(OsString::from_vec(bytes[at + 1..].to_vec()))),
        None => (bytes, None),
    }
}

fn is_known_flag(arg: &OsStr) -> bool {
    let (name, _) = cut(arg);
    let mut known = MODES.iter().chain(&SWITCHES).chain(&["buse-block-size", "h", "help"]);
    is_flag(arg) && known.any(|known| known.as_bytes() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Call, Refused> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn extract(output: &str) -> Call {
        let work = Work::Extract { container: "C".into(), output: output.into() };
        Call { work, no_sparse: false, skip_damaged: false, debug: false }
    }

    #[test]
    fn flags_have_one_dash_or_two_and_come_before_the_operands() {
        for line in ["-x C OUT", "--x C OUT", "-x=C OUT", "--x=C OUT", "-x C -- OUT"] {
            assert_eq!(read(line), Ok(extract("OUT")), "{line}");
        }
        assert_eq!(read("-x C -"), Ok(extract("-")));
        let dense = Call { no_sparse: true, ..extract("OUT") };
        for line in [
            "-no-sparse -x C OUT",
            "-x C -no-sparse OUT",
            "-x -no-sparse C OUT",
            "-no-sparse=1 -x C OUT",
        ] {
            assert_eq!(read(line), Ok(dense.clone()), "{line}");
        }
        assert_eq!(read("-no-sparse -no-sparse=false -x C OUT"), Ok(extract("OUT")));
        let work = Work::Create { container: "C".into(), input: "-".into() };
        let create = Call { work, debug: true, ..extract("") };
        assert_eq!(read("-debug -c C -"), Ok(create));
        let size = Call { work: Work::Size { container: "C".into() }, ..extract("") };
        assert_eq!(read("-s C"), Ok(size));
    }

    #[test]
    fn a_mode_is_needed_and_only_one_is_possible() {
        for line in ["", "C", "-debug", "-x C -c D", "-x C -s C", "-c C -s C IN"] {
            assert!(matches!(read(line), Err(Refused::Usage(_))), "{line}");
        }
        assert_eq!(read("-b C -s C /dev/nbd0").unwrap().work, Work::Serve);
        assert_eq!(read("-buse-block-size 4096 -b C /dev/nbd0").unwrap().work, Work::Serve);
    }

    #[test]
    fn operands_are_counted() {
        for line in ["-x C", "-x C A B", "-c C", "-c C A B", "-s", "-s C D", "-skip-damaged -s C"] {
            assert!(matches!(read(line), Err(Refused::Usage(_))), "{line}");
        }
    }

    #[test]
    fn what_is_no_flag_is_told_from_help() {
        for line in ["-y", "--unknown=3 -s C", "-debug=maybe -s C", "-buse-block-size"] {
            assert!(matches!(read(line), Err(Refused::Flag(_))), "{line}");
        }
        assert_eq!(read("-h"), Err(Refused::Help));
        assert_eq!(read("-s C --help"), Err(Refused::Help));
        assert_eq!(read("-s C D --help"), Err(usage("D is one operand too many")));
    }
}
