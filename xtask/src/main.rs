//! Set-up, checks, demonstration and measurements of blockprint: `cargo xtask test|demo|bench|dist|tidy`.

mod bench;
mod demo;
mod setup;
mod supervise;
mod test;
mod tidy;
mod units;
mod workspace;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use setup::Verb;
use workspace::Workspace;

const USAGE: &str = "\
Usage: cargo xtask VERB

  test    Install what the tests need, run every check and every test, look for what they left behind
  demo    Show the main job on real filesystems, with times and sizes
          --program PATH   use this program instead of building one
  bench   Measure against the peers, both taking turns in one run
          --only TEXT      only the cases whose name contains TEXT
          --rounds N       so many rounds of each case (default: the case's own)
          --strict         fail if a goal is missed
          --program PATH   use this program instead of building one
  dist    Build the program as one file that needs no library of the system, and say where it is
  tidy    Check the rules of the house alone: crate graph, sources, pages

test, demo and bench install missing Debian packages when run as root.";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let Some((verb, options)) = arguments.split_first() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let outcome = match verb.as_str() {
        "test" => supervise::run("test", minutes(30), &env::temp_dir(), || {
            no_options(options)?;
            setup::install(Verb::Test);
            test::run()
        }),
        "demo" => supervise::run("demo", minutes(10), &target(), || {
            let options = demo::Options::parse(options)?;
            setup::install(Verb::Demo);
            demo::run(&options)
        }),
        "bench" => supervise::run("bench", minutes(60), &target(), || {
            let options = bench::Options::parse(options)?;
            setup::install(Verb::Bench);
            bench::run(&options)
        }),
        bench::WARM_MEMORY => {
            let size_bytes = options.first().and_then(|word| word.parse().ok());
            testkit::host::warm_memory(size_bytes.unwrap_or(0));
            Ok(())
        }
        "dist" => no_options(options).and_then(|()| {
            let program = Workspace::load()?.build_program()?;
            println!("{}", program.display());
            Ok(())
        }),
        "tidy" => no_options(options).and_then(|()| tidy::run()),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        _ => Err(format!("there is no verb {verb:?}\n{USAGE}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            if !sentence.is_empty() {
                eprintln!("error: {sentence}");
            }
            ExitCode::FAILURE
        }
    }
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}

/// Temporary folders are often kept in memory; times shown to people are to be those of a disk.
fn target() -> PathBuf {
    Workspace::load().map_or_else(|_| env::temp_dir(), |workspace| workspace.target)
}

fn no_options(options: &[String]) -> Result<(), String> {
    match options.first() {
        Some(option) => Err(format!("{option:?} is not understood here\n{USAGE}")),
        None => Ok(()),
    }
}
