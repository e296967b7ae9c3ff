//! casync's command line: one list of options, before or after the verb.

use std::ffi::OsString;

use clap::Parser;
use engine::chunking::{Algorithm, ChunkSizes};
use engine::{Error, Result};

use super::sizes::chunk_sizes;
use crate::compat::refusal::{Missing, nonsense, refuse};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "casync",
    about = "The verbs of casync for blobs and local chunk stores, done by blockprint",
    after_help = VERBS,
    override_usage = "casync [OPTIONS...] VERB [ARGUMENTS...]",
    disable_version_flag = true,
    infer_long_args = true,
    args_override_self = true,
    max_term_width = 100
)]
pub(super) struct Cli {
    /// Verb and arguments
    #[arg(hide = true)]
    pub(super) words: Vec<OsString>,
    /// Show the version
    #[arg(long)]
    pub(super) version: bool,
    /// How much is said: debug, info, notice, warning, err
    #[arg(short, long, value_name = "LEVEL", value_parser = log_level)]
    pub(super) log_level: Option<u8>,
    /// Say more
    #[arg(short, long)]
    pub(super) verbose: bool,
    /// gc: only say what would be removed
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
    /// The chunk store [default: CASYNC_STORE, else default.castr beside the index, else here]
    #[arg(long, value_name = "PATH")]
    pub(super) store: Option<OsString>,
    /// Another store to read from (may be repeated)
    #[arg(long, value_name = "PATH")]
    pub(super) extra_store: Vec<OsString>,
    /// Bytes in a chunk, with the units K, M, G
    #[arg(long, value_name = "[MIN:]AVG[:MAX]", value_parser = chunk_sizes)]
    pub(super) chunk_size: Option<ChunkSizes>,
    /// The digest: sha512-256 or sha256
    #[arg(long, value_name = "DIGEST", value_parser = digest)]
    pub(super) digest: Option<Algorithm>,
    /// How new chunks are compressed: zstd
    #[arg(long, value_name = "COMPRESSION", value_parser = compression)]
    pub(super) compression: Option<Compression>,
    /// extract: a file or device that may have some of the chunks (may be repeated)
    #[arg(long, value_name = "PATH")]
    pub(super) seed: Vec<OsString>,
    /// extract: share blocks with seeds
    #[arg(long, value_name = "BOOL", value_parser = boolean)]
    pub(super) reflink: Option<bool>,
    /// extract: leave holes; `no` is not supported
    #[arg(long, value_name = "BOOL", value_parser = boolean)]
    pub(super) punch_holes: Option<bool>,
    /// What the index says of nodump files; nothing for a blob
    #[arg(long, value_name = "BOOL", value_parser = boolean)]
    pub(super) exclude_nodump: Option<bool>,
    /// What the index says of submounts; nothing for a blob
    #[arg(long, value_name = "BOOL", value_parser = boolean)]
    pub(super) exclude_submounts: Option<bool>,
    /// What the index says of .caexclude files; nothing for a blob
    #[arg(long, value_name = "BOOL", value_parser = boolean)]
    pub(super) exclude_file: Option<bool>,
    /// What is worked on: blob, blob-index
    #[arg(long, value_name = "KIND")]
    pub(super) what: Option<String>,

    // What follows is understood and cannot change what becomes of a blob.
    #[arg(long, hide = true, value_parser = boolean)]
    pub(super) seed_output: Option<bool>,
    #[arg(long, hide = true, value_parser = boolean)]
    hardlink: Option<bool>,
    #[arg(long, hide = true, value_parser = boolean)]
    delete: Option<bool>,
    #[arg(long, hide = true, value_parser = boolean)]
    undo_immutable: Option<bool>,
    #[arg(long, hide = true, value_parser = boolean)]
    recursive: Option<bool>,
    #[arg(long, hide = true, value_parser = boolean)]
    mkdir: Option<bool>,
    #[arg(long, hide = true)]
    cache: Option<OsString>,
    #[arg(short = 'c', long, hide = true)]
    cache_auto: bool,
    #[arg(long, hide = true)]
    rate_limit_bps: Option<u64>,
    #[arg(long, hide = true)]
    uid_shift: Option<OsString>,
    #[arg(long, hide = true)]
    uid_range: Option<OsString>,
    #[arg(long, hide = true)]
    without: Vec<OsString>,
    // This one would change the flags of the index.
    #[arg(long, hide = true)]
    pub(super) with: Vec<OsString>,
}

const VERBS: &str = "\
Verbs:
  make OUT.caibx FILE|DEVICE     index of a blob; its chunks go into the store
  extract IN.caibx [OUT]         the blob of an index
  digest FILE|INDEX              digest of a blob
  list INDEX                     offset, length and ID of each chunk
  gc INDEX...                    remove what no index names from the store

Archives of folders (.catar, .caidx), mounting and serving are not supported.";

/// How chunks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    Zstd,
    /// Read, but not written.
    Other(&'static str),
}

/// What is worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Blob,
    BlobIndex,
}

const ARCHIVES: &str = "archives of folders are not";

/// Verbs of that tool that are not done here.
pub(super) const OTHER_VERBS: &[Missing] = &[
    ("mtree", ARCHIVES),
    ("stat", ARCHIVES),
    ("mount", "mounting is not"),
    ("mkdev", "block devices of indexes are not; `extract` writes to a device"),
    ("pull", "remote stores are not"),
    ("push", "remote stores are not"),
    ("udev", "block devices of indexes are not"),
];

