//! desync's commands and options, as far as they are done here, and the names of the rest.

use std::ffi::OsString;
use std::num::NonZero;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use engine::chunking::{Algorithm, ChunkSizes};

use crate::compat::refusal::Missing;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "desync",
    about = "The commands of desync for blobs and local chunk stores, done by blockprint",
    disable_help_subcommand = true,
    args_override_self = true,
    max_term_width = 100
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) verb: Verb,
    #[command(flatten)]
    pub(super) global: Global,
}

/// Options of every command.
#[derive(Debug, Args)]
pub(super) struct Global {
    /// Configuration file [default: ~/.config/desync/config.json]
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// The digest that names the chunks of a new index; an index tells its own
    #[arg(long, global = true, value_name = "DIGEST", value_enum, default_value_t)]
    pub(super) digest: Digest,
    /// Say also what is only worth a note
    #[arg(long, global = true)]
    pub(super) verbose: bool,
}

/// The digest that names chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Digest {
    /// SHA-512/256
    #[default]
    #[value(name = "sha512-256")]
    Sha512_256,
    /// SHA-256
    #[value(name = "sha256")]
    Sha256,
}

impl From<Digest> for Algorithm {
    fn from(digest: Digest) -> Self {
        match digest {
            Digest::Sha512_256 => Algorithm::Sha512_256,
            Digest::Sha256 => Algorithm::Sha256,
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
#[command(args_override_self = true)]
pub(super) enum Verb {
    /// Cut a blob into chunks, write its index, and keep the chunks in a store
    Make(Make),
    /// Write the blob of an index
    Extract(Extract),
    /// Read every chunk of a store
    Verify(Verify),
    /// Compare a blob with its index
    VerifyIndex(VerifyIndex),
    /// Write a blob to standard output or into a file
    Cat(Cat),
    /// Keep in a store the chunks that an index names, read from its blob
    Chop(Chop),
    /// Bring the chunks of indexes from stores into another one
    Cache(Cache),
    /// Remove the chunks of a store that no index names
    Prune(Prune),
    /// List the IDs of an index
    ListChunks(ListChunks),
    /// Tell about an index
    Info(Info),
    /// List the chunks that a blob would be cut into
    Chunk(Chunk),
}

/// How many work at once.
#[derive(Debug, Args)]
pub(super) struct Workers {
    /// How many threads work
    #[arg(short = 'n', long, value_name = "N", default_value = "10")]
    pub(super) concurrency: NonZero<usize>,
}

/// Where chunks come from.
#[derive(Debug, Args)]
pub(super) struct Sources {
    /// A store to read from: a folder, or A|B (may be repeated, asked in order)
    #[arg(short, long, value_name = "STORE")]
    pub(super) store: Vec<OsString>,
    /// A store that is asked first and keeps what is fetched
    #[arg(short, long, value_name = "STORE")]
    pub(super) cache: Option<OsString>,
    /// Replace damaged chunks in the cache; `false` is not supported
    #[arg(short = 'r', long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", value_parser = boolean)]
    pub(super) cache_repair: bool,
}

#[derive(Debug, Args)]
pub(super) struct Make {
    /// The index to write; `-` is standard output
    pub(super) index: PathBuf,
    /// A file or block device
    pub(super) file: OsString,
    /// The store to keep the chunks in; it has to be there
    #[arg(short, long, value_name = "STORE")]
    pub(super) store: Option<OsString>,
    /// Smallest, average and largest chunk in KiB
    #[arg(short = 'm', long, value_name = "MIN:AVG:MAX", value_parser = sizes, default_value = "16:64:256")]
    pub(super) chunk_size: ChunkSizes,
    #[command(flatten)]
    pub(super) workers: Workers,
    /// Tell about the chunks, as JSON on standard error
    #[arg(long)]
    pub(super) print_stats: bool,
}

#[derive(Debug, Args)]
pub(super) struct Extract {
    /// The index; `-` is standard input
    pub(super) index: PathBuf,
    /// The file to write; a block device needs -k
    pub(super) output: PathBuf,
    #[command(flatten)]
    pub(super) sources: Sources,
    /// A blob that may have some of the chunks, with its index (may be repeated)
    #[arg(long, value_name = "INDEX[:BLOB]")]
    pub(super) seed: Vec<OsString>,
    /// Every blob in this folder that has its index beside it (may be repeated)
    #[arg(long, value_name = "FOLDER")]
    pub(super) seed_dir: Vec<PathBuf>,
    /// Take what is wrong in a seed from elsewhere, as is done in any case
    #[arg(long)]
    pub(super) skip_invalid_seeds: bool,
    /// Make a new index in memory of seeds that are not what theirs says
    #[arg(long, conflicts_with = "skip_invalid_seeds")]
    pub(super) regenerate_invalid_seeds: bool,
    /// Write where the output stands, and keep in it what is right already
    #[arg(short = 'k', long)]
    pub(super) in_place: bool,
    #[command(flatten)]
    pub(super) workers: Workers,
    /// Tell where the chunks came from, as JSON on standard output
    #[arg(long)]
    pub(super) print_stats: bool,
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The store
    #[arg(short, long, value_name = "STORE")]
    pub(super) store: OsString,
    /// Remove damaged chunks
    #[arg(short, long)]
    pub(super) repair: bool,
    #[command(flatten)]
    pub(super) workers: Workers,
}

#[derive(Debug, Args)]
pub(super) struct VerifyIndex {
    /// The index; `-` is standard input
    pub(super) index: PathBuf,
    /// Its blob
    pub(super) file: OsString,
    #[command(flatten)]
    pub(super) workers: Workers,
}

#[derive(Debug, Args)]
pub(super) struct Cat {
    /// The index; `-` is standard input
    pub(super) index: PathBuf,
    /// The file to write [default: standard output]
    pub(super) output: Option<PathBuf>,
    #[command(flatten)]
    pub(super) sources: Sources,
    /// Begin at this byte
    #[arg(short, long, value_name = "BYTES", default_value_t)]
    pub(super) offset: u64,
    /// Write so many bytes; 0 is all
    #[arg(short, long, value_name = "BYTES", default_value_t)]
    pub(super) length: u64,
    #[command(flatten)]
    pub(super) workers: Workers,
}

/// Chunks that are left out.
#[derive(Debug, Args)]
pub(super) struct Ignored {
    /// Leave out what this index names (may be repeated)
    #[arg(long, value_name = "INDEX")]
    pub(super) ignore: Vec<PathBuf>,
    /// Leave out the IDs in this text file, one a line (may be repeated)
    #[arg(long, value_name = "FILE")]
    pub(super) ignore_chunks: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Chop {
    /// The index; `-` is standard input
    pub(super) index: PathBuf,
    /// Its blob
    pub(super) file: OsString,
    /// The store to keep the chunks in; it has to be there
    #[arg(short, long, value_name = "STORE")]
    pub(super) store: OsString,
    #[command(flatten)]
    pub(super) ignored: Ignored,
    #[command(flatten)]
    pub(super) workers: Workers,
}

#[derive(Debug, Args)]
pub(super) struct Cache {
    /// Indexes; `-` is standard input
    #[arg(required = true)]
    pub(super) index: Vec<PathBuf>,
    /// A store to read from (may be repeated, asked in order)
    #[arg(short, long, value_name = "STORE", required = true)]
    pub(super) store: Vec<OsString>,
    /// The store to fill; it has to be there
    #[arg(short, long, value_name = "STORE")]
    pub(super) cache: OsString,
    #[command(flatten)]
    pub(super) ignored: Ignored,
    #[command(flatten)]
    pub(super) workers: Workers,
}

#[derive(Debug, Args)]
pub(super) struct Prune {
    /// Indexes; `-` is standard input
    #[arg(required = true)]
    pub(super) index: Vec<PathBuf>,
    /// The store
    #[arg(short, long, value_name = "STORE")]
    pub(super) store: OsString,
    /// Do not ask
    #[arg(short, long)]
    pub(super) yes: bool,
}

#[derive(Debug, Args)]
pub(super) struct ListChunks {
    /// The index; `-` is standard input
    pub(super) index: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Info {
    /// The index; `-` is standard input
    pub(super) index: PathBuf,
    /// Ask this store which chunks it has (may be repeated)
    #[arg(short, long, value_name = "STORE")]
    pub(super) store: Vec<OsString>,
    /// Ask this cache which chunks it has
    #[arg(short, long, value_name = "STORE")]
    pub(super) cache: Option<OsString>,
    /// What this index names is at hand already (may be repeated)
    #[arg(long, value_name = "INDEX")]
    pub(super) seed: Vec<PathBuf>,
    /// How it is told
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub(super) format: Format,
    #[command(flatten)]
    pub(super) workers: Workers,
}

/// How something is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// An object
    #[default]
    Json,
    /// Lines
    Plain,
}

#[derive(Debug, Args)]
pub(super) struct Chunk {
    /// A file or block device
    pub(super) file: OsString,
    /// Smallest, average and largest chunk in KiB
    #[arg(short = 'm', long, value_name = "MIN:AVG:MAX", value_parser = sizes, default_value = "16:64:256")]
    pub(super) chunk_size: ChunkSizes,
    /// Begin at this byte
    #[arg(short = 'S', long, value_name = "BYTES", default_value_t)]
    pub(super) start: u64,
}

/// As that tool reads booleans.
fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("neither true nor false".to_string()),
    }
}

/// Reads `16:64:256`: whole KiB, all three.
fn sizes(text: &str) -> Result<ChunkSizes, String> {
    let kib: Vec<u64> = text
        .split(':')
        .map(|size| size.parse::<u64>().ok().and_then(|kib| kib.checked_mul(1024)))
        .collect::<Option<_>>()
        .ok_or_else(|| format!("{text} is not MIN:AVG:MAX in KiB"))?;
    let [min, avg, max] = kib[..] else {
        return Err(format!("{text} is not MIN:AVG:MAX in KiB"));
    };
    ChunkSizes::new(min, avg, max).map_err(|error| error.to_string())
}

const ARCHIVES: &str = "archives of folders (catar, tar) are not";
const NETWORK: &str = "only stores in local folders are";

/// Commands of that tool that are not done here.
pub(super) const OTHER_COMMANDS: &[Missing] = &[
    ("tar", ARCHIVES),
    ("untar", ARCHIVES),
    ("mtree", ARCHIVES),
    ("mount-index", "mounting is not"),
    ("chunk-server", "serving is not"),
    ("index-server", "serving is not"),
    ("pull", "the protocol of casync over ssh is not"),
    ("inspect-chunks", "`blockprint store list --long` tells the sizes of chunks"),
    ("config", "the configuration is read, not shown or written"),
    ("manpage", "`blockprint man` writes manual pages"),
    ("completion", "`blockprint completions` prints completions"),
    ("help", "`--help` behind a command is"),
];

/// Options of that tool that are not done here.
pub(super) const OTHER_OPTIONS: &[Missing] = &[
    ("--error-retry", NETWORK),
    ("-e", NETWORK),
    ("--error-retry-base-interval", NETWORK),
    ("-b", NETWORK),
    ("--trust-insecure", NETWORK),
    ("-t", NETWORK),
    ("--client-cert", NETWORK),
    ("--client-key", NETWORK),
    ("--ca-cert", NETWORK),
    ("--skip-verify", "chunks are verified always"),
    ("--chunks-info", "sizes of compressed chunks are told by `blockprint store list --long`"),
    ("--input-format", ARCHIVES),
    ("--output-format", ARCHIVES),
    ("-i", ARCHIVES),
    ("--index", ARCHIVES),
];

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_is_refused_is_not_understood() {
        let command = Cli::command();
        for (name, _) in OTHER_COMMANDS {
            assert!(command.find_subcommand(name).is_none(), "{name}");
        }
        let longs: Vec<String> = command
            .get_subcommands()
            .flat_map(clap::Command::get_arguments)
            .filter_map(|arg| arg.get_long().map(|long| format!("--{long}")))
            .collect();
        for (name, _) in OTHER_OPTIONS {
            assert!(!longs.contains(&(*name).to_string()), "{name}");
        }
    }

    #[test]
    fn options_stand_anywhere_and_booleans_take_a_value() {
        let line = "desync extract --digest sha256 -k -n 3 x.caibx -r=true --store a out -s b --seed s.caibx";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        let Verb::Extract(args) = cli.verb else { panic!("extract was asked for") };
        assert_eq!(args.sources.store, ["a", "b"]);
        assert_eq!((args.workers.concurrency.get(), args.in_place), (3, true));
        assert!(args.sources.cache_repair && cli.global.digest == Digest::Sha256);
        let Verb::Extract(args) =
            Cli::try_parse_from(["desync", "extract", "-r=false", "x", "y"]).unwrap().verb
        else {
            panic!("extract was asked for")
        };
        assert_eq!((args.sources.cache_repair, args.workers.concurrency.get()), (false, 10));
        assert!(args.sources.store.is_empty());
    }

    #[test]
    fn sizes_are_three_numbers_of_kib() {
        assert_eq!(sizes("16:64:256"), Ok(ChunkSizes::default()));
        for text in ["64", "16:64", "16K:64K:256K", "0:1:2", "64:16:256", "1:2:3:4", ""] {
            assert!(sizes(text).is_err(), "{text}");
        }
    }
}
