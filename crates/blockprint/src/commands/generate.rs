//! `blockprint completions` and `blockprint man`: made from the same definitions as the help.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use engine::{Error, Result};

use crate::args::{Cli, CompletionsArgs, ManArgs, exit_codes};

pub(super) fn completions(args: &CompletionsArgs) -> Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "blockprint", &mut text);
    // A reader that has gone is no error.
    let _ = io::stdout().lock().write_all(&text);
    Ok(ExitCode::SUCCESS)
}

pub(super) fn man(args: &ManArgs) -> Result<ExitCode> {
    let failed = |path: &Path, cause: io::Error| {
        let name = path.display().to_string();
        Error::io(format!("cannot write {name}"), cause).at(name, None)
    };
    fs::create_dir_all(&args.folder).map_err(|cause| failed(&args.folder, cause))?;
    let mut program = Cli::command();
    program.build();
    let mut pages = vec![program.clone()];
    pages.extend(program.get_subcommands().filter(|command| command.get_name() != "help").cloned());
    for command in pages {
        let name = match command.get_name() {
            "blockprint" => "blockprint".to_string(),
            name => format!("blockprint-{name}"),
        };
        let path = args.folder.join(format!("{name}.1"));
        let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let behind = format!("{examples}\n\n{}", exit_codes());
        let page = clap_mangen::Man::new(command.name(name).after_long_help(behind));
        let mut text = Vec::new();
        page.render(&mut text).map_err(|cause| failed(&path, cause))?;
        fs::write(&path, text).map_err(|cause| failed(&path, cause))?;
    }
    Ok(ExitCode::SUCCESS)
}
