//! `casync`: its verbs for blobs and local stores, in its own option names and output formats.
//!
//! Source: casync 2. What is different: an index on standard output is nothing but the index, extracting over a file
//! leaves exactly the blob, `list` shows chunks, chunks and files are durable, `gc` takes locks.

mod args;
mod extract;
mod index;
mod make;
mod sizes;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use engine::Result;
use engine::stores::{StoreLocation, Stores, default_store};

use super::refusal::{answer, nonsense, refuse};
use super::spool::NamedIndex;
use crate::args::ProgressArg;
use crate::render::{Face, say};
use args::{Cli, What};

pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return answer("casync", &error, &[], &[]),
    };
    if cli.version {
        say(&format!("casync 2 (blockprint {})", env!("CARGO_PKG_VERSION")));
        return ExitCode::SUCCESS;
    }
    let progress = if cli.is_verbose() { ProgressArg::Auto } else { ProgressArg::None };
    let face = Face::of_peer("casync", cli.is_verbose(), progress);
    match run(cli, &face) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            face.error(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(mut cli: Cli, face: &Face) -> Result<()> {
    if cli.what.as_deref() == Some("help") {
        say("Allowed --what= selectors:\nblob\nblob-index");
        return Ok(());
    }
    let mut words = std::mem::take(&mut cli.words).into_iter();
    let Some(verb) = words.next() else {
        return Err(nonsense("a verb is missing (`casync --help` lists them)"));
    };
    let verb = verb.to_string_lossy().into_owned();
    let words: Vec<OsString> = words.collect();
    cli.check(&verb)?;
    let what = cli.what()?;
    match verb.as_str() {
        "make" => make::make(&cli, what, words, face),
        "extract" => extract::extract(&cli, what, words, face),
        "digest" => make::digest(&cli, what, words, face),
        "list" => index::list(what, words, face),
        "gc" => index::gc(&cli, words, face),
        other => Err(match args::OTHER_VERBS.iter().find(|(name, _)| *name == other) {
            Some((_, why)) => refuse(format!("the verb {other} is not supported: {why}")),
            None => nonsense(format!("{other} is no verb (`casync --help` lists them)")),
        }),
    }
}

const DEFAULT_STORE: &str = "default.castr";

/// The store that belongs to an index, as casync finds it: named, in the environment, beside the index, or here.
fn store_of(cli: &Cli, index: &Path) -> StoreLocation {
    let of_environment = || std::env::var_os("CASYNC_STORE").filter(|value| !value.is_empty());
    match cli.store.clone().or_else(of_environment) {
        Some(text) => StoreLocation::from(text),
        None if is_stream(index) => StoreLocation::Folder(DEFAULT_STORE.into()),
        None => StoreLocation::Folder(index.with_file_name(DEFAULT_STORE)),
    }
}

/// The stores to read from. Without a name for the first, it may be absent: seeds may have everything.
fn stores_of(cli: &Cli, index: &Path) -> Stores {
    let named = cli.store.clone().map(StoreLocation::from);
    let first = named.or_else(|| default_store(index));
    let more = cli.extra_store.iter().cloned().map(StoreLocation::from);
    Stores { sources: first.into_iter().chain(more).collect(), ..Stores::default() }
}

/// Whether the name means standard input or output.
fn is_stream(path: &Path) -> bool {
    path == Path::new("-")
}

/// The file that a name means; `-` is what standard input is opened from, which has to be a file or a block device.
fn input(name: OsString) -> Result<PathBuf> {
    refuse_remote(&name)?;
    let path = match name == "-" {
        true => PathBuf::from("/proc/self/fd/0"),
        false => PathBuf::from(name),
    };
    if let Ok(found) = fs::metadata(&path) {
        let shown = shown(&path);
        if found.is_dir() {
            let sentence =
                format!("{shown} is a folder, and archives of folders are not supported");
            return Err(refuse(sentence));
        }
        if !found.is_file() && !found.file_type().is_block_device() {
            return Err(nonsense(format!("{shown} is neither a file nor a block device")));
        }
    }
    Ok(path)
}

fn shown(path: &Path) -> String {
    match path == Path::new("/proc/self/fd/0") {
        true => "standard input".to_string(),
        false => path.display().to_string(),
    }
}

/// Refuses what casync would take as the name of something on another machine.
fn refuse_remote(name: &OsStr) -> Result<()> {
    match StoreLocation::parse(name) {
        StoreLocation::Remote { text, kind } => {
            Err(refuse(format!("cannot open {text}: {kind} is not supported (./ before a file)")))
        }
        _ => Ok(()),
    }
}

/// What a name ends with, if it is one of casync's endings.
fn ending(path: &Path) -> Option<&str> {
    let ending = path.extension()?.to_str()?;
    ["caibx", "caidx", "catar"].contains(&ending).then_some(ending)
}

/// An index to be read; refuses what is none of a blob.
fn index_of_blob(name: OsString, what: Option<What>) -> Result<NamedIndex> {
    if what == Some(What::Blob) {
        return Err(nonsense("an index is needed here, and --what=blob says that there is none"));
    }
    refuse_remote(&name)?;
    let path = PathBuf::from(name);
    let shown = path.display();
    if what.is_none() && matches!(ending(&path), Some("caidx" | "catar")) {
        return Err(refuse(format!("cannot read {shown}: archives of folders are not supported")));
    }
    if path.is_dir() {
        return Err(refuse(format!(
            "{shown} is a folder, and only indexes of blobs are supported"
        )));
    }
    NamedIndex::open(&path)
}
