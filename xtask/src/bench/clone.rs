//! Cloning a file that nobody uses, on a filesystem with reflinks.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::Bench;
use super::inputs::{LARGE_BYTES, copy, image_of_usr, require_room};
use super::rounds::{Contestant, medians, timed};
use super::table::{Goal, Row};
use testkit::host::{Filesystem, Needs, tool, try_run};

const ROUNDS: usize = 21;

/// A 2 GiB image on XFS.
pub(super) fn idle_file(bench: &Bench) -> Result<Vec<Row>, String> {
    let missing = Needs::root().filesystems(&["xfs"]).missing();
    if !missing.is_empty() {
        return Err(missing.join(", "));
    }
    require_room(bench.disk.path(), 2 * LARGE_BYTES)?;
    let filesystem = Filesystem::xfs(3 * LARGE_BYTES);
    let source = filesystem.path().join("source.img");
    copy(&image_of_usr(bench)?, &source)?;
    let (ours, theirs) = (filesystem.path().join("ours.img"), filesystem.path().join("theirs.img"));
    let mut contestants = [
        Contestant::new("ours", || {
            make_room(&ours)?;
            let mut command = bench.program("clone");
            command.arg(&source).arg(&ours);
            timed(&mut [command])
        }),
        Contestant::new("cp", || {
            make_room(&theirs)?;
            let mut command = tool("cp");
            command.arg("--reflink=always").arg(&source).arg(&theirs);
            timed(&mut [command])
        }),
        Contestant::new("cp and sync", || {
            make_room(&theirs)?;
            let mut command = tool("cp");
            command.arg("--reflink=always").arg(&source).arg(&theirs);
            let mut sync = tool("sync");
            sync.arg(&theirs);
            timed(&mut [command, sync])
        }),
    ];
    let times = medians(bench.rounds.unwrap_or(ROUNDS), &mut contestants)?;
    // Ours flushes the clone before it reports success; of the peer both are shown.
    let row = |peer: &str, theirs: Duration| Row {
        job: "clone 2 GiB, idle, XFS, flushed".to_string(),
        ours: times[0].into(),
        peer: peer.to_string(),
        theirs: theirs.into(),
        goal: Goal::AtMostTimes(1.2),
    };
    Ok(vec![row("cp --reflink=always", times[1]), row("cp --reflink=always; sync FILE", times[2])])
}

/// Removes a clone and lets the filesystem finish with it, which it does in the background.
pub(super) fn make_room(clone: &Path) -> Result<(), String> {
    let _ = fs::remove_file(clone);
    let folder = clone.parent().unwrap_or(clone);
    // A freeze waits for the background work on deleted files; a sync does not.
    try_run(tool("fsfreeze").arg("--freeze").arg(folder))?;
    try_run(tool("fsfreeze").arg("--unfreeze").arg(folder)).map(drop)
}
