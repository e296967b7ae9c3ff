//! `blockprint restore`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Write an image of a partition back to a partition
///
/// Takes what `blockprint backup`, apart-core and partclone make, compressed or not; what is in the file decides, not its name.
/// OVERWRITES THE PARTITION. On a terminal it says what is there and asks; elsewhere it needs --yes. A partition that is
/// mounted, held or too small is refused before anything is written, and so is an image whose head, table or map is damaged.
///
/// Everything that is read is checked; blocks that were free are left as they are. If it fails in the middle, the partition
/// holds a mixture of old and new.
///
/// A set of a whole disk is written to a disk, which may be larger.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blockprint restore web-2026-03-04T0506.apt.ext4.zst /dev/sdb2
  blockprint restore --yes --verify home.apt.xfs.gz /dev/sdb3    ask nothing, and read back what was written
  blockprint restore --dry-run web.apt.ext4.zst /dev/sdb2        what would be overwritten by what
  blockprint restore disk-2026-03-04T0506.disk /dev/sdc --grow last")]
pub(crate) struct RestoreArgs {
    /// The image of a partition, or the set of a disk
    pub(crate) image: PathBuf,
    /// The partition or disk that is overwritten
    #[arg(value_name = "PARTITION")]
    pub(crate) target: PathBuf,
    /// Ask nothing
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Read back what was written, from the device, and compare it with the image
    #[arg(long)]
    pub(crate) verify: bool,
    /// Tell the device that free blocks hold nothing any more (TRIM)
    #[arg(long)]
    pub(crate) discard: bool,
    /// Let partclone write
    #[arg(long, conflicts_with_all = ["discard", "verify"])]
    pub(crate) by_partclone: bool,
    /// On a larger disk, let the last partition of a set reach to its end, with its ext4, xfs or btrfs
    #[arg(long, value_name = "WHICH", value_enum)]
    pub(crate) grow: Option<GrowArg>,
    /// Say what would be done, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GrowArg {
    /// The partition that lies last on the disk
    Last,
}
