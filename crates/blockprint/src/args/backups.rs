//! `blockprint backups`.

use std::path::PathBuf;

use clap::Args;

/// List the backups in a folder, the newest last
///
/// Images of partitions are known by their names or by their first bytes, sets of whole disks by their manifest. Only the beginnings
/// are read: `blockprint verify` reads all of an image.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blockprint backups /srv/images
  blockprint backups --json /srv/images             for programs")]
pub(crate) struct BackupsArgs {
    /// The folder
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
}
