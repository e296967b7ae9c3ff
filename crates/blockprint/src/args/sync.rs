//! `blockprint sync`.

use std::ffi::OsString;
use std::num::NonZero;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{StoresArgs, units};

/// Make an image or device like another one, here or over ssh, moving only what differs
///
/// SOURCE and TARGET are image files or block devices; `[USER@]HOST:PATH` is one on another machine, reached with the
/// system's ssh. Both on this machine are compared byte by byte. Between two machines only digests and what differs
/// travel: by blockprint's own protocol if there is a blockprint on the other one, else by that of diskrsync. With the
/// former, both ends prove in the end that they hold the same.
///
/// A target file that is there is updated where it stands, and remains what it is: a raw image or an spgz container.
/// A new one appears under its name only when it is complete and on the disk; until then it is TARGET.blockprint-partial.
/// With --atomic an existing one is old until it is new. A target that is mounted, attached or too small is refused
/// before anything is written. After an interruption the same command goes on.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blockprint sync disk.img copy.img                 write only what differs
  blockprint sync --dry-run disk.img copy.img       how much would be written?
  blockprint sync /dev/vg/root backup:/srv/root.img push a disk to another machine
  blockprint sync me@host:/srv/root.img /dev/sdb2   pull one
  blockprint sync --atomic disk.img backup:         there it is old or new at any moment
  blockprint sync --format spgz /dev/sdb backup:sdb.spgz
                                                    a compressed image there
  blockprint sync --since old.img disk.img backup:  read only what changed since the clone
                                                    old.img was made and synced
  blockprint sync --keep-digests disk.img backup:   next time, read only what changed
  blockprint sync --ssh-flags '-p 2222' --protocol diskrsync disk.img host:disk.img")]
pub(crate) struct SyncArgs {
    /// What is read: an image file, block device or chunk index, or `[USER@]HOST:PATH`; `raw:PATH` takes a file as it is
    pub(crate) source: OsString,
    /// What is written: a file or block device, or `[USER@]HOST:PATH`; in a folder, the source's name
    #[arg(required_unless_present = "serve")]
    pub(crate) target: Option<OsString>,
    /// The format of a target file that is made [default: raw; spgz if its name ends in .spgz]
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub(crate) format: Option<FormatArg>,
    /// The size of the blocks of an spgz container that is made: 12K to 1M [default: 128K]
    #[arg(long, value_name = "BYTES", value_parser = block_bytes)]
    pub(crate) block_size: Option<NonZero<u64>>,
    /// Write a clone of an existing target file, and let it take the place of the old one when all is done
    #[arg(long)]
    pub(crate) atomic: bool,
    /// Keep the digests of what both ends hold, beside a file or in FOLDER, so that next time what has not changed is
    /// not read
    #[arg(long, value_name = "FOLDER", num_args = 0..=1, require_equals = true)]
    pub(crate) keep_digests: Option<Option<PathBuf>>,
    /// Read and compare only what changed in SOURCE since it was cloned to CLONE, which was synced to TARGET before
    /// (a file on the machine of the source, on XFS or Btrfs)
    #[arg(long, value_name = "CLONE")]
    pub(crate) since: Option<PathBuf>,
    /// Read only the used blocks of the filesystem on the source, which is not mounted; partclone tells which those are. The rest
    /// of the target stays as it is. Where partclone cannot tell, all is read, and the reason is said. For a target on this
    /// machine
    #[arg(long, conflicts_with_all = ["since", "serve"])]
    pub(crate) used_only: bool,
    /// What is spoken with another machine: `auto` is blockprint's own protocol, or diskrsync's if only that is there
    #[arg(long, value_name = "PROTOCOL", value_enum, default_value_t)]
    pub(crate) protocol: ProtocolArg,
    /// Do not compress what goes over the wire
    #[arg(long)]
    pub(crate) no_compress_wire: bool,
    /// Options for ssh, cut at spaces (may be repeated)
    #[arg(long, value_name = "FLAGS", allow_hyphen_values = true)]
    pub(crate) ssh_flags: Vec<String>,
    /// The command that starts the program on the other machine [default: blockprint, or diskrsync]
    #[arg(long, value_name = "COMMAND")]
    pub(crate) remote_command: Option<String>,
    /// Compare, say how much would be written, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Speak on standard input and output as this end, which holds PATH: what the other machine's blockprint calls
    #[arg(long, value_name = "END", value_enum, hide = true, conflicts_with = "target")]
    pub(crate) serve: Option<ServeArg>,
    #[command(flatten)]
    pub(crate) stores: StoresArgs,
}

/// The format of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatArg {
    /// The bytes of the image as they are
    Raw,
    /// Blocks, each compressed where that saves space
    Spgz,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProtocolArg {
    /// The native one if there is a blockprint, else diskrsync's
    #[default]
    Auto,
    /// Blockprint's own
    Native,
    /// That of diskrsync
    Diskrsync,
}

/// Which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServeArg {
    /// It has the content
    Source,
    /// It gets the content
    Target,
}

fn block_bytes(text: &str) -> Result<NonZero<u64>, String> {
    let bytes = units::bytes(text)?;
    NonZero::new(bytes).ok_or_else(|| format!("`{text}` is no size"))
}

impl SyncArgs {
    /// The options for ssh, one by one.
    pub(crate) fn ssh_flags(&self) -> Vec<OsString> {
        self.ssh_flags.iter().flat_map(|flags| flags.split_whitespace()).map(Into::into).collect()
    }
}
