//! diskrsync's flags and operands: long flags only, mixed with operands, a later one wins.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::Parser;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "diskrsync",
    disable_help_flag = true,
    disable_version_flag = true,
    args_override_self = true
)]
pub(super) struct Cli {
    words: Vec<OsString>,
    /// A new target is raw.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = boolean)]
    pub(super) no_compress: bool,
    /// Bars and statistics.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = boolean)]
    pub(super) verbose: bool,
    #[arg(long, allow_hyphen_values = true, default_value = "")]
    ssh_flags: OsString,
    #[arg(long, allow_hyphen_values = true)]
    cmd_path: Option<OsString>,
    #[arg(short, long)]
    help: bool,

    // The rest is for the end that is called.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = boolean)]
    source: bool,
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = boolean)]
    target: bool,
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = boolean)]
    pub(super) calc_progress: bool,
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", value_parser = boolean)]
    pub(super) sync_progress: bool,
}

/// What the program is started as.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// By a person, with two locations.
    Client { source: OsString, target: OsString },
    /// By a client, to have the content.
    Source(OsString),
    /// By a client, to get the content.
    Target(OsString),
}

impl Cli {
    /// Reads a command line, the program's name included; else says in a few words what is wrong with it, or nothing where
    /// only help is wanted.
    pub(super) fn read(line: impl IntoIterator<Item = OsString>) -> Result<(Self, Part), String> {
        let mut cli = Cli::try_parse_from(line).map_err(|error| {
            let text = error.render().to_string();
            let head = text.split("\n\n").next().unwrap_or_default();
            head.strip_prefix("error: ").unwrap_or(head).trim_end().to_string()
        })?;
        if cli.help {
            return Err(String::new());
        }
        let words = std::mem::take(&mut cli.words);
        if words.iter().any(|word| word.is_empty()) {
            return Err("an operand is empty".to_string());
        }
        let is_role = cli.source || cli.target;
        let wanted = if is_role { "a path" } else { "a source and a target" };
        let mut words = words.into_iter();
        let part = match (words.next(), words.next(), words.next()) {
            (Some(path), None, _) if cli.source => Part::Source(path),
            (Some(path), None, _) if cli.target => Part::Target(path),
            (Some(source), Some(target), None) if !is_role => Part::Client { source, target },
            (_, Some(second), _) if is_role => {
                let name = second.display();
                return Err(format!("one operand too many ({name}): {wanted} is expected"));
            }
            (_, _, Some(third)) => {
                let name = third.display();
                return Err(format!("one operand too many ({name}): {wanted} are expected"));
            }
            _ => return Err(format!("{wanted} must be given")),
        };
        Ok((cli, part))
    }

    /// What stands before the host: cut at every single space, so that two of them make an empty argument.
    pub(super) fn ssh_flags(&self) -> Vec<OsString> {
        if self.ssh_flags.is_empty() {
            return Vec::new();
        }
        let words = self.ssh_flags.as_bytes().split(|&byte| byte == b' ');
        words.map(|word| OsString::from_vec(word.to_vec())).collect()
    }

    /// The words that start the other end; without a wish for others, `own_name`.
    pub(super) fn remote_command<'a>(&'a self, own_name: &'a OsStr) -> &'a OsStr {
        self.cmd_path.as_deref().unwrap_or(own_name)
    }
}

/// How the program is used.
pub(super) fn usage(program: &OsStr) -> String {
    let name = program.display();
    format!(
        "Usage: {name} [flags] SOURCE TARGET\n\
         SOURCE and TARGET are files or block devices here, or [USER@]HOST:PATH\n\n\
         \x20 --no-compress       a new target is a raw file; without this it is an spgz container\n\
         \x20 --verbose           show progress and statistics\n\
         \x20 --ssh-flags STRING  flags for ssh, cut at spaces\n\
         \x20 --cmd-path STRING   the program to start on the other machine (default: {name})"
    )
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
        _ => Err("neither true nor false".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn read(line: &[&str]) -> Result<(Cli, Part), String> {
        Cli::read(["diskrsync"].iter().chain(line).map(OsString::from))
    }

    #[track_caller]
    fn client(line: &[&str]) -> Cli {
        let (cli, part) = read(line).unwrap();
        assert_eq!(part, Part::Client { source: "a".into(), target: "b".into() });
        cli
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_and_operands_may_be_mixed_and_the_later_flag_wins() {
        for line in [
            &["--verbose", "a", "--no-compress", "b"][..],
            &["a", "b", "--verbose=true", "--no-compress=1"],
            &["--verbose=f", "a", "--no-compress=t", "--verbose", "--", "b"],
        ] {
            let cli = client(line);
            assert!(cli.verbose && cli.no_compress, "{line:?}");
        }
        assert!(!client(&["--verbose", "--verbose=0", "a", "b"]).verbose);
        let (_, part) = read(&["--", "--verbose", "-"]).unwrap();
        assert_eq!(part, Part::Client { source: "--verbose".into(), target: "-".into() });
    }

    #[test]
    fn values_may_begin_with_a_dash_and_flags_of_ssh_are_cut_at_every_space() {
        let flags = |line: &[&str]| client(line).ssh_flags();
        assert_eq!(flags(&["--ssh-flags", "-p 22", "a", "b"]), ["-p", "22"]);
        assert_eq!(flags(&["a", "b", "--ssh-flags=-p  22"]), ["-p", "", "22"]);
        assert_eq!(flags(&["--ssh-flags=-4", "--ssh-flags=", "a", "b"]), [""; 0]);
        let cli = client(&["a", "b", "--cmd-path", "env A=1 diskrsync"]);
        assert_eq!(cli.remote_command("own".as_ref()), "env A=1 diskrsync");
        assert_eq!(client(&["a", "b"]).remote_command("own".as_ref()), "own");
    }

    #[test]
    fn a_called_end_has_one_operand_and_a_source_is_one_first_of_all() {
        let part = |line: &[&str]| read(line).map(|(_, part)| part);
        assert_eq!(part(&["--target", "--no-compress", "x"]), Ok(Part::Target("x".into())));
        assert_eq!(part(&["--target", "--source", "x"]), Ok(Part::Source("x".into())));
        assert_eq!(
            part(&["--target", "--calc-progress", "--sync-progress", "x"]),
            Ok(Part::Target("x".into()))
        );
        assert!(part(&["--target", "x", "y"]).unwrap_err().contains("one operand too many (y)"));
        assert!(part(&["--target"]).is_err() && part(&["--source", ""]).is_err());
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (line, part) in [
            (&["a"][..], "a source and a target must be given"),
            (&[], "must be given"),
            (&["a", ""], "empty"),
            (&["a", "b", "c"], "one operand too many (c)"),
            (&["-v", "a", "b"], "-v"),
            (&["-verbose", "a", "b"], "-v"),
            (&["--version"], "--version"),
            (&["--verb", "a", "b"], "--verb"),
            (&["--verbose=yes", "a", "b"], "yes"),
            (&["--cmd-path"], "--cmd-path"),
        ] {
            let said = read(line).unwrap_err();
            assert!(said.contains(part), "{line:?}: {said}");
        }
        for line in [&["-h"][..], &["a", "--help"]] {
            assert_eq!(read(line).unwrap_err(), "", "{line:?}");
        }
    }
}
