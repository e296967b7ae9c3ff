//! `apart-core ADDRESS`: the daemon under the name by which graphical programs start it.
//!
//! Source: apart-core 0.3.16. Like that tool it takes one argument and ignores more.

use std::process::ExitCode;

use crate::daemon;
use crate::render::say;

/// What is said where the address is missing or none, and to whoever asks for help.
const USAGE: &str = "\
Usage: apart-core ADDRESS

ADDRESS is where the client listens, a ZeroMQ endpoint of the form ipc://PATH.

Environment variables:
  APART_PARTCLONE_CMD   prefix of the partclone programs, to which a dot and the variant are added
  APART_LSBLK_CMD       the lsblk program";

pub(crate) fn main() -> ExitCode {
    let address = std::env::args_os().nth(1).and_then(|address| address.into_string().ok());
    match address.filter(|address| address.starts_with(daemon::SCHEME)) {
        Some(address) => daemon::serve(&address),
        None => {
            say(USAGE);
            ExitCode::FAILURE
        }
    }
}
