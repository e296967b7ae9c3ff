//! `blockprint clone`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::units;

/// Clone image files instantly (copy-on-write), frozen for that moment if they are in use
///
/// On XFS and Btrfs the clone shares its blocks with the source. If a filesystem inside the image is mounted
/// (through a loop device, a partition of it, in whatever mount namespace), it is frozen while the clone is
/// made, usually for some ten milliseconds, so that the clone is clean and of one moment. The filesystem that
/// holds the image is never frozen.
///
/// Nothing stays frozen: a watchdog process thaws if this one is killed, and when --freeze-timeout has passed;
/// the clone is then removed, and the command fails.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blockprint clone vm.img vm-before-update.img
  blockprint clone system.img data.img /snapshots/  two images of one moment, into a folder
  blockprint clone --force vm.img latest.img        replace an older clone
  blockprint clone --reflink always vm.img c.img    fail rather than copy data")]
pub(crate) struct CloneArgs {
    /// The image files
    #[arg(required = true, num_args = 1.., value_name = "SOURCE")]
    pub(crate) sources: Vec<OsString>,
    /// The clone, or a folder for the clones
    #[arg(value_name = "TARGET")]
    pub(crate) target: PathBuf,
    /// Whether blocks are shared
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    pub(crate) reflink: ReflinkArg,
    /// The longest time that a filesystem may be frozen, such as 500ms or 5s
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = units::duration)]
    pub(crate) freeze_timeout: Duration,
    /// Replace existing files
    #[arg(long)]
    pub(crate) force: bool,
    /// Say what would be done, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Whether blocks are shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReflinkArg {
    /// Where the filesystem can; elsewhere the data is copied (clone: if nothing is mounted)
    #[default]
    Auto,
    /// Or fail
    Always,
    /// Copy the data (clone: if nothing is mounted)
    Never,
}

impl From<ReflinkArg> for engine::Reflink {
    fn from(arg: ReflinkArg) -> Self {
        match arg {
            ReflinkArg::Auto => engine::Reflink::Auto,
            ReflinkArg::Always => engine::Reflink::Always,
            ReflinkArg::Never => engine::Reflink::Never,
        }
    }
}
