//! `blockprint verify`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::StoresArgs;

/// Verify an image of a partition, or a file or device against an index
///
/// An image of a partition, as `blockprint backup` and others make it, is read as a whole: every byte of the file is checked. Exits
/// with 0 if all is right, and with 18 and the position if not.
///
/// Given an index and a TARGET, verifies that against the index, for which no store is needed.
/// Takes the digest of each chunk where it should stand; holes are not read. Exits with 0 if all are right and 1 if
/// not. With --repair, what is wrong is fetched from stores and written anew, and nothing else is touched.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blockprint verify web.apt.ext4.zst                is the image whole, and every checksum right?
  blockprint verify disk.caibx /dev/sdb             is the disk what the index says?
  blockprint verify disk.caibx disk.img --repair -s /srv/default.castr
  blockprint verify disk.caibx disk.img --repair --dry-run    how much would be written?
  blockprint verify --json disk.caibx disk.img      all bad ranges, for programs")]
pub(crate) struct VerifyArgs {
    /// The image of a partition, or an index file (`.caibx`)
    #[arg(value_name = "IMAGE")]
    pub(crate) index: PathBuf,
    /// For an index, the file or block device that should hold its image; a device may be larger
    pub(crate) target: Option<OsString>,
    /// Write anew what is wrong, from stores
    #[arg(long, requires = "target")]
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
