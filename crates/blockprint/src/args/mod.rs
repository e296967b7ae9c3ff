//! What is typed: the commands, their options and their help. Manual pages and completions are made from this.

mod backup;
mod backups;
mod cat;
mod clone;
mod compare;
mod copy;
mod daemon;
mod devices;
mod extract;
mod generate;
mod index;
mod info;
mod make;
mod restore;
mod store;
mod stores;
mod sync;
mod units;
mod verify;

use std::num::NonZero;

use clap::{Args, Parser, Subcommand, ValueEnum};
use engine::Threads;

pub(crate) use backup::{BackupArgs, CompressionArg};
pub(crate) use backups::BackupsArgs;
pub(crate) use cat::CatArgs;
pub(crate) use clone::{CloneArgs, ReflinkArg};
pub(crate) use compare::CompareArgs;
pub(crate) use copy::{CopyArgs, OnReadErrorArg};
pub(crate) use daemon::DaemonArgs;
pub(crate) use devices::DevicesArgs;
pub(crate) use extract::ExtractArgs;
pub(crate) use generate::{CompletionsArgs, ManArgs};
pub(crate) use index::{IndexArgs, IndexCommand};
pub(crate) use info::InfoArgs;
pub(crate) use make::MakeArgs;
pub(crate) use restore::{GrowArg, RestoreArgs};
pub(crate) use store::{StoreArgs, StoreCommand, StoreCopyArgs, StorePruneArgs};
pub(crate) use stores::StoresArgs;
pub(crate) use sync::{FormatArg, ProtocolArg, ServeArg, SyncArgs};
pub(crate) use verify::VerifyArgs;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "blockprint",
    version,
    about = "Exact copies of disks and disk images",
    long_about = "Blockprint makes exact copies of disks and keeps them: block devices and disk images, sparse, \
                  verified, resumable, and also while they are in use.",
    after_help = "See `blockprint help COMMAND` for options and examples.",
    after_long_help = exit_codes(),
    max_term_width = 100,
    propagate_version = false,
    infer_subcommands = false
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Info(InfoArgs),
    Copy(CopyArgs),
    Compare(CompareArgs),
    Sync(SyncArgs),
    Clone(CloneArgs),
    Cat(CatArgs),
    Make(MakeArgs),
    Extract(ExtractArgs),
    Verify(VerifyArgs),
    Index(IndexArgs),
    Store(StoreArgs),
    Devices(DevicesArgs),
    Backup(BackupArgs),
    Restore(RestoreArgs),
    Backups(BackupsArgs),
    Daemon(DaemonArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// Options that each command has.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Common options")]
pub(crate) struct Common {
    /// Write events and results as JSON lines to standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say nothing but errors and what was asked for
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// How progress is shown: `auto` is a bar on a terminal, and nothing elsewhere
    #[arg(long, global = true, value_name = "HOW", value_enum, default_value_t)]
    pub(crate) progress: ProgressArg,
    /// When to use colours: `auto` is on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t)]
    pub(crate) color: ColorArg,
    /// How many threads work [default: one for each processor, at least 2]
    #[arg(short = 'n', long, global = true, value_name = "N")]
    pub(crate) threads: Option<NonZero<usize>>,
    /// Read at most RATE bytes a second; in a sync with another machine, send and receive: 500K, 20M, 1G (powers of
    /// 1024), 20MB (powers of 1000)
    #[arg(long, global = true, value_name = "RATE", value_parser = units::bytes)]
    pub(crate) limit: Option<u64>,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressArg {
    /// A bar on a terminal, nothing elsewhere
    #[default]
    Auto,
    /// A bar, also where there is no terminal
    Bar,
    /// A line from time to time
    Plain,
    /// Nothing
    None,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorArg {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Also elsewhere
    Always,
    /// Never
    Never,
}

impl Common {
    /// How many threads to use.
    pub(crate) fn threads(&self) -> Threads {
        self.threads.map_or(Threads::Automatic, Threads::Exactly)
    }
}

/// The exit codes, for the end of the long help.
pub(crate) fn exit_codes() -> String {
    format!("Exit codes:\n{}", crate::exit::table())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn each_command_has_examples_in_its_help() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let example = format!("blockprint {}", command.get_name());
            assert!(help.contains(&example), "{} has no example", command.get_name());
        }
    }
}
