//! `blockprint devices`.

use std::path::PathBuf;

use clap::Args;

/// List disks and partitions: what is on them, and who holds them
///
/// Nothing is written, and no udev is needed: each device is looked into. Who is not root sees the devices, but not what is on
/// them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blockprint devices                                all disks, with what lies on them
  blockprint devices /dev/sda /dev/sdb1             these only
  blockprint devices --json                         for programs")]
pub(crate) struct DevicesArgs {
    /// Only these devices, with what lies on them
    #[arg(value_name = "DEVICE")]
    pub(crate) devices: Vec<PathBuf>,
    /// Also those with nothing in them: empty drives, free loop devices, RAM disks
    #[arg(long, conflicts_with = "devices")]
    pub(crate) all: bool,
}
