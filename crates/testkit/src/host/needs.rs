//! What a test needs from the machine, and what is said and counted where that is missing.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::panic::Location;
use std::path::Path;

use super::{TempDir, has_tool, tool, try_run};

/// What a test cannot do without.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    root: bool,
    tools: Vec<&'static str>,
    filesystems: Vec<&'static str>,
}

impl Needs {
    /// Nothing yet.
    pub fn none() -> Self {
        Needs::default()
    }

    /// Root with the right to mount, and loop devices.
    pub fn root() -> Self {
        Needs { root: true, ..Needs::default() }
    }

    /// These programs too.
    #[must_use]
    pub fn tools(mut self, names: &[&'static str]) -> Self {
        self.tools.extend(names);
        self
    }

    /// A kernel that mounts these filesystems, and their `mkfs`, too.
    #[must_use]
    pub fn filesystems(mut self, names: &[&'static str]) -> Self {
        self.filesystems.extend(names);
        self
    }

    /// What the machine lacks, a few words each; empty where nothing is missing.
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if self.root {
            missing.extend(missing_rights());
        }
        for name in &self.tools {
            if !has_tool(name) {
                missing.push(format!("{name} is not installed"));
            }
        }
        for name in &self.filesystems {
            if !has_tool(&format!("mkfs.{name}")) {
                missing.push(format!("mkfs.{name} is not installed"));
            }
            if self.root && !kernel_mounts(name) {
                missing.push(format!("this kernel does not mount {name}"));
            }
        }
        missing
    }
}

/// An empty folder for the test if the machine has what it needs; else the test is skipped, aloud.
///
/// The environment decides what a skip means: `BLOCKPRINT_SKIPS` names a file that gets one line for each,
/// `BLOCKPRINT_NO_SKIPS=1` turns each into a failure.
#[must_use]
#[track_caller]
pub fn require(needs: &Needs) -> Option<TempDir> {
    let missing = needs.missing();
    if missing.is_empty() {
        return Some(TempDir::new("scratch"));
    }
    skip(&missing.join(", "));
    None
}

/// Says and counts that the test which runs now is skipped; it must then return.
#[track_caller]
pub fn skip(reason: &str) {
    let test = running_test();
    let no_skips = env::var_os("BLOCKPRINT_NO_SKIPS").is_some_and(|value| value == "1");
    assert!(!no_skips, "{test} may not be skipped here, but {reason}");
    let line = format!("skipped: {test}: {reason}\n");
    // Not `eprintln!`: the test harness swallows what a passing test prints.
    let _ = io::stderr().write_all(line.as_bytes());
    if let Some(path) = env::var_os("BLOCKPRINT_SKIPS") {
        let file = OpenOptions::new().append(true).create(true).open(&path);
        file.and_then(|mut file| file.write_all(line.as_bytes()))
            .unwrap_or_else(|cause| panic!("cannot count a skip in {path:?}: {cause}"));
    }
}

#[track_caller]
fn running_test() -> String {
    let place = Location::caller();
    match std::thread::current().name() {
        Some(name) if name != "main" => name.to_string(),
        _ => format!("{}:{}", place.file(), place.line()),
    }
}

fn missing_rights() -> Option<String> {
    const CAP_SYS_ADMIN: u32 = 21;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().split_whitespace().map(str::to_string).collect::<Vec<_>>()
    };
    if field("Uid:").get(1).map(String::as_str) != Some("0") {
        return Some("it needs root".to_string());
    }
    let abilities = field("CapEff:").first().and_then(|text| u64::from_str_radix(text, 16).ok());
    if abilities.unwrap_or(0) >> CAP_SYS_ADMIN & 1 == 0 {
        return Some("root may not mount here".to_string());
    }
    let loops = Path::new("/dev/loop-control").exists();
    (!loops).then(|| "there are no loop devices here".to_string())
}

fn kernel_mounts(name: &str) -> bool {
    let listed = || {
        let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        known.lines().any(|line| line.split_whitespace().last() == Some(name))
    };
    listed() || (try_run(tool("modprobe").arg(name)).is_ok() && listed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let needs = Needs::none().tools(&["sh", "no-such-tool"]).filesystems(&["nosuchfs"]);
        assert_eq!(
            needs.missing(),
            ["no-such-tool is not installed", "mkfs.nosuchfs is not installed"]
        );
    }

    #[test]
    fn a_test_that_needs_nothing_runs_in_a_folder_of_its_own() {
        let scratch = require(&Needs::none()).expect("nothing can be missing");
        assert!(scratch.path().is_dir());
    }
}
