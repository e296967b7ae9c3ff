//! How long a filesystem stands still while the fragmented image below it is cloned.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::Bench;
use super::clone::make_room;
use super::inputs::require_room;
use super::rounds::{Contestant, median, medians, timed};
use super::table::{Goal, Row};
use crate::units;
use testkit::host::{Filesystem, Load, Needs, Program, Writer, make_image, tool, try_run};

const ROUNDS: usize = 5;
const IMAGE_BYTES: u64 = 1 << 30;
const EXTENTS_MIN: u64 = 100_000;
const BLOCK_BYTES: u64 = 4096;

/// An ext4 image of 100,000 extents on XFS, mounted, with a writer. The peer is the one call that does nothing but
/// clone, on the same image, while nobody writes.
pub(super) fn fragmented_image(bench: &Bench) -> Result<Vec<Row>, String> {
    let missing = Needs::root().filesystems(&["xfs", "ext4"]).tools(&["filefrag"]).missing();
    if !missing.is_empty() {
        return Err(missing.join(", "));
    }
    require_room(bench.disk.path(), 4 * IMAGE_BYTES)?;
    let outer = Filesystem::xfs(8 * IMAGE_BYTES);
    let image = outer.path().join("disk.img");
    let extents = make_fragmented(&image)?;
    let inner = Filesystem::mount(&image);
    let (ours, theirs) = (outer.path().join("ours.img"), outer.path().join("theirs.img"));
    let mut pauses = Vec::new();
    let mut elapsed = Vec::new();
    let mut contestants = [
        Contestant::new("ours", || {
            make_room(&ours)?;
            let clone = clone_in_use(bench, &image, &ours, inner.path())?;
            pauses.push(clone.pause);
            elapsed.push(clone.elapsed);
            Ok(clone.frozen)
        }),
        Contestant::new("cp", || {
            make_room(&theirs)?;
            let mut command = tool("cp");
            command.arg("--reflink=always").arg(&image).arg(&theirs);
            timed(&mut [command])
        }),
    ];
    let times = medians(bench.rounds.unwrap_or(ROUNDS), &mut contestants)?;
    drop(contestants);
    let row = |job: String, ours: Duration, goal: Goal| Row {
        job,
        ours: ours.into(),
        peer: "cp --reflink=always, idle".to_string(),
        theirs: times[1].into(),
        goal,
    };
    Ok(vec![
        row(format!("frozen, {extents} extents in use, XFS"), times[0], Goal::AtMostTimes(0.2)),
        row("  longest pause that the writer saw".to_string(), median(pauses), Goal::None),
        row("  whole clone".to_string(), median(elapsed), Goal::None),
    ])
}

struct Clone {
    frozen: Duration,
    pause: Duration,
    elapsed: Duration,
}

fn clone_in_use(
    bench: &Bench,
    image: &Path,
    target: &Path,
    inside: &Path,
) -> Result<Clone, String> {
    let folder = inside.join("writer");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).map_err(|cause| cause.to_string())?;
    let load = Load { churn_blocks: 1024, ..Load::default() };
    let writer = Writer::start(&folder, &load);
    let start = Instant::now();
    let program = Program::new(&bench.program).args(["clone", "--json", "--freeze-timeout", "60s"]);
    let outcome = program.arg(image).arg(target).run();
    let pause = writer.longest_pause(start).length;
    writer.stop()?;
    try_run(tool("sync").arg("--file-system").arg(inside))?;
    if !outcome.status.success() {
        return Err(outcome.to_string());
    }
    let frozen_ms = outcome.result()["frozen_ms"].as_f64();
    let frozen_ms = frozen_ms.ok_or_else(|| format!("nothing was frozen:\n{outcome}"))?;
    let frozen = Duration::from_secs_f64(frozen_ms / 1e3);
    Ok(Clone { frozen, pause, elapsed: outcome.elapsed })
}

/// Makes an ext4 image that lies in more than [`EXTENTS_MIN`] pieces, and gives their number.
fn make_fragmented(image: &Path) -> Result<u64, String> {
    make_image("ext4", image, IMAGE_BYTES);
    let inner = Filesystem::mount(image);
    let filled = fill(&inner.path().join("fill"), IMAGE_BYTES / 100 * 85);
    filled.map_err(|cause| format!("cannot fill the image: {cause}"))?;
    drop(inner);
    let base = image.with_extension("base");
    try_run(tool("cp").arg("--reflink=always").arg(image).arg(&base))?;
    rewrite_every_second_block(image, EXTENTS_MIN * 11 / 20)
        .map_err(|cause| format!("cannot rewrite the image: {cause}"))?;
    fs::remove_file(&base).map_err(|cause| cause.to_string())?;
    let extents = extents(image)?;
    if extents < EXTENTS_MIN {
        return Err(format!("the image has only {extents} extents"));
    }
    eprintln!("the image of {} lies in {extents} extents", units::size(IMAGE_BYTES));
    Ok(extents)
}

fn fill(path: &Path, size_bytes: u64) -> io::Result<()> {
    let file = File::create(path)?;
    let mut block = vec![0x5A; 1 << 20];
    for index in 0..size_bytes >> 20 {
        block[..8].copy_from_slice(&index.to_le_bytes());
        file.write_all_at(&block, index << 20)?;
    }
    file.sync_all()
}

/// Writes blocks as they are. They are shared with another file, so each gets a new place, between two that stay.
fn rewrite_every_second_block(image: &Path, count: u64) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(image)?;
    let blocks = file.metadata()?.len() / BLOCK_BYTES;
    let mut block = [0; BLOCK_BYTES as usize];
    let stride = (blocks / count).next_multiple_of(2).max(2);
    for index in (0..blocks).step_by(stride as usize) {
        file.read_exact_at(&mut block, index * BLOCK_BYTES)?;
        file.write_all_at(&block, index * BLOCK_BYTES)?;
    }
    file.sync_all()
}

fn extents(path: &Path) -> Result<u64, String> {
    let output = try_run(tool("filefrag").arg(path))?;
    let count = output.rsplit(": ").next().and_then(|rest| rest.split(' ').next()?.parse().ok());
    count.ok_or_else(|| format!("filefrag said {output}"))
}
