//! What a peer's command line may have that this program does not: refused in one line that names it.

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind as ClapKind};
use engine::{Error, ErrorKind};

use crate::render::{complain, say};

/// Something of that tool that is not done here: its name, and why.
pub(super) type Missing = (&'static str, &'static str);

/// The refusal of a request that is none of ours.
pub(super) fn refuse(sentence: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unsupported, sentence)
}

/// The refusal of a request that makes no sense.
pub(super) fn nonsense(sentence: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, sentence)
}

/// Help as it is; any trouble with the command line as one line. `commands` and `options` are those of that tool that
/// are known and not done here.
pub(super) fn answer(
    tool: &str,
    error: &clap::Error,
    commands: &[Missing],
    options: &[Missing],
) -> ExitCode {
    if let ClapKind::DisplayHelp | ClapKind::DisplayVersion = error.kind() {
        say(error.render().to_string().trim_end());
        return ExitCode::SUCCESS;
    }
    let named = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let sentence = match error.kind() {
        ClapKind::InvalidSubcommand => {
            let name = named(ContextKind::InvalidSubcommand).unwrap_or_default();
            match look_up(commands, name) {
                Some(why) => format!("the command {name} is not supported: {why}"),
                None => format!("{name} is no command (`{tool} --help` lists them)"),
            }
        }
        ClapKind::UnknownArgument => {
            let name = named(ContextKind::InvalidArg).unwrap_or_default();
            let option = name.split('=').next().unwrap_or_default();
            match look_up(options, option) {
                Some(why) => format!("the option {option} is not supported: {why}"),
                None => {
                    format!("{name} is no option of this command, or one that is not supported")
                }
            }
        }
        ClapKind::DisplayHelpOnMissingArgumentOrSubcommand | ClapKind::MissingSubcommand => {
            format!("a command is missing (`{tool} --help` lists them)")
        }
        _ => first_sentence(&error.render().to_string()),
    };
    complain(&format!("{tool}: {sentence}"));
    ExitCode::FAILURE
}

fn look_up(table: &[Missing], name: &str) -> Option<&'static str> {
    table.iter().find(|(known, _)| *known == name).map(|(_, why)| *why)
}

/// What clap says before it explains the usage, in one line.
fn first_sentence(rendered: &str) -> String {
    let head = rendered.split("\n\n").next().unwrap_or_default();
    let head = head.strip_prefix("error: ").unwrap_or(head);
    head.split_whitespace().collect::<Vec<_>>().join(" ")
}
