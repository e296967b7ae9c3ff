//! `blockprint extract`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::{ReflinkArg, StoresArgs};

/// Extract the image of an index, fetching no more than is missing
///
/// Each chunk comes from the cheapest place: zeroes are left out or made by the kernel, what stands on the target
/// already is kept (--in-place, devices, interrupted extracts), then come seeds, equal parts of the image itself, the
/// cache, and the stores. Every chunk is believed by its digest, wherever it comes from. On XFS and Btrfs blocks of
/// seeds are shared where they are aligned alike (--reflink).
///
/// A file appears under its name only when it is complete and on the disk; until then it is
/// TARGET.blockprint-partial. After an interruption the same command goes on: what is right is not fetched again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blockprint extract disk.caibx disk.img -s /srv/default.castr
  blockprint extract new.caibx new.img --seed old.img.caibx   what old.img has is not fetched
  blockprint extract -k new.caibx /dev/sdb2 -s store -c cache  make a device what the index says
  blockprint extract new.caibx /dev/sdb3 --seed /dev/sdb2     the other system partition, without an index
  blockprint extract --force --verify new.caibx system.img    replace a file, and read it back
  blockprint extract --dry-run new.caibx new.img --seed-dir .  how much would be fetched?")]
pub(crate) struct ExtractArgs {
    /// The index file (`.caibx`)
    pub(crate) index: PathBuf,
    /// The file or block device to write; in a folder, the name of the index without `.caibx`
    pub(crate) target: OsString,
    #[command(flatten)]
    pub(crate) stores: StoresArgs,
    /// Make an existing file what the index says where it stands; what is right in it already stays
    #[arg(short = 'k', long)]
    pub(crate) in_place: bool,
    /// A file or device that may hold some of the image, with its index: INDEX:FILE, or FILE.caibx beside FILE; or FILE
    /// alone, which is read and cut first (may be repeated)
    #[arg(long, value_name = "[INDEX:]FILE")]
    pub(crate) seed: Vec<OsString>,
    /// Each file in this folder beside which its index lies (may be repeated)
    #[arg(long, value_name = "FOLDER")]
    pub(crate) seed_dir: Vec<PathBuf>,
    /// Whether a file shares the blocks of seeds on the same filesystem instead of writing them again
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    pub(crate) reflink: ReflinkArg,
    /// Read back what was written, from the medium, and take all digests again
    #[arg(long)]
    pub(crate) verify: bool,
    /// Replace an existing file
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Say how much would come from where, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Ignore unknown feature flags of indexes
    #[arg(long)]
    pub(crate) lenient: bool,
}
