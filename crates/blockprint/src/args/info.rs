//! `blockprint info`.

use std::ffi::OsString;

use clap::Args;

use super::StoresArgs;

/// Show what an image or device is, what is in it, and who holds it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blockprint info disk.img
  blockprint info --map disk.img                    the runs of data and zeroes
  blockprint info --json /dev/sda                   for programs
  blockprint info disk.caibx                        a chunk index: needs no store")]
pub(crate) struct InfoArgs {
    /// An image file, block device or chunk index
    pub(crate) image: OsString,
    /// List all extents
    #[arg(long)]
    pub(crate) map: bool,
    #[command(flatten)]
    pub(crate) stores: StoresArgs,
}
