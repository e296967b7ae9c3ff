//! `blockprint cat`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::{StoresArgs, units};

/// Write an image, or a part of it, to standard output or into a new file
///
/// Chunks are fetched by several threads and written in order. No byte is written that is not what the index says:
/// where a chunk is damaged or missing, the output ends before it, with an error. A file appears under its name only
/// when it is complete and on the disk.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blockprint cat disk.caibx -s store | ssh host dd of=/dev/sdb
  blockprint cat disk.caibx --offset 1M --length 512 | xxd     512 bytes at 1 MiB
  blockprint cat disk.caibx disk.img -s a -s b -c cache         into a file; a, then b, with a cache")]
pub(crate) struct CatArgs {
    /// An index, an image file or a block device
    pub(crate) image: OsString,
    /// The file to make [default: standard output]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) stores: StoresArgs,
    /// Begin at this byte: 4096, 64K, 1M (powers of 1024), 1MB (powers of 1000)
    #[arg(short, long, value_name = "N", value_parser = units::offset, default_value = "0")]
    pub(crate) offset: u64,
    /// Write so many bytes [default: to the end]
    #[arg(short, long, value_name = "N", value_parser = units::offset)]
    pub(crate) length: Option<u64>,
    /// Replace an existing file
    #[arg(long)]
    pub(crate) force: bool,
}
