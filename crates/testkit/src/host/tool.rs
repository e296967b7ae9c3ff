//! Runs the system's tools and shows what they said when they fail.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A command for the tool of that name, found also where only root's path leads, speaking plain English.
pub fn tool(name: &str) -> Command {
    let mut command = Command::new(find(name).unwrap_or_else(|| PathBuf::from(name)));
    command.env("PATH", search_path()).env("LC_ALL", "C").stdin(Stdio::null());
    command
}

/// Whether the tool of that name is installed.
pub fn has_tool(name: &str) -> bool {
    find(name).is_some()
}

/// Runs a command to its end and gives its standard output. Panics with all it said if it fails.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    match try_run(command) {
        Ok(output) => output,
        Err(sentence) => panic!("{sentence}"),
    }
}

/// Runs a command to its end and gives its standard output, or a sentence with all it said.
pub fn try_run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|cause| format!("cannot start {command:?}: {cause}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?} failed ({}):\n{text}{errors}", output.status))
}

fn find(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Path::new(name).exists().then(|| PathBuf::from(name));
    }
    env::split_paths(&search_path()).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Debian keeps mkfs and losetup out of an ordinary user's path.
fn search_path() -> OsString {
    let mut folders: Vec<PathBuf> =
        env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    for folder in ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"] {
        if !folders.iter().any(|known| known == Path::new(folder)) {
            folders.push(PathBuf::from(folder));
        }
    }
    env::join_paths(folders).expect("folders of a search path hold no colon")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_tool_is_quoted() {
        let sentence = try_run(tool("sh").args(["-c", "echo seen; echo why >&2; exit 3"]))
            .expect_err("the shell was told to fail");
        assert!(sentence.contains("seen") && sentence.contains("why"), "{sentence}");
        assert!(sentence.contains("exit status: 3"), "{sentence}");
    }

    #[test]
    fn a_tool_that_is_not_installed_is_missing() {
        assert!(has_tool("sh"));
        assert!(!has_tool("no-such-tool-anywhere"));
    }
}