impl Cli {
    /// The kind that `--what` names.
    pub(super) fn what(&self) -> Result<Option<What>> {
        match self.what.as_deref() {
            None => Ok(None),
            Some("blob") => Ok(Some(What::Blob)),
            Some("blob-index") => Ok(Some(What::BlobIndex)),
            Some(name @ ("archive" | "archive-index" | "directory")) => {
                Err(refuse(format!("--what={name} is not supported: archives of folders are not")))
            }
            Some(name) => Err(nonsense(format!("--what={name} names nothing (blob, blob-index)"))),
        }
    }

    /// Refuses what is none of this verb's, or not done for blobs.
    pub(super) fn check(&self, verb: &str) -> Result<()> {
        let refused = [
            (!self.with.is_empty(), "--with is not supported: features are of archives"),
            (self.dry_run && verb != "gc", "--dry-run is not supported here: it belongs to gc"),
            (
                self.punch_holes == Some(false) && verb == "extract",
                "--punch-holes=no is not supported: zeroes are left out always",
            ),
        ];
        if let Some((_, sentence)) = refused.into_iter().find(|(is_so, _)| *is_so) {
            return Err(refuse(sentence));
        }
        match (self.compression, verb) {
            (Some(Compression::Other(name)), "make") => Err(refuse(format!(
                "--compression={name} is not supported: such chunks are read, but new ones are zstd"
            ))),
            _ => Ok(()),
        }
    }

    /// Whether what is only worth a note is said.
    pub(super) fn is_verbose(&self) -> bool {
        let environment = |name| std::env::var(name).ok();
        let by_level = self
            .log_level
            .or_else(|| environment("CASYNC_LOG_LEVEL").and_then(|level| log_level(&level).ok()));
        let asked = environment("CASYNC_VERBOSE").and_then(|value| boolean(&value).ok());
        self.verbose || asked == Some(true) || by_level.is_some_and(|level| level >= INFO)
    }
}

const INFO: u8 = 6;

/// The levels of syslog, by name or number.
fn log_level(text: &str) -> Result<u8, String> {
    const NAMES: [&str; 8] =
        ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];
    let by_name = NAMES.iter().position(|name| *name == text);
    by_name
        .or_else(|| text.parse().ok().filter(|&level| level < NAMES.len()))
        .map(|level| level as u8)
        .ok_or_else(|| "no such level (debug, info, err)".to_string())
}

/// All the spellings of that tool.
fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Ok(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Ok(false),
        _ => Err("neither yes nor no".to_string()),
    }
}

fn digest(text: &str) -> Result<Algorithm, String> {
    match text {
        "sha512-256" | "default" => Ok(Algorithm::Sha512_256),
        "sha256" => Ok(Algorithm::Sha256),
        _ => Err("no such digest (sha512-256, sha256)".to_string()),
    }
}

fn compression(text: &str) -> Result<Compression, String> {
    match text {
        "zstd" | "default" => Ok(Compression::Zstd),
        "xz" => Ok(Compression::Other("xz")),
        "gzip" => Ok(Compression::Other("gzip")),
        _ => Err("no such compression (zstd)".to_string()),
    }
}

/// Exactly one argument for each of `names`, as they stand in the refusal.
pub(super) fn exactly<const N: usize>(
    words: Vec<OsString>,
    usage: &str,
) -> Result<[OsString; N], Error> {
    words.try_into().map_err(|_| nonsense(format!("the arguments are not {usage}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_stand_before_and_behind_the_verb_and_may_be_shortened() {
        for line in [
            "casync --store=s --chunk-size 64K make a.caibx b -v",
            "casync make -v --stor=s a.caibx --chunk-siz=64K b",
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(cli.words, ["make", "a.caibx", "b"]);
            assert!(cli.verbose && cli.store.as_deref() == Some("s".as_ref()));
            assert_eq!(cli.chunk_size, Some(ChunkSizes::default()));
        }
        assert!(Cli::try_parse_from(["casync", "make", "--ex=1"]).is_err());
    }

    #[test]
    fn booleans_are_spelled_in_twelve_ways() {
        for (yes, no) in
            [("yes", "no"), ("y", "n"), ("true", "false"), ("t", "f"), ("on", "off"), ("1", "0")]
        {
            assert_eq!((boolean(yes), boolean(no)), (Ok(true), Ok(false)));
            assert_eq!(boolean(&yes.to_uppercase()), Ok(true));
        }
        assert!(boolean("maybe").is_err() && boolean("").is_err());
    }

    #[test]
    fn what_cannot_be_done_for_a_blob_is_refused_by_name() {
        let check = |line: &str, verb: &str| {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            cli.check(verb).and_then(|()| cli.what()).map_err(|error| error.to_string())
        };
        for (line, verb, word) in [
            ("casync --with=xattrs", "make", "--with"),
            ("casync -n", "make", "--dry-run"),
            ("casync --punch-holes=no", "extract", "--punch-holes=no"),
            ("casync --compression=xz", "make", "--compression=xz"),
            ("casync --what=archive", "make", "--what=archive"),
        ] {
            assert!(check(line, verb).unwrap_err().starts_with(word), "{line}");
        }
        assert_eq!(check("casync -n --compression=xz --punch-holes=no", "gc"), Ok(None));
        let meaningless = "casync --hardlink=yes --delete=no --undo-immutable=1 --recursive=n --mkdir=f -c \
                           --cache=x --rate-limit-bps=5 --uid-shift=yes --uid-range=1 --without=all";
        let line = meaningless.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(check(&line, "make"), Ok(None));
    }
}
