//! `blockprint copy`.

use std::ffi::OsString;
use std::num::NonZero;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{ReflinkArg, StoresArgs, units};

/// Copy an image or device onto another: sparse, verified, resumable
///
/// A target that is called spgz:PATH, or is a file whose name ends in `.spgz`, becomes a container: blocks that are compressed where that
/// saves space.
///
/// Zero runs become holes in files and are zeroed by the kernel on devices. On XFS and Btrfs a file that is
/// copied within its filesystem shares the blocks of its data instead of writing it (--reflink). A file appears under its name only
/// when it is complete and on the disk; until then it is TARGET.blockprint-partial. A target that is mounted,
/// attached or too small is refused before anything is written.
///
/// Every few seconds a journal notes what is safely written (TARGET.blockprint-journal; for devices in
/// ~/.local/state/blockprint). After an interruption, --resume goes on from there.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blockprint copy /dev/sdb disk.img                 image a disk into a sparse file
  blockprint copy --verify disk.img /dev/sdc        write an image to a disk, and read it back
  blockprint copy --resume disk.img /dev/sdc        go on after an interruption
  blockprint copy --on-read-error zero /dev/sdb b.img   save what can be read of a failing disk;
                                                    b.img.map tells the rest to ddrescue
  blockprint copy --limit 50M --progress plain /dev/vg/root /backup/
  blockprint copy disk.caibx /dev/sdc -s store      write what a chunk index names
  blockprint copy /dev/sdb disk.spgz                image a disk into a compressed container
  blockprint copy disk.spgz /dev/sdc                and back")]
pub(crate) struct CopyArgs {
    /// The image file, block device, container or chunk index to read; `raw:PATH` takes a file as it is, whatever it
    /// looks like, `index:PATH` takes it as an index, `spgz:PATH` as a container
    pub(crate) source: OsString,
    /// The file or block device to write; in a folder, the source's name; `spgz:PATH` makes a container, whatever its
    /// name, `raw:PATH` makes none
    pub(crate) target: OsString,
    /// The length of the blocks of a container that is made, 12287 bytes to 1 MiB [default: 131071]
    #[arg(long, value_name = "BYTES", value_parser = units::block_size)]
    pub(crate) block_size: Option<NonZero<u64>>,
    #[command(flatten)]
    pub(crate) stores: StoresArgs,
    /// Whether a file shares the blocks of a source on the same filesystem instead of writing them again
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    pub(crate) reflink: ReflinkArg,
    /// Read only the used blocks of the filesystem on the source, which is not mounted; partclone tells which those are. Where it
    /// cannot, all is read, and the reason is said
    #[arg(long)]
    pub(crate) used_only: bool,
    /// Read back what was written, from the medium, and compare it with the source
    #[arg(long)]
    pub(crate) verify: bool,
    /// Go on where an interrupted copy to this target stopped
    #[arg(long)]
    pub(crate) resume: bool,
    /// What to do where the source cannot be read
    #[arg(long, value_name = "WHAT", value_enum, default_value_t)]
    pub(crate) on_read_error: OnReadErrorArg,
    /// Where the map of unreadable ranges goes, in ddrescue's format [default: TARGET.map]
    #[arg(long, value_name = "FILE")]
    pub(crate) bad_map: Option<PathBuf>,
    /// Where the journal is kept [default: TARGET.blockprint-journal]
    #[arg(long, value_name = "FILE")]
    pub(crate) journal: Option<PathBuf>,
    /// Replace an existing file
    #[arg(long)]
    pub(crate) force: bool,
    /// With --force, overwrite an existing file where it stands (links to it, and its owner, stay)
    #[arg(long)]
    pub(crate) in_place: bool,
    /// Say what would be done, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// What to do where the source cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnReadErrorArg {
    /// Fail
    #[default]
    Stop,
    /// Write zeroes for what cannot be read, tell which ranges, exit with 3
    Zero,
}
