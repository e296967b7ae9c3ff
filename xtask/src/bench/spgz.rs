//! Containers made of an image, beside gzip on one core.

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use super::Bench;
use super::inputs::{copy, image_of_usr, read_once, require_room};
use super::rounds::{Contestant, medians, settle, timed, warm_memory};
use super::sync::shell;
use super::table::{Goal, Measure, Row};

/// gzip takes a minute for each.
const ROUNDS: usize = 2;
const ROOM_BYTES: u64 = 5 << 30;
/// A slot of a container with blocks of the usual length, in bytes.
const SLOT_BYTES: usize = 131_072;
/// As large as the program makes them.
const LARGE_BLOCKS: [&str; 2] = ["--block-size", "1M"];

/// With the usual blocks, and with large ones, which leave less of their last page empty.
pub(super) fn pack(bench: &Bench) -> Result<Vec<Row>, String> {
    require_room(bench.memory.path(), ROOM_BYTES)?;
    let image = bench.memory.join("usr.img");
    copy(&image_of_usr(bench)?, &image)?;
    read_once(&image)?;
    let [usual, large, zipped] =
        ["usual.spgz", "large.spgz", "usr.gz"].map(|name| bench.memory.join(name));
    let prepare = |path: &Path| {
        let _ = fs::remove_file(path);
        settle()?;
        warm_memory(1 << 30)
    };
    let pack = |options: &[&str], container: &Path| -> Command {
        let mut command = bench.program("copy");
        command.args(options).arg(&image).arg(container);
        command
    };
    let mut contestants = [
        Contestant::new("ours", || {
            prepare(&usual)?;
            timed(&mut [pack(&[], &usual)])
        }),
        Contestant::new("ours, blocks of 1 MiB", || {
            prepare(&large)?;
            timed(&mut [pack(&LARGE_BLOCKS, &large)])
        }),
        Contestant::new("gzip -6", || {
            prepare(&zipped)?;
            let (image, zipped) = (image.display(), zipped.display());
            timed(&mut [shell(&format!("taskset -c 0 gzip -6 -c {image} > {zipped}"))])
        }),
    ];
    let times = medians(bench.rounds.unwrap_or(ROUNDS), &mut contestants)?;
    drop(contestants);
    let sizes = || {
        let pages = |path: &Path| fs::metadata(path).map(|metadata| metadata.blocks() * 512);
        let bytes = [bytes_in_slots(&usual)?, pages(&usual)?, pages(&large)?];
        Ok((bytes, fs::metadata(&zipped)?.len()))
    };
    let sizes = sizes().map_err(|cause: io::Error| format!("cannot look at the sizes: {cause}"));
    let (bytes, their_bytes) = sizes?;
    for path in [&image, &usual, &large, &zipped] {
        let _ = fs::remove_file(path);
    }
    let row = |job: &str, ours: Measure, theirs: Measure, goal: Goal| Row {
        job: format!("copy of 2 GiB to spgz{job}"),
        ours,
        peer: "gzip -6, one core".to_string(),
        theirs,
        goal,
    };
    let (faster, as_small) = (Goal::TimesAsFast(3.0), Goal::AtMostTimes(1.03));
    let their_size = Measure::Bytes(their_bytes);
    let [packed, usual_pages, large_pages] = bytes.map(Measure::Bytes);
    Ok(vec![
        row("", times[0].into(), times[2].into(), faster),
        row(": its bytes", packed, their_size, as_small),
        row(": in whole pages", usual_pages, their_size, as_small),
        row(", blocks of 1 MiB", times[1].into(), times[2].into(), faster),
        row(", blocks of 1 MiB: in whole pages", large_pages, their_size, as_small),
    ])
}

/// The bytes that a new container holds: those of each slot up to the last that is not zero.
fn bytes_in_slots(container: &Path) -> io::Result<u64> {
    let file = fs::File::open(container)?;
    let len = file.metadata()?.len();
    let mut slot = vec![0; SLOT_BYTES];
    let mut sum = 0;
    for start in (4096..len).step_by(SLOT_BYTES) {
        let slot = &mut slot[..SLOT_BYTES.min((len - start) as usize)];
        file.read_exact_at(slot, start)?;
        sum += slot.iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u64 + 1);
    }
    Ok(sum)
}
