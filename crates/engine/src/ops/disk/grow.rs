//! Growing the filesystem of a partition that has grown, by the filesystem's own tools.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use image::{Error, ErrorKind, Phase, Result, Task};
use sys::ProcessGroup;

/// More than these tools say.
const SAID_MAX_BYTES: u64 = 64 << 10;

/// A filesystem that can grow, and the tools for that are there.
pub(super) struct Grower {
    number: u32,
    way: Way,
}

/// What a filesystem wants to grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Checked, then resized, unmounted.
    Ext,
    /// Mounted. The identity of the filesystem may be on a mounted disk, too.
    Xfs,
    /// Mounted.
    Btrfs,
}

impl Grower {
    /// For the filesystem `kind` on partition `number`.
    ///
    /// # Errors
    ///
    /// `Unsupported` for a filesystem that cannot be grown, and where a tool is missing.
    pub(super) fn of(number: u32, kind: Option<&str>) -> Result<Self> {
        let way = match kind {
            Some("ext2" | "ext3" | "ext4") => Way::Ext,
            Some("xfs") => Way::Xfs,
            Some("btrfs") => Way::Btrfs,
            other => {
                let sentence = format!(
                    "the last partition ({number}) holds {}, which cannot be grown: that is done for ext4, xfs and btrfs \
                     (restore without --grow, then use the tools of that filesystem)",
                    other.unwrap_or("nothing that is known")
                );
                return Err(Error::new(ErrorKind::Unsupported, sentence));
            }
        };
        for tool in way.tools() {
            if !is_there(tool) {
                let sentence = format!(
                    "{tool} is not installed, without which the last partition cannot be grown (install it, or restore without --grow)"
                );
                return Err(Error::new(ErrorKind::Unsupported, sentence));
            }
        }
        Ok(Grower { number, way })
    }

    /// The number of the partition.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Grows the filesystem on `device` to all of it. What has to be mounted for that is mounted in a namespace that is gone
    /// with the tool, so that nobody else sees it and nothing can stay mounted.
    ///
    /// # Errors
    ///
    /// `Io` with what the tool said; `Cancelled`.
    pub(super) fn grow(&self, device: &Path, task: &Task) -> Result<()> {
        task.begin(Phase::Flush, 0);
        task.note(format!("growing the filesystem of partition {}", self.number));
        let point = std::env::temp_dir();
        let mounted = |script: &'static str| {
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation=private", "sh", "-c", script, "sh"]);
            command.arg(device).arg(&point);
            run(command, &[0], task)
        };
        match self.way {
            Way::Ext => {
                let mut check = shell("exec e2fsck -f -p \"$1\"");
                check.arg(device);
                // 1: what was found was repaired.
                run(check, &[0, 1], task)?;
                let mut resize = shell("exec resize2fs \"$1\"");
                resize.arg(device);
                run(resize, &[0], task)
            }
            Way::Xfs => mounted(
                "exec 2>&1; mount -t xfs -o nouuid \"$1\" \"$2\" && xfs_growfs \"$2\" && umount \"$2\"",
            ),
            Way::Btrfs => mounted(
                "exec 2>&1; mount -t btrfs \"$1\" \"$2\" && btrfs filesystem resize max \"$2\" && umount \"$2\"",
            ),
        }
    }
}

impl Way {
    fn tools(self) -> &'static [&'static str] {
        match self {
            Way::Ext => &["e2fsck", "resize2fs"],
            Way::Xfs => &["xfs_growfs", "unshare", "mount"],
            Way::Btrfs => &["btrfs", "unshare", "mount"],
        }
    }
}

/// `script` with what it says in one stream; its arguments follow.
fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("exec 2>&1; {script}"), "sh"]);
    command
}

/// Runs a tool to its end, which must be one of `good`.
fn run(mut command: Command, good: &[i32], task: &Task) -> Result<()> {
    command.env("LC_ALL", "C").env("PATH", search_path());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let failed = |cause| Error::io("cannot start a tool that grows filesystems", cause);
    let mut child = ProcessGroup::spawn(command).map_err(failed)?;
    let output = child.child_mut().stdout.take();
    let reader = thread::spawn(move || {
        let mut said = Vec::new();
        if let Some(mut output) = output {
            let _ = output.by_ref().take(SAID_MAX_BYTES).read_to_end(&mut said);
            // It must not wait for somebody to listen.
            let _ = std::io::copy(&mut output, &mut std::io::sink());
        }
        said
    });
    let status = loop {
        match child.wait_at_most(Duration::from_millis(100)) {
            Some(status) => break status,
            None => task.checkpoint()?,
        }
    };
    let said = reader.join().unwrap_or_default();
    if status.code().is_some_and(|code| good.contains(&code)) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said);
    let last: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = last[last.len().saturating_sub(3)..].join("; ");
    Err(Error::new(ErrorKind::Io, format!("the tool ended with {status} and said: {last}")))
}

/// Where these tools are, also for somebody whose search path has no system folders.
fn search_path() -> String {
    let own = std::env::var("PATH").unwrap_or_default();
    format!("{own}:/usr/sbin:/usr/bin:/sbin:/bin")
}

fn is_there(tool: &str) -> bool {
    search_path().split(':').any(|folder| Path::new(folder).join(tool).is_file())
}
