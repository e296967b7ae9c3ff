//! Copying an ext4 image full of files: in memory, where nothing waits for a disk, and on a disk.

use std::fs;
use std::path::Path;
use std::process::Command;

use testkit::host::{Filesystem, Needs, tool};

use super::inputs::{LARGE_BYTES, copy, image_of_usr, read_once, require_room};
use super::rounds::{Contestant, medians, settle, timed, warm_memory};
use super::table::{Goal, Row};
use super::{Bench, kind_of_filesystem};

const ROUNDS: usize = 7;
const FASTER_THAN_CP: Goal = Goal::TimesAsFast(1.2);
const FASTER_THAN_QEMU: Goal = Goal::TimesAsFast(5.0);

/// Both sides on a tmpfs.
pub(super) fn in_memory(bench: &Bench) -> Result<Vec<Row>, String> {
    let folder = bench.memory.path();
    require_room(folder, 2 * LARGE_BYTES + (64 << 20))?;
    let source = folder.join("source.img");
    copy(&image_of_usr(bench)?, &source)?;
    let contest = Contest { bench, source: &source, folder, peers: &[Peer::Cp, Peer::Qemu] };
    let rows = contest.run("copy 2 GiB, tmpfs");
    let _ = fs::remove_file(source);
    rows
}

/// Both sides on a disk. We flush before the copy gets its name; of the peers each is shown as it is, and with
/// the flush after it that makes its copy as durable as ours.
pub(super) fn on_disk(bench: &Bench) -> Result<Vec<Row>, String> {
    let folder = bench.disk.path();
    require_room(folder, 2 * LARGE_BYTES)?;
    let source = image_of_usr(bench)?;
    read_once(&source)?;
    let peers = [Peer::Cp, Peer::CpAndSync, Peer::Qemu, Peer::QemuAndSync];
    let kind = kind_of_filesystem(folder);
    let contest = Contest { bench, source: &source, folder, peers: &peers };
    contest.run(&format!("copy 2 GiB, {kind}, flushed"))
}

/// Both sides on one filesystem with reflinks, where the copy shares blocks. So does `cp`, unless it is told not to.
pub(super) fn within_xfs(bench: &Bench) -> Result<Vec<Row>, String> {
    let missing = Needs::root().filesystems(&["xfs"]).missing();
    if !missing.is_empty() {
        return Err(missing.join(", "));
    }
    require_room(bench.disk.path(), 3 * LARGE_BYTES)?;
    let filesystem = Filesystem::xfs(3 * LARGE_BYTES);
    let source = filesystem.path().join("source.img");
    copy(&image_of_usr(bench)?, &source)?;
    read_once(&source)?;
    let peers = [Peer::SharingCp, Peer::WritingCp, Peer::Qemu];
    let contest = Contest { bench, source: &source, folder: filesystem.path(), peers: &peers };
    contest.run("copy 2 GiB within XFS, flushed")
}

struct Contest<'a> {
    bench: &'a Bench,
    source: &'a Path,
    folder: &'a Path,
    peers: &'a [Peer],
}

#[derive(Clone, Copy, Debug)]
enum Peer {
    Cp,
    CpAndSync,
    SharingCp,
    WritingCp,
    Qemu,
    QemuAndSync,
}

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Peer::Cp => "cp --sparse=always",
            Peer::CpAndSync => "cp --sparse=always; sync FILE",
            Peer::SharingCp => "cp --sparse=always (shares too)",
            Peer::WritingCp => "cp --sparse=always --reflink=never",
            Peer::Qemu => "qemu-img convert",
            Peer::QemuAndSync => "qemu-img convert; sync FILE",
        }
    }

    fn goal(self) -> Goal {
        match self {
            Peer::Cp | Peer::CpAndSync | Peer::WritingCp => FASTER_THAN_CP,
            // Both are one call of the kernel; ours flushes.
            Peer::SharingCp => Goal::None,
            Peer::Qemu | Peer::QemuAndSync => FASTER_THAN_QEMU,
        }
    }

    fn commands(self, source: &Path, target: &Path) -> Vec<Command> {
        let mut command = match self {
            Peer::Qemu | Peer::QemuAndSync => tool("qemu-img"),
            _ => tool("cp"),
        };
        match self {
            Peer::Cp | Peer::CpAndSync | Peer::SharingCp => command.arg("--sparse=always"),
            Peer::WritingCp => command.args(["--sparse=always", "--reflink=never"]),
            Peer::Qemu | Peer::QemuAndSync => command.args(["convert", "-f", "raw", "-O", "raw"]),
        };
        command.arg(source).arg(target);
        let mut commands = vec![command];
        if matches!(self, Peer::CpAndSync | Peer::QemuAndSync) {
            let mut sync = tool("sync");
            sync.arg(target);
            commands.push(sync);
        }
        commands
    }
}

impl Contest<'_> {
    fn run(&self, job: &str) -> Result<Vec<Row>, String> {
        let target = self.folder.join("target.img");
        let ours = || {
            let mut command = self.bench.program("copy");
            command.arg(self.source).arg(&target);
            vec![command]
        };
        let mut contestants = vec![contestant("ours", &target, ours)];
        for peer in self.peers {
            let theirs = || peer.commands(self.source, &target);
            contestants.push(contestant(peer.name(), &target, theirs));
        }
        let times = medians(self.bench.rounds.unwrap_or(ROUNDS), &mut contestants)?;
        let _ = fs::remove_file(&target);
        let rows = self.peers.iter().zip(&times[1..]).map(|(peer, theirs)| Row {
            job: job.to_string(),
            ours: times[0].into(),
            peer: peer.name().to_string(),
            theirs: (*theirs).into(),
            goal: peer.goal(),
        });
        Ok(rows.collect())
    }
}

/// Each run writes a new file, into memory that is warm, while nothing else is written.
fn contestant<'a>(
    name: &'static str,
    target: &'a Path,
    commands: impl Fn() -> Vec<Command> + 'a,
) -> Contestant<'a> {
    Contestant::new(name, move || {
        let _ = fs::remove_file(target);
        settle()?;
        warm_memory(LARGE_BYTES)?;
        timed(&mut commands())
    })
}
