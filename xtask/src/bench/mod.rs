//! `cargo xtask bench`: the program against its peers, all in one run, each taking turns with the others.
//!
//! Figures drift from machine to machine and from hour to hour; what counts is the ratio of medians within a run.

mod backup;
mod chunks;
mod clone;
mod compare;
mod copy;
mod freeze;
mod inputs;
mod rounds;
mod sparse;
mod spgz;
mod sync;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use testkit::host::{TempDir, mounts, test_root};

use crate::workspace::{Workspace, commit};
use crate::{supervise, units};
pub(crate) use rounds::WARM_MEMORY;
use table::{Row, Table};

/// What the user asks for.
#[derive(Debug, Default)]
pub(crate) struct Options {
    only: Option<String>,
    rounds: Option<usize>,
    is_strict: bool,
    program: Option<PathBuf>,
}

/// What the cases are given.
struct Bench {
    program: PathBuf,
    /// Inputs that are slow to make and stay for the next run.
    cache: PathBuf,
    /// A folder on a disk.
    disk: TempDir,
    /// A folder in memory.
    memory: TempDir,
    rounds: Option<usize>,
}

/// A case measures one job and gives its rows, or the reason why it cannot.
type Case = fn(&Bench) -> Result<Vec<Row>, String>;

const CASES: [(&str, Case); 16] = [
    ("copy in memory", copy::in_memory),
    ("copy on disk", copy::on_disk),
    ("copy within XFS", copy::within_xfs),
    ("compare", compare::equal_images),
    ("clone", clone::idle_file),
    ("freeze", freeze::fragmented_image),
    ("sparse", sparse::almost_empty_file),
    ("index", chunks::index),
    ("make", chunks::make_new),
    ("extract", chunks::extract),
    ("sparse index", chunks::sparse_index),
    ("sync here", sync::local),
    ("sync over a pipe", sync::over_pipe),
    ("diskrsync tree", sync::diskrsync_tree),
    ("spgz", spgz::pack),
    ("backup", backup::partition),
];

impl Bench {
    /// A call of the program that says nothing.
    fn program(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args([subcommand, "--quiet"]);
        command
    }
}

impl Options {
    /// Reads the words after the verb.
    pub(crate) fn parse(words: &[String]) -> Result<Self, String> {
        let mut options = Options::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--strict" => options.is_strict = true,
                "--only" => options.only = Some(value()?.clone()),
                "--program" => options.program = Some(PathBuf::from(value()?)),
                "--rounds" => {
                    let count = value()?.parse().ok().filter(|count| *count > 0);
                    options.rounds = Some(count.ok_or("--rounds needs a number above 0")?);
                }
                _ => return Err(format!("{word:?} is not understood by bench")),
            }
        }
        Ok(options)
    }
}

/// Measures the cases that were asked for, and prints one table.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let started = Instant::now();
    let workspace = Workspace::load()?;
    let program = match &options.program {
        Some(path) => {
            path.canonicalize().map_err(|cause| format!("{}: {cause}", path.display()))?
        }
        None => workspace.build_program()?,
    };
    let cache = workspace.target.join("bench");
    fs::create_dir_all(&cache)
        .map_err(|cause| format!("cannot make {}: {cause}", cache.display()))?;
    let bench = Bench {
        program,
        cache,
        disk: TempDir::new("disk"),
        memory: TempDir::below(&supervise::memory_root(), "memory"),
        rounds: options.rounds,
    };
    println!("{}", machine(&bench));
    let mut table = Table::default();
    for (name, case) in CASES {
        if options.only.as_ref().is_some_and(|text| !name.contains(text.as_str())) {
            continue;
        }
        let case_started = Instant::now();
        match case(&bench) {
            Ok(rows) => table.extend(rows),
            Err(reason) => table.skip(name, &reason),
        }
        eprintln!("measured: {name} ({})", units::time(case_started.elapsed()));
    }
    print!("\n{table}");
    println!("in {}", units::time(started.elapsed()));
    let missed = table.missed();
    match missed {
        0 => Ok(()),
        _ if !options.is_strict => Ok(()),
        _ => Err(format!("{missed} goals were missed")),
    }
}

/// The circumstances without which figures mean nothing.
fn machine(bench: &Bench) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    format!(
        "{} cores {}, Linux {}, disk {} at {}, load {}, commit {}",
        cores,
        model.map_or("", |(_, name)| name.trim()),
        kernel.trim(),
        kind_of_filesystem(bench.disk.path()),
        test_root().display(),
        load.split(' ').next().unwrap_or_default(),
        commit(),
    )
}

/// What the filesystem that holds `path` is called.
fn kind_of_filesystem(path: &Path) -> String {
    let holders = mounts().into_iter().filter(|entry| path.starts_with(&entry.point));
    let holder = holders.max_by_key(|entry| entry.point.as_os_str().len());
    holder.map_or_else(|| "a disk".to_string(), |entry| entry.kind)
}
