//! `blockprint make`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use engine::chunking::{Algorithm, ChunkSizes, DEFAULT_LEVEL, Rule};

use super::units;

/// Make an index of an image, and keep its chunks in a store
///
/// The image is cut where its content says, as casync does: the index and the chunks are casync's and desync's, byte
/// for byte. Equal parts of images, also of different ones, are kept once. Holes and zeroes cost next to nothing.
/// Without --store only the index is made.
///
/// The chunks are durable before the index gets its name; an interrupted make leaves the old index, or none.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blockprint make disk.caibx /dev/sdb --store /srv/default.castr
  blockprint make disk.caibx disk.img -s store -m 64:256:1024     larger chunks, fewer of them
  blockprint make --force disk.caibx disk.img                     the index alone, anew
  blockprint make --dry-run disk.caibx disk.img -s store          what would be new?")]
pub(crate) struct MakeArgs {
    /// The index file to make (`.caibx`)
    pub(crate) index: PathBuf,
    /// An image file or block device
    pub(crate) source: OsString,
    /// Keep the chunks in this folder; it is made if its parent is there
    #[arg(short, long, value_name = "STORE")]
    pub(crate) store: Option<OsString>,
    #[command(flatten)]
    pub(crate) cutting: CuttingArgs,
    #[command(flatten)]
    pub(crate) packing: PackingArgs,
    /// Read only the used blocks of the filesystem on the source, which is not mounted; free ones are zeroes then. Where it
    /// cannot, all is read, and the reason is said
    #[arg(long)]
    pub(crate) used_only: bool,
    /// Read chunks that the store has already, and replace damaged ones
    #[arg(long)]
    pub(crate) verify_existing: bool,
    /// Replace an existing index
    #[arg(short, long)]
    pub(crate) force: bool,
    /// Cut and name the chunks, and say what would be new, without writing anything
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// How a blob is cut and its chunks are named.
#[derive(Debug, Args)]
pub(crate) struct CuttingArgs {
    /// Smallest, average and largest chunk, in KiB or with a unit (16K:64K:256K, 1M:4M:16M); three equal sizes make
    /// blocks of that size
    #[arg(short = 'm', long, value_name = "MIN:AVG:MAX", value_parser = units::chunk_sizes, default_value = "16:64:256")]
    pub(crate) chunk_size: ChunkSizes,
    /// Whose rule cuts
    #[arg(long, value_name = "RULE", value_enum, default_value_t)]
    pub(crate) chunker: ChunkerArg,
    /// The digest that names the chunks
    #[arg(long, value_name = "DIGEST", value_enum, default_value_t)]
    pub(crate) digest: DigestArg,
}

/// How chunks are packed.
#[derive(Debug, Args)]
pub(crate) struct PackingArgs {
    /// Level of zstd, 1 (fast) to 19 (small)
    #[arg(long, value_name = "N", default_value_t = DEFAULT_LEVEL, allow_negative_numbers = true)]
    pub(crate) level: i32,
    /// Keep chunks as they are (extract can share their blocks on XFS and Btrfs)
    #[arg(long)]
    pub(crate) uncompressed: bool,
}

/// Whose rule cuts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ChunkerArg {
    /// casync's, and that of newer desync
    #[default]
    Casync,
    /// That of desync up to v1.0.4, for stores that were made with it
    DesyncClassic,
}

/// The digest that names chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum DigestArg {
    /// SHA-512/256
    #[default]
    #[value(name = "sha512-256")]
    Sha512_256,
    /// SHA-256
    #[value(name = "sha256")]
    Sha256,
}

impl From<ChunkerArg> for Rule {
    fn from(arg: ChunkerArg) -> Self {
        match arg {
            ChunkerArg::Casync => Rule::Casync,
            ChunkerArg::DesyncClassic => Rule::DesyncClassic,
        }
    }
}

impl From<DigestArg> for Algorithm {
    fn from(arg: DigestArg) -> Self {
        match arg {
            DigestArg::Sha512_256 => Algorithm::Sha512_256,
            DigestArg::Sha256 => Algorithm::Sha256,
        }
    }
}
