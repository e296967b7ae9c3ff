//! Making one image like another, here and over a pipe, beside what compares or hashes as much.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::Bench;
use super::inputs::{LARGE_BYTES, copy, image_of_usr, read_once, require_room};
use super::rounds::{Contestant, medians, settle, timed};
use super::table::{Goal, Measure, Row};
use testkit::host::{SshStandIn, TempDir, tool, try_run};

const ROUNDS: usize = 5;

/// Two files with the same content, both in the page cache, and what stands in for ssh.
struct Site {
    left: PathBuf,
    right: PathBuf,
    ssh: SshStandIn,
}

impl Site {
    fn new(bench: &Bench) -> Result<Self, String> {
        require_room(bench.disk.path(), LARGE_BYTES)?;
        let (left, right) = (image_of_usr(bench)?, bench.disk.join("equal.img"));
        copy(&left, &right)?;
        settle()?;
        read_once(&left)?;
        read_once(&right)?;
        Ok(Site { left, right, ssh: SshStandIn::direct() })
    }

    /// A sync with an end that is called through the stand-in.
    fn over_pipe(&self, bench: &Bench) -> Command {
        let mut command = bench.program("sync");
        command.env("PATH", self.ssh.search_path(&[]));
        command.args(["--protocol", "native", "--remote-command"]).arg(&bench.program);
        command.arg(&self.left).arg(format!("here:{}", self.right.display()));
        command
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.right);
    }
}

/// Both images on this machine, equal: nothing is hashed.
pub(super) fn local(bench: &Bench) -> Result<Vec<Row>, String> {
    let site = Site::new(bench)?;
    let with_both = |mut command: Command| {
        command.arg(&site.left).arg(&site.right);
        timed(&mut [command])
    };
    let mut contestants = [
        Contestant::new("ours", || with_both(bench.program("sync"))),
        Contestant::new("cmp", || with_both(tool("cmp"))),
        Contestant::new("rsync", || {
            let mut command = tool("rsync");
            command.args(["--inplace", "--no-whole-file", "--checksum"]);
            with_both(command)
        }),
    ];
    let times = medians(bench.rounds.unwrap_or(ROUNDS), &mut contestants)?;
    drop(contestants);
    let row = |peer: &str, theirs: Duration, goal: Goal| Row {
        job: "sync of 2 GiB, equal, here".to_string(),
        ours: times[0].into(),
        peer: peer.to_string(),
        theirs: theirs.into(),
        goal,
    };
    Ok(vec![
        row("cmp", times[1], Goal::TimesAsFast(2.5)),
        row("rsync --inplace --no-whole-file --checksum", times[2], Goal::None),
    ])
}

/// One end called over a pipe, both hashing, beside two that do nothing but read and hash, each on a core.
pub(super) fn over_pipe(bench: &Bench) -> Result<Vec<Row>, String> {
    let site = Site::new(bench)?;
    let hash = |path: &Path| {
        let path = path.display();
        format!("b3sum --no-mmap --num-threads 1 {path}")
    };
    let both = format!("{} & {}; wait", hash(&site.left), hash(&site.right));
    let mut contestants = [
        Contestant::new("ours", || timed(&mut [site.over_pipe(bench)])),
        Contestant::new("b3sum", || timed(&mut [shell(&both)])),
    ];
    let times = medians(bench.rounds.unwrap_or(ROUNDS), &mut contestants)?;
    drop(contestants);
    Ok(vec![Row {
        job: "sync of 2 GiB, equal, over a pipe".to_string(),
        ours: times[0].into(),
        peer: "b3sum of both, one core each".to_string(),
        theirs: times[1].into(),
        goal: Goal::AtMostTimes(1.5),
    }])
}

/// Each end of diskrsync's protocol on one core: its tree is all that it has to do for equal images.
pub(super) fn diskrsync_tree(bench: &Bench) -> Result<Vec<Row>, String> {
    let site = Site::new(bench)?;
    let folder = TempDir::below(bench.memory.path(), "diskrsync");
    let program = folder.join("diskrsync");
    std::os::unix::fs::symlink(&bench.program, &program).map_err(|cause| cause.to_string())?;
    let (from_source, from_target) = (folder.join("s2t"), folder.join("t2s"));
    // A header, and that the roots are equal.
    let mut words = b"BSNC0002".to_vec();
    words.extend(LARGE_BYTES.to_le_bytes());
    words.push(2);
    fs::write(&from_source, words).map_err(|cause| cause.to_string())?;
    let end = |role: &str, image: &Path, input: &Path, output: &str| {
        let (program, image, input) = (program.display(), image.display(), input.display());
        shell(&format!("taskset -c 0 {program} {role} {image} < {input} > {output}"))
    };
    let size = fs::metadata(&site.left).map_err(|cause| cause.to_string())?.size();
    if size != LARGE_BYTES {
        return Err(format!("the image has {size} bytes"));
    }
    let recorded = from_target.display().to_string();
    try_run(&mut end("--target", &site.right, &from_source, &recorded))?;
    let mut contestants = [
        Contestant::new("source", || {
            timed(&mut [end("--source", &site.left, &from_target, "/dev/null")])
        }),
        Contestant::new("target", || {
            timed(&mut [end("--target", &site.right, &from_source, "/dev/null")])
        }),
        Contestant::new("b2sum", || {
            timed(&mut [shell(&format!("taskset -c 0 b2sum {}", site.left.display()))])
        }),
    ];
    let times = medians(bench.rounds.unwrap_or(ROUNDS), &mut contestants)?;
    drop(contestants);
    // 2 GB a second.
    let most = Goal::Within(Measure::Time(Duration::from_secs_f64(LARGE_BYTES as f64 / 2e9)));
    let row = |job: &str, ours: Duration| Row {
        job: job.to_string(),
        ours: ours.into(),
        peer: "b2sum".to_string(),
        theirs: times[2].into(),
        goal: most,
    };
    Ok(vec![
        row("diskrsync --source, 2 GiB, equal, one core", times[0]),
        row("diskrsync --target, 2 GiB, equal, one core", times[1]),
    ])
}

/// A line for the shell.
pub(super) fn shell(line: &str) -> Command {
    let mut command = tool("sh");
    command.args(["-c", line]);
    command
}
