//! `blockprint compare`.

use std::ffi::OsString;

use clap::Args;

use super::StoresArgs;

/// Compare two images or devices
///
/// Exits with 0 if they are equal and 1 if not. Holes on both sides are equal without being read, and a hole
/// equals zeroes. Ranges are told in multiples of 512 bytes; the first difference is exact.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blockprint compare disk.img /dev/sdc              is the disk what the image is?
  blockprint compare --first old.img new.img        stop at the first difference
  blockprint compare --json a.img b.img             all differing ranges, for programs
  blockprint compare disk.caibx disk.img -s store   a chunk index and its store")]
pub(crate) struct CompareArgs {
    /// An image file, block device or chunk index
    pub(crate) a: OsString,
    /// Another
    pub(crate) b: OsString,
    /// Stop at the first difference
    #[arg(long)]
    pub(crate) first: bool,
    /// Compare only the used blocks of the filesystem on the first, which is not mounted; partclone tells which those are. Where it
    /// cannot, all is compared, and the reason is said
    #[arg(long)]
    pub(crate) used_only: bool,
    /// List at most N differing ranges
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) list: usize,
    #[command(flatten)]
    pub(crate) stores: StoresArgs,
}
