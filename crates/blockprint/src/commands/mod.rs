//! From arguments to a request, from a report to an exit code: one file for each command.

mod backup;
mod backups;
mod cat;
mod clone;
mod compare;
mod confirm;
mod copy;
mod daemon;
mod devices;
mod disk;
mod extract;
mod generate;
mod index;
mod info;
mod make;
mod restore;
mod store;
mod sync;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};
use crate::exit;
use crate::render::Face;

/// The program under its own name.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let face = Face::new(&cli.common);
    let common = cli.common;
    let result = match cli.command {
        Command::Info(args) => info::run(args, &face),
        Command::Copy(args) => copy::run(args, &common, &face),
        Command::Compare(args) => compare::run(args, &common, &face),
        Command::Sync(args) => sync::run(args, &common, &face),
        Command::Clone(args) => clone::run(args, &common, &face),
        Command::Cat(args) => cat::run(args, &common, &face),
        Command::Make(args) => make::run(args, &common, &face),
        Command::Extract(args) => extract::run(args, &common, &face),
        Command::Verify(args) => verify::run(args, &common, &face),
        Command::Index(args) => index::run(args, &face),
        Command::Store(args) => store::run(args, &common, &face),
        Command::Devices(args) => devices::run(&args, &face),
        Command::Backup(args) => backup::run(args, &common, &face),
        Command::Restore(args) => restore::run(args, &common, &face),
        Command::Backups(args) => backups::run(args, &face),
        Command::Daemon(args) => daemon::run(&args),
        Command::Completions(args) => generate::completions(&args),
        Command::Man(args) => generate::man(&args),
    };
    result.unwrap_or_else(|error| {
        face.error(&error);
        exit::code(error.kind())
    })
}
