//! `blockprint completions` and `blockprint man`.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

/// Print the completions for a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blockprint completions bash > /etc/bash_completion.d/blockprint
  blockprint completions zsh > ~/.zfunc/_blockprint
  blockprint completions fish > ~/.config/fish/completions/blockprint.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// Write the manual pages into a folder
///
/// One page for the program and one for each command; pages of that name are replaced.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blockprint man /usr/local/share/man/man1          then: man blockprint-copy")]
pub(crate) struct ManArgs {
    /// The folder; it is made if it is missing
    pub(crate) folder: PathBuf,
}
