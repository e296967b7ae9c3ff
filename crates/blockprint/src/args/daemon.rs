//! `blockprint daemon`.

use clap::Args;

/// Serve a graphical program that speaks apart-core's protocol
#[derive(Debug, Args)]
#[command(
    long_about = "\
Serve a graphical program that speaks apart-core's protocol

The program listens on the socket ADDRESS; the daemon connects, tells it what disks there are, makes images of
partitions, restores and deletes them, and says how far it is. Started under the name apart-core, blockprint does the
same. It ends when it is told to, on SIGTERM, and when the program is gone and no job runs any more.",
    after_help = "\
Examples:
  blockprint daemon ipc:///run/user/1000/gui.ipc
  RUST_LOG=info blockprint daemon ipc:///tmp/gui.ipc     with a log on standard error

Environment:
  RUST_LOG                     off, error (by default), warn, info or debug
  BLOCKPRINT_ON_DISCONNECT     finish (by default) or cancel: what becomes of jobs when the program is gone
  BLOCKPRINT_VERIFY=1          read back what was written, and compare
  BLOCKPRINT_IMAGE_MODE=0644   let others read new images, too (by default 0600)
  APART_PARTCLONE_CMD          programs that stand in for partclone: this, a dot and the variant
  APART_LSBLK_CMD              a program that stands in for lsblk"
)]
pub(crate) struct DaemonArgs {
    /// Where the program listens: ipc:// and the path of a socket
    pub(crate) address: String,
}
