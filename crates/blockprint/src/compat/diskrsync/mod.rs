//! `diskrsync`: the client, and both of the ends that a client starts, with that tool's flags, messages and exit codes.
//!
//! Source: diskrsync, two commits after v1.3.0. What is different: an operand too many is no longer ignored, a host or
//! path cannot become a flag or a command, a peer that lies or leaves early is an error, a target is checked before it is
//! written and durable when the program ends, and two local images are compared without digests.

mod args;
mod bars;
mod client;
pub(super) mod log;
mod operand;
mod progress;
mod role;

use std::ffi::OsString;
use std::num::NonZero;
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use engine::Threads;
use engine::location::Format;
use engine::ops::sync::{EndRequest, KeepDigests, ServeRole};

use crate::debug;
use crate::render::complain;
use args::{Cli, Part};

/// The exit status after a command line that makes no sense.
const USAGE: u8 = 2;

pub(crate) fn main() -> ExitCode {
    let line: Vec<OsString> = std::env::args_os().collect();
    let program = line.first().cloned().unwrap_or_else(|| "diskrsync".into());
    let (cli, part) = match Cli::read(line) {
        Ok(read) => read,
        Err(reason) => {
            if !reason.is_empty() {
                complain(&format!("diskrsync: {reason}"));
            }
            complain(&args::usage(&program));
            return ExitCode::from(USAGE);
        }
    };
    let done = match part {
        Part::Client { source, target } => client::run(&cli, &program, &source, &target),
        Part::Source(path) => role::run(&cli, ServeRole::Source, path),
        Part::Target(path) => role::run(&cli, ServeRole::Target, path),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::line(&error.full_sentence());
            ExitCode::FAILURE
        }
    }
}

/// The block size of that tool's containers, in bytes.
const BLOCK_BYTES: NonZero<u64> = NonZero::new((128 << 10) - 1).unwrap();

/// How an end works that is on this machine.
fn end(cli: &Cli) -> EndRequest {
    EndRequest {
        format: Some(if cli.no_compress { Format::Raw } else { Format::Spgz }),
        block_bytes: Some(BLOCK_BYTES).filter(|_| !cli.no_compress),
        content_decides: true,
        atomic: false,
        keep_digests: KeepDigests::No,
        since: None,
        threads: Threads::Automatic,
        checkpoint_every: Duration::from_secs(5),
        steps: debug::steps(),
    }
}

/// Does the work, and looks every so often meanwhile.
fn meanwhile<R>(every: Duration, look: impl Fn() + Send, work: impl FnOnce() -> R) -> R {
    let (stop, stopped) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                look();
            }
        });
        // Dropped also when the work panics, before its thread is waited for.
        let _stop = stop;
        work()
    })
}
