//! `blockprint store`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::make::PackingArgs;
use super::units;

/// Look after a chunk store
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blockprint store info default.castr                     how many chunks, how much space
  blockprint store verify default.castr                   is every chunk what its name says?
  blockprint store verify default.castr --repair-from /mnt/backup.castr
  blockprint store prune default.castr *.caibx --dry-run  what does no index name?
  blockprint store copy default.castr usb.castr --index disk.caibx
  blockprint store list default.castr                     the ID of each chunk")]
pub(crate) struct StoreArgs {
    #[command(subcommand)]
    pub(crate) command: StoreCommand,
}

/// What to do with a store.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    Info(StoreInfoArgs),
    List(StoreListArgs),
    Verify(StoreVerifyArgs),
    Prune(StorePruneArgs),
    Copy(StoreCopyArgs),
}

/// How many chunks a store has, and how much space they take
#[derive(Debug, Args)]
pub(crate) struct StoreInfoArgs {
    /// The store
    pub(crate) store: OsString,
}

/// The ID of each chunk of a store, one a line
#[derive(Debug, Args)]
pub(crate) struct StoreListArgs {
    /// The store
    pub(crate) store: OsString,
    /// Also the form and the bytes that it takes
    #[arg(short, long)]
    pub(crate) long: bool,
}

/// Read every chunk of a store, and compare it with its name
///
/// Exits with 1 if damaged chunks are left.
#[derive(Debug, Args)]
pub(crate) struct StoreVerifyArgs {
    /// The store
    pub(crate) store: OsString,
    /// Remove damaged chunks, so that the next make keeps them anew
    #[arg(long, conflicts_with = "repair_from")]
    pub(crate) remove: bool,
    /// Replace damaged chunks by those of another store
    #[arg(long, value_name = "STORE")]
    pub(crate) repair_from: Option<OsString>,
}

/// Remove the chunks that no index names
///
/// Safe beside a running make of this program: what that has written or relies on stays. Other programs take no
/// locks; for them, chunks that are younger than --grace stay.
#[derive(Debug, Args)]
pub(crate) struct StorePruneArgs {
    /// The store
    pub(crate) store: OsString,
    /// Indexes whose chunks stay, or folders that hold them
    #[arg(required = true, value_name = "INDEX|FOLDER")]
    pub(crate) indexes: Vec<PathBuf>,
    /// Keep what was written or reused within this time: 30s, 10m, 2h, 7d
    #[arg(long, value_name = "TIME", value_parser = units::age, default_value = "1h")]
    pub(crate) grace: Duration,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Ignore unknown feature flags of indexes
    #[arg(long)]
    pub(crate) lenient: bool,
}

/// Bring chunks from one store into another, verified on the way
#[derive(Debug, Args)]
pub(crate) struct StoreCopyArgs {
    /// Where the chunks are
    pub(crate) source: OsString,
    /// Where they go; a folder is made if its parent is there
    pub(crate) target: OsString,
    /// Look for missing chunks in this store too (may be repeated)
    #[arg(short, long, value_name = "STORE")]
    pub(crate) store: Vec<OsString>,
    /// Only the chunks that this index names, or the indexes in this folder (may be repeated)
    #[arg(long, value_name = "INDEX|FOLDER")]
    pub(crate) index: Vec<PathBuf>,
    /// Except the chunks that this index names (may be repeated)
    #[arg(long, value_name = "INDEX|FOLDER")]
    pub(crate) ignore: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) packing: PackingArgs,
    /// Ignore unknown feature flags of indexes
    #[arg(long)]
    pub(crate) lenient: bool,
}
