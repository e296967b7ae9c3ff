//! A mount that only another mount namespace sees.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{TempDir, tool, try_run};

/// A process in a mount namespace of its own that has `device` mounted there; both end when dropped.
///
/// The process waits for the end of its input, so it also ends, and the namespace with it, when the test is killed.
#[derive(Debug)]
pub struct Namespace {
    child: Child,
    folder: TempDir,
}

impl Namespace {
    /// Mounts `device` in a new namespace, with `options` as `mount -o` takes them, or none.
    #[track_caller]
    pub fn mount(device: &Path, options: &str) -> Self {
        const SCRIPT: &str = r#"mount -o "$3" "$1" "$2" && echo mounted && exec cat"#;
        let folder = TempDir::new("namespace");
        let mut command = tool("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", SCRIPT, "sh"]);
        command.arg(device).arg(folder.path());
        command.arg(if options.is_empty() { "defaults" } else { options });
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut namespace = Namespace { child: child.expect("unshare starts"), folder };
        let output = namespace.child.stdout.take().expect("its output is a pipe");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).expect("its output can be read");
        assert_eq!(line.trim(), "mounted", "cannot mount {} out of sight", device.display());
        namespace
    }

    /// The process that holds the namespace.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The mount point as this process reaches it, through `/proc`.
    pub fn path(&self) -> PathBuf {
        let point = self.folder.path().strip_prefix("/").expect("folders of tests are absolute");
        Path::new("/proc").join(self.pid().to_string()).join("root").join(point)
    }

    /// The mount point as the namespace itself names it.
    pub fn point(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The last mount of a frozen filesystem would go without thawing it.
        let table = fs::read_to_string(format!("/proc/{}/mounts", self.pid())).unwrap_or_default();
        let point = self.point().to_string_lossy().into_owned();
        if table.lines().any(|line| line.split(' ').nth(1) == Some(&point)) {
            let _ = try_run(tool("fsfreeze").arg("--unfreeze").arg(self.path()));
        }
        drop(self.child.stdin.take());
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(2) {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        LoopDevice, LoopOptions, Needs, loop_devices, make_image, mounts, require, run,
    };
    use super::*;

    #[test]
    fn a_mount_in_a_namespace_is_seen_only_there_and_goes_with_it() {
        let needs = Needs::root().filesystems(&["ext4"]).tools(&["unshare"]);
        let Some(scratch) = require(&needs) else {
            return;
        };
        let image = scratch.join("hidden.img");
        make_image("ext4", &image, 16 << 20);
        let device = LoopDevice::attach(&image, &LoopOptions::default());
        let namespace = Namespace::mount(device.path(), "noatime");
        assert!(!mounts().iter().any(|entry| entry.source == device.path()));
        fs::write(namespace.path().join("file"), "x").unwrap();
        run(tool("fsfreeze").arg("--freeze").arg(namespace.path()));
        drop(namespace);
        drop(device);
        assert!(!loop_devices().iter().any(|attached| attached.backing == image));
    }
}
