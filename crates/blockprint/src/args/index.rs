//! `blockprint index`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Look into an index
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blockprint index info disk.caibx                        sizes, chunks, distinct chunks
  blockprint index info disk.caibx -s store               and how many of them a store has
  blockprint index chunks disk.caibx                      offset, length and ID of each chunk
  blockprint index diff old.caibx new.caibx               what has to be fetched for new by who has old")]
pub(crate) struct IndexArgs {
    #[command(subcommand)]
    pub(crate) command: IndexCommand,
}

/// What to do with an index.
#[derive(Debug, Subcommand)]
pub(crate) enum IndexCommand {
    Info(IndexInfoArgs),
    Chunks(IndexChunksArgs),
    Diff(IndexDiffArgs),
}

/// Sizes, chunks and distinct chunks of an index
#[derive(Debug, Args)]
pub(crate) struct IndexInfoArgs {
    /// The index file
    pub(crate) index: PathBuf,
    /// Ask this store which chunks it has (may be repeated)
    #[arg(short, long, value_name = "STORE")]
    pub(crate) store: Vec<OsString>,
    /// Ask this cache which chunks it has
    #[arg(short, long, value_name = "STORE")]
    pub(crate) cache: Option<OsString>,
    /// Chunks of this index are at hand already (may be repeated)
    #[arg(long, value_name = "INDEX")]
    pub(crate) seed: Vec<PathBuf>,
    /// Ignore unknown feature flags
    #[arg(long)]
    pub(crate) lenient: bool,
}

/// Offset, length and ID of each chunk, one line each
#[derive(Debug, Args)]
pub(crate) struct IndexChunksArgs {
    /// The index file
    pub(crate) index: PathBuf,
    /// Print only the IDs
    #[arg(long)]
    pub(crate) ids: bool,
    /// Ignore unknown feature flags
    #[arg(long)]
    pub(crate) lenient: bool,
}

/// What has to be fetched for an index by who has others
#[derive(Debug, Args)]
pub(crate) struct IndexDiffArgs {
    /// Indexes whose chunks are at hand
    #[arg(required = true, value_name = "HAD")]
    pub(crate) had: Vec<PathBuf>,
    /// The index that is wanted
    #[arg(value_name = "WANTED")]
    pub(crate) wanted: PathBuf,
    /// List the missing chunks: offset, length and ID
    #[arg(long)]
    pub(crate) list: bool,
    /// Ignore unknown feature flags
    #[arg(long)]
    pub(crate) lenient: bool,
}
