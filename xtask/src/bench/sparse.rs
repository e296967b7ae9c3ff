//! Copying a huge file with almost nothing in it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use super::Bench;
use super::rounds::{Contestant, medians, settle, timed};
use super::table::{Goal, Row};
use testkit::host::tool;

const ROUNDS: usize = 7;
const SIZE_BYTES: u64 = 1 << 40;
const PIECES: u64 = 16;
const PIECE_BYTES: usize = 64 << 10;

/// 1 TiB with 1 MiB of data in it, in memory and on a disk.
pub(super) fn almost_empty_file(bench: &Bench) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for (place, folder) in [("tmpfs", bench.memory.path()), ("disk", bench.disk.path())] {
        let (source, target) = (folder.join("sparse.img"), folder.join("target.img"));
        make(&source).map_err(|cause| format!("cannot make a file of 1 TiB: {cause}"))?;
        let mut contestants = [
            Contestant::new("ours", || {
                let _ = fs::remove_file(&target);
                settle()?;
                let mut command = bench.program("copy");
                command.arg(&source).arg(&target);
                timed(&mut [command])
            }),
            Contestant::new("cp", || {
                let _ = fs::remove_file(&target);
                settle()?;
                let mut command = tool("cp");
                command.arg("--sparse=always").arg(&source).arg(&target);
                timed(&mut [command])
            }),
        ];
        let times = medians(bench.rounds.unwrap_or(ROUNDS), &mut contestants)?;
        drop(contestants);
        rows.push(Row {
            job: format!("copy 1 TiB with 1 MiB data, {place}"),
            ours: times[0].into(),
            peer: "cp --sparse=always".to_string(),
            theirs: times[1].into(),
            goal: Goal::Within(Duration::from_secs(1).into()),
        });
        let _ = fs::remove_file(&source);
        let _ = fs::remove_file(&target);
    }
    Ok(rows)
}

fn make(path: &Path) -> io::Result<()> {
    let file = File::create(path)?;
    file.set_len(SIZE_BYTES)?;
    for piece in 0..PIECES {
        file.write_all_at(&vec![0xDA; PIECE_BYTES], SIZE_BYTES / PIECES * piece)?;
    }
    file.sync_all()
}
