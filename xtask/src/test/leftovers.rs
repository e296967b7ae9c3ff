//! What a run leaves behind: processes, loop devices, mounts and files that were not there before it.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use testkit::host::{Attached, loop_devices, sweep, test_root, tool};

/// A watchdog may outlive the program it watches by the longest time that it lets a filesystem be frozen.
const PROCESS_PATIENCE: Duration = Duration::from_secs(6);

/// What was attached at one moment.
pub(super) struct Snapshot {
    root: PathBuf,
    devices: Vec<Attached>,
}

impl Snapshot {
    /// Looks now.
    pub(super) fn take() -> Self {
        Snapshot { root: test_root(), devices: loop_devices() }
    }

    /// Names what has come since, and clears what of it stands on the folder for tests. Only that is known to be
    /// ours: a loop device from elsewhere is named, since a test may have made it, but left alone.
    pub(super) fn clear_what_is_new(&self) -> Vec<String> {
        let mut found = self.kill_processes();
        found.extend(self.devices_elsewhere());
        let on_root = sweep(&self.root);
        found.extend(on_root.into_iter().map(|thing| format!("left behind: {thing}")));
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let path = entry.path();
            found.push(format!("left behind: {}", path.display()));
            let removed =
                if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            if let Err(cause) = removed {
                found.push(format!("cannot remove {}: {cause}", path.display()));
            }
        }
        found
    }

    fn kill_processes(&self) -> Vec<String> {
        let start = Instant::now();
        let mut left = processes_of(&self.root);
        while !left.is_empty() && start.elapsed() < PROCESS_PATIENCE {
            thread::sleep(Duration::from_millis(50));
            left = processes_of(&self.root);
        }
        for (pid, _) in &left {
            let _ = tool("sh").args(["-c", "kill -s KILL \"$0\"", pid]).output();
        }
        left.into_iter().map(|(pid, line)| format!("left behind: process {pid}: {line}")).collect()
    }

    fn devices_elsewhere(&self) -> Vec<String> {
        let is_ours = |path: &Path| path.starts_with(&self.root);
        let mut found = Vec::new();
        for Attached { device, backing } in loop_devices() {
            let is_known =
                self.devices.iter().any(|known| known.device == device && known.backing == backing);
            if !is_known && !is_ours(&backing) && !is_of_another_run(&backing) {
                let (backing, device) = (backing.display(), device.display());
                found.push(format!("left behind, and left alone: {backing} attached to {device}"));
            }
        }
        found
    }
}

/// The processes, other than this one, that were started with `root` as the folder for tests: number and command.
fn processes_of(root: &Path) -> Vec<(String, String)> {
    let mark = format!("BLOCKPRINT_TEST_ROOT={}", root.display());
    let own = std::process::id().to_string();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let pids = names.filter(|name| name.parse::<u32>().is_ok() && *name != own);
    let read = |pid: &str, what: &str| fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
    let is_marked =
        |pid: &String| read(pid, "environ").split(|b| *b == 0).any(|v| v == mark.as_bytes());
    let line = |pid: &str| String::from_utf8_lossy(&read(pid, "cmdline")).replace('\0', " ");
    pids.filter(is_marked).map(|pid| (pid.clone(), line(&pid))).collect()
}

/// Whether a path lies in the folder of another run of the tests, which may go on beside this one.
fn is_of_another_run(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str().to_string_lossy().starts_with("blockprint-tests"))
}
