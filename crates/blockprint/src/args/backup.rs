//! `blockprint backup`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Make an image of a partition: of its used blocks, compressed, in partclone's format
///
/// The image is DIR/NAME-DATE.apt.FILESYSTEM.COMPRESSION, readable only by its owner. It has its name only when it is whole and on the
/// disk; until then `.inprogress` stands behind it. Another image is never replaced. Partclone, apart-core and Rescuezilla
/// restore it, and `blockprint copy`, `compare`, `cat`, `info` and `make` read it where it lies, without unpacking all.
///
/// Which blocks are used is asked of partclone, and checked against the filesystem. Where that cannot be known (a filesystem that
/// was not cleanly unmounted, or is encrypted, or swap), all of the partition is read as raw bytes, and that is said. A partition
/// that is mounted is refused: unmount it, or start the machine from another medium.
///
/// A whole disk becomes a set: a folder with its partition table and an image of each partition.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blockprint backup /dev/sdb2 /srv/images           an image of the partition's used blocks
  blockprint backup /dev/sdb2 /srv/images --name web --verify
  blockprint backup /dev/sdb2 /srv/images --compression gz --level 6
  blockprint backup /dev/sdb /srv/images            all partitions of a disk, and its table
  blockprint backup --dry-run /dev/sdb2 /srv/images what would be read, and what the image would be called")]
pub(crate) struct BackupArgs {
    /// The partition or disk, or a file with a filesystem in it
    #[arg(value_name = "PARTITION")]
    pub(crate) source: PathBuf,
    /// The folder that the image is made in
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// The first part of the image's name [default: the label, else the name of the device]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// How the image is compressed
    #[arg(long, value_name = "HOW", value_enum, default_value_t)]
    pub(crate) compression: CompressionArg,
    /// How hard it is compressed, as the compression's own tool counts it
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) level: Option<i32>,
    /// Read the image back from the disk, and compare all of it with the partition
    #[arg(long)]
    pub(crate) verify: bool,
    /// Say what would be done, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// How an image is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompressionArg {
    /// gzip: read by everything
    Gz,
    /// Zstandard: smaller, and quicker to unpack
    #[default]
    #[value(alias = "zstd")]
    Zst,
    /// LZ4: quickest
    Lz4,
    /// Not at all
    #[value(alias = "none")]
    Uncompressed,
}
