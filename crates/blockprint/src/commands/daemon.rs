//! `blockprint daemon`.

use std::process::ExitCode;

use engine::{Error, ErrorKind, Result};

use crate::args::DaemonArgs;
use crate::daemon;

pub(super) fn run(args: &DaemonArgs) -> Result<ExitCode> {
    if !args.address.starts_with(daemon::SCHEME) {
        let sentence = format!(
            "{} is no address of a socket (it has to begin with {})",
            args.address,
            daemon::SCHEME
        );
        return Err(Error::new(ErrorKind::Invalid, sentence));
    }
    Ok(daemon::serve(&args.address))
}
