//! `blockprint verify`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::StoresArgs;

/// Verify a file or device against an index; no store is needed
///
/// Takes the digest of each chunk where it should stand; holes are not read. Exits with 0 if all are right and 1 if
/// not. With --repair, what is wrong is fetched from stores and written anew, and nothing else is touched.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blockprint verify disk.caibx /dev/sdb             is the disk what the index says?
  blockprint verify disk.caibx disk.img --repair -s /srv/default.castr
  blockprint verify disk.caibx disk.img --repair --dry-run    how much would be written?
  blockprint verify --json disk.caibx disk.img      all bad ranges, for programs")]
pub(crate) struct VerifyArgs {
    /// The index file (`.caibx`)
    pub(crate) index: PathBuf,
    /// The file or block device that should hold its image; a device may be larger
    pub(crate) target: OsString,
    /// Write anew what is wrong, from stores
    #[arg(long)]
    pub(crate) repair: bool,
    #[command(flatten)]
    pub(crate) stores: StoresArgs,
    /// With --repair: say what would be written, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// List at most N bad ranges
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) list: usize,
    /// Ignore unknown feature flags of the index
    #[arg(long)]
    pub(crate) lenient: bool,
}
