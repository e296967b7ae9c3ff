//! Comparing two equal images.

use super::Bench;
use super::inputs::{LARGE_BYTES, copy, image_of_usr, read_once, require_room};
use super::rounds::{Contestant, medians, timed};
use super::table::{Goal, Row};
use testkit::host::tool;

const ROUNDS: usize = 7;

/// Two files with the same content, both in the page cache.
pub(super) fn equal_images(bench: &Bench) -> Result<Vec<Row>, String> {
    require_room(bench.disk.path(), LARGE_BYTES)?;
    let left = image_of_usr(bench)?;
    let right = bench.disk.join("equal.img");
    copy(&left, &right)?;
    read_once(&left)?;
    read_once(&right)?;
    let mut contestants = [
        Contestant::new("ours", || {
            let mut command = bench.program("compare");
            command.arg(&left).arg(&right);
            timed(&mut [command])
        }),
        Contestant::new("cmp", || {
            let mut command = tool("cmp");
            command.arg(&left).arg(&right);
            timed(&mut [command])
        }),
    ];
    let times = medians(bench.rounds.unwrap_or(ROUNDS), &mut contestants)?;
    drop(contestants);
    let _ = std::fs::remove_file(&right);
    Ok(vec![Row {
        job: "compare 2 GiB, equal".to_string(),
        ours: times[0].into(),
        peer: "cmp".to_string(),
        theirs: times[1].into(),
        goal: Goal::TimesAsFast(2.5),
    }])
}
