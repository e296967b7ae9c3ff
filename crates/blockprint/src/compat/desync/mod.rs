//! `desync`: its commands for blobs and local stores, in its own option names and output formats.
//!
//! Source: desync v0.9.6 and v1.0.4. What is different: a new index has casync's flag word and casync's cuts, chunks and
//! files are durable, what is damaged ends with exit status 1, seeds and chunks are verified always.

mod args;
mod config;
mod extract;
mod index;
mod make;
mod store;

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use engine::chunking::{Algorithm, ChunkId, Form};
use engine::stores::{StoreLocation, Stores};
use engine::{Error, ErrorKind, Result, Threads};

use super::refusal::{answer, nonsense, refuse};
use super::spool::NamedIndex;
use crate::args::ProgressArg;
use crate::render::Face;
use args::{Cli, Ignored, Sources, Verb, Workers};
use config::Config;

pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            return answer("desync", &error, args::OTHER_COMMANDS, args::OTHER_OPTIONS);
        }
    };
    let face = Face::of_peer("desync", cli.global.verbose, progress());
    match run(cli, &face) {
        Ok(code) => code,
        Err(error) => {
            face.error(&error);
            ExitCode::FAILURE
        }
    }
}

/// A bar on a terminal; the environment may ask for it, or for lines, elsewhere too.
fn progress() -> ProgressArg {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if is_set("DESYNC_ENABLE_PARSABLE_PROGRESS") {
        ProgressArg::Plain
    } else if is_set("DESYNC_PROGRESSBAR_ENABLED") {
        ProgressArg::Bar
    } else {
        ProgressArg::Auto
    }
}

fn run(cli: Cli, face: &Face) -> Result<ExitCode> {
    let config = Config::read(cli.global.config.as_deref())?;
    let session = Session { face, config, algorithm: cli.global.digest.into() };
    match cli.verb {
        Verb::Make(args) => make::make(args, &session),
        Verb::Chop(args) => make::chop(args, &session),
        Verb::Chunk(args) => make::chunk(args, &session),
        Verb::Extract(args) => extract::extract(args, &session),
        Verb::Cat(args) => extract::cat(args, &session),
        Verb::VerifyIndex(args) => extract::verify_index(args, &session),
        Verb::Verify(args) => store::verify(&args, &session),
        Verb::Cache(args) => store::cache(args, &session),
        Verb::Prune(args) => store::prune(&args, &session),
        Verb::ListChunks(args) => index::list_chunks(&args, &session),
        Verb::Info(args) => index::info(&args, &session),
    }
}

/// What every command needs.
struct Session<'a> {
    face: &'a Face,
    config: Config,
    /// The digest of a new index.
    algorithm: Algorithm,
}

impl Session<'_> {
    /// A store to read from.
    fn source(&self, text: &OsStr) -> Result<StoreLocation> {
        let location = StoreLocation::parse(text);
        match &location {
            StoreLocation::Group(members) => {
                for member in members {
                    self.config.form(member)?;
                }
            }
            one => drop(self.config.form(one)?),
        }
        Ok(location)
    }

    /// A store to write to, and the form of its new chunks. It has to be there: a name that was mistyped makes none.
    fn target(&self, text: &OsStr) -> Result<(StoreLocation, Form)> {
        let location = StoreLocation::parse(text);
        let form = self.config.form(&location)?;
        if let StoreLocation::Folder(path) = &location {
            fs::read_dir(path).map_err(|cause| {
                let name = path.display().to_string();
                let sentence = format!("cannot open the chunk store {name} (it has to be there)");
                Error::io(sentence, cause).at(name, None)
            })?;
        }
        Ok((location, form))
    }

    /// The stores behind an index.
    fn stores(&self, sources: &Sources) -> Result<Stores> {
        if !sources.cache_repair {
            let sentence = "--cache-repair=false is not supported: a damaged chunk in the cache is replaced always";
            return Err(refuse(sentence));
        }
        if sources.store.is_empty() {
            return Err(nonsense("no store was named (--store)"));
        }
        let cache = sources.cache.as_deref().map(|text| self.target(text)).transpose()?;
        let (cache, cache_form) = cache.unzip();
        let sources: Result<Vec<_>> = sources.store.iter().map(|text| self.source(text)).collect();
        Ok(Stores { sources: sources?, cache, cache_form: cache_form.unwrap_or_default() })
    }
}

impl Workers {
    fn threads(&self) -> Threads {
        Threads::Exactly(self.concurrency)
    }
}

impl Ignored {
    /// The IDs in the text files.
    fn chunks(&self) -> Result<HashSet<ChunkId>> {
        let mut ids = HashSet::new();
        for path in &self.ignore_chunks {
            let name = path.display().to_string();
            let text = fs::read_to_string(path)
                .map_err(|cause| Error::io(format!("cannot read {name}"), cause).at(&name, None))?;
            for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
                let id: ChunkId = line.to_ascii_lowercase().parse().map_err(|error: Error| {
                    nonsense(format!("cannot read {name}: {}", error.full_sentence()))
                })?;
                ids.insert(id);
            }
        }
        Ok(ids)
    }
}

/// Indexes of the command line, of which one may be standard input.
fn named(paths: &[PathBuf]) -> Result<Vec<NamedIndex>> {
    paths.iter().map(|path| NamedIndex::open(path)).collect()
}

fn paths(indexes: &[NamedIndex]) -> Vec<PathBuf> {
    indexes.iter().map(|index| index.path().to_owned()).collect()
}

/// A file or device as it is; `-` and names like formats mean nothing here.
fn raw(path: OsString) -> engine::location::Location {
    engine::location::Location { format: Some(engine::location::Format::Raw), path: path.into() }
}

/// Whether the name means standard input or output.
fn is_stream(path: &Path) -> bool {
    path == Path::new("-")
}

/// Something is not what it should be.
fn damaged(sentence: String) -> Error {
    Error::new(ErrorKind::Damaged, sentence)
}
