//! Runs a verb in a process of its own, and cleans up after it however that ends.
//!
//! The verb gets a folder for all that it makes, mounts and attaches: `BLOCKPRINT_TEST_ROOT`. A verb that is
//! interrupted, killed or hangs takes its guards along; what then still stands on the folder is undone from here.

use std::collections::HashMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use testkit::host::{sweep, test_root, tool};

const ROOT: &str = "BLOCKPRINT_TEST_ROOT";
/// Set for the child alone.
const SUPERVISED: &str = "BLOCKPRINT_SUPERVISED";
const PREFIX: &str = "blockprint-tests";
/// Where Linux keeps files in memory.
const MEMORY: &str = "/dev/shm";

/// Runs `verb` in a child process that gets no more than `at_most`; in that child, does the `work` itself.
///
/// The folder for all it makes lies in the one that the environment names, else in `place`.
pub(crate) fn run(
    verb: &str,
    at_most: Duration,
    place: &Path,
    work: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    if env::var_os(SUPERVISED).is_some() {
        return work();
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(|cause| cause.to_string())?;
    }
    let roots = env::var_os(ROOT).map_or_else(|| place.to_path_buf(), PathBuf::from);
    fs::create_dir_all(&roots)
        .map_err(|cause| format!("cannot make {}: {cause}", roots.display()))?;
    clear_dead_roots(&roots);
    clear_dead_roots(Path::new(MEMORY));
    let root = roots.join(format!("{PREFIX}.{}", std::process::id()));
    fs::create_dir(&root).map_err(|cause| format!("cannot make {}: {cause}", root.display()))?;
    let outcome = supervised(verb, at_most, &root, &stop);
    clear(&root);
    clear(&in_memory(&root));
    outcome
}

/// The root of this run in memory, cleared like the one on disk.
pub(crate) fn memory_root() -> PathBuf {
    in_memory(&test_root())
}

fn in_memory(root: &Path) -> PathBuf {
    Path::new(MEMORY).join(root.file_name().unwrap_or_default())
}

fn supervised(verb: &str, at_most: Duration, root: &Path, stop: &AtomicBool) -> Result<(), String> {
    let program = env::current_exe().map_err(|cause| cause.to_string())?;
    let mut command = Command::new(program);
    command.args(env::args_os().skip(1)).env(ROOT, root).env(SUPERVISED, "1");
    let mut child = command.spawn().map_err(|cause| cause.to_string())?;
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(|cause| cause.to_string())? {
            // The child has said what was wrong.
            return if status.success() { Ok(()) } else { Err(String::new()) };
        }
        let sentence = if stop.load(Ordering::Relaxed) {
            format!("{verb} was interrupted")
        } else if started.elapsed() > at_most {
            format!("{verb} did not end within {} minutes", at_most.as_secs() / 60)
        } else {
            thread::sleep(Duration::from_millis(20));
            continue;
        };
        kill_tree(&mut child);
        return Err(sentence);
    }
}

/// Undoes what stands on a root, and removes it.
fn clear(root: &Path) {
    for sentence in sweep(root) {
        eprintln!("cleaned up: {sentence}");
    }
    if root.exists()
        && let Err(cause) = fs::remove_dir_all(root)
    {
        eprintln!("cannot remove {}: {cause}", root.display());
    }
}

/// Clears the roots of runs whose supervisor was killed too.
fn clear_dead_roots(roots: &Path) {
    let Ok(entries) = fs::read_dir(roots) else {
        return;
    };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('.'));
        let Some(pid) = owner.and_then(|pid| pid.parse::<u32>().ok()) else {
            continue;
        };
        if !Path::new("/proc").join(pid.to_string()).exists() {
            clear(&path);
        }
    }
}

/// Kills a process and all that descends from it: a hanging test is a grandchild of ours.
fn kill_tree(child: &mut Child) {
    let mut doomed = vec![child.id()];
    let parents = parents();
    let mut next = 0;
    while let Some(parent) = doomed.get(next).copied() {
        let children = parents.iter().filter(|(_, of)| **of == parent).map(|(pid, _)| *pid);
        doomed.extend(children.collect::<Vec<_>>());
        next += 1;
    }
    let pids: Vec<String> = doomed.iter().map(u32::to_string).collect();
    let _ = tool("sh").args(["-c", "kill -s KILL \"$@\"", "sh"]).args(&pids).output();
    let _ = child.wait();
}

/// Each process's parent.
fn parents() -> HashMap<u32, u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let parent = |pid: u32| {
        let path = PathBuf::from(format!("/proc/{pid}/stat"));
        let stat = fs::read_to_string(path).ok()?;
        // The name before the state may hold blanks and parentheses.
        let (_, rest) = stat.rsplit_once(')')?;
        rest.split_whitespace().nth(1)?.parse().ok()
    };
    pids.filter_map(|pid| Some((pid, parent(pid)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    #[test]
    fn a_tree_is_killed_with_its_leaves() {
        let mut command = tool("sh");
        command.args(["-c", "sh -c 'echo $$; exec sleep 61' & wait"]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut output = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        let leaf = PathBuf::from(format!("/proc/{}/cmdline", line.trim()));
        assert!(leaf.exists());
        kill_tree(&mut child);
        let gone = |path: &Path| fs::read(path).map_or(true, |text| text.is_empty());
        let start = Instant::now();
        while !gone(&leaf) {
            assert!(start.elapsed() < Duration::from_secs(5), "the leaf lives on");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn the_folder_of_a_dead_run_is_cleared_and_that_of_a_living_one_is_not() {
        let scratch = testkit::host::TempDir::new("roots");
        let dead = scratch.join(format!("{PREFIX}.4999999"));
        let living = scratch.join(format!("{PREFIX}.{}", std::process::id()));
        fs::create_dir(&dead).unwrap();
        fs::create_dir(&living).unwrap();
        clear_dead_roots(scratch.path());
        assert!(!dead.exists());
        assert!(living.exists());
    }
}
