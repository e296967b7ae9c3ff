//! Indexes, chunk stores and extraction, beside casync.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::Bench;
use super::inputs::{copy, image_of_usr, read_once, require_room};
use super::rounds::{Contestant, medians, settle, timed, warm_memory};
use super::table::{Goal, Measure, Row};
use testkit::host::{tool, try_run};

const ROUNDS: usize = 5;
/// A store of the image, another of ours, and what is extracted.
const ROOM_BYTES: u64 = 6 << 30;
const MEMORY_MOST: Goal = Goal::Within(Measure::Bytes(96 << 20));

/// The image in memory, and a store that casync has filled.
struct Site {
    image: PathBuf,
    index: PathBuf,
    store: PathBuf,
}

impl Site {
    fn new(bench: &Bench) -> Result<Self, String> {
        require_room(bench.memory.path(), ROOM_BYTES)?;
        let site = Site {
            image: bench.memory.join("usr.img"),
            index: bench.memory.join("theirs.caibx"),
            store: bench.memory.join("theirs.castr"),
        };
        copy(&image_of_usr(bench)?, &site.image)?;
        read_once(&site.image)?;
        timed(&mut [site.casync_make(&site.index, &site.store)])?;
        Ok(site)
    }

    fn casync_make(&self, index: &Path, store: &Path) -> Command {
        let mut command = tool("casync");
        command.arg("make").arg(format!("--store={}", store.display())).arg(index).arg(&self.image);
        command
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.image);
        let _ = fs::remove_file(&self.index);
        let _ = fs::remove_dir_all(&self.store);
    }
}

fn make(bench: &Bench, index: &Path, image: &Path) -> Command {
    let mut command = bench.program("make");
    command.arg("--force").arg(index).arg(image);
    command
}

/// Index only, with the best kernels and with AVX2, against casync into a filled store: it has nothing cheaper.
pub(super) fn index(bench: &Bench) -> Result<Vec<Row>, String> {
    let site = Site::new(bench)?;
    let (ours, theirs) = (bench.memory.join("ours.caibx"), bench.memory.join("again.caibx"));
    let mut contestants = [
        Contestant::new("ours", || timed(&mut [make(bench, &ours, &site.image)])),
        Contestant::new("ours, AVX2", || {
            let mut command = make(bench, &ours, &site.image);
            command.env("BLOCKPRINT_KERNEL", "avx2");
            timed(&mut [command])
        }),
        Contestant::new("ours, one thread", || {
            let mut command = make(bench, &ours, &site.image);
            command.args(["--threads", "1"]);
            timed(&mut [command])
        }),
        Contestant::new("ours, filled store", || {
            let mut command = make(bench, &ours, &site.image);
            command.arg("--store").arg(&site.store);
            timed(&mut [command])
        }),
        Contestant::new("casync make", || timed(&mut [site.casync_make(&theirs, &site.store)])),
    ];
    let times = medians(bench.rounds.unwrap_or(ROUNDS), &mut contestants)?;
    drop(contestants);
    if fs::read(&ours).ok() != fs::read(&theirs).ok() {
        return Err("the indexes differ".to_string());
    }
    let row = |job: &str, ours: Duration, goal: Goal| Row {
        job: job.to_string(),
        ours: ours.into(),
        peer: "casync make, filled store".to_string(),
        theirs: times[4].into(),
        goal,
    };
    let rows = vec![
        row("index of 2 GiB", times[0], Goal::TimesAsFast(12.0)),
        row("index of 2 GiB, AVX2", times[1], Goal::TimesAsFast(5.0)),
        row("index of 2 GiB, one thread", times[2], Goal::None),
        row("make of 2 GiB, filled store", times[3], Goal::TimesAsFast(10.0)),
    ];
    let _ = (fs::remove_file(&ours), fs::remove_file(&theirs));
    Ok(rows)
}

/// A new store, its size, and the memory that it takes.
pub(super) fn make_new(bench: &Bench) -> Result<Vec<Row>, String> {
    let site = Site::new(bench)?;
    let ours = (bench.memory.join("ours.caibx"), bench.memory.join("ours.castr"));
    let theirs = (bench.memory.join("again.caibx"), bench.memory.join("again.castr"));
    let our_make = || {
        let mut command = make(bench, &ours.0, &site.image);
        command.arg("--store").arg(&ours.1);
        command
    };
    let mut contestants = [
        Contestant::new("ours", || {
            fresh(&ours.1)?;
            timed(&mut [our_make()])
        }),
        Contestant::new("casync make", || {
            fresh(&theirs.1)?;
            timed(&mut [site.casync_make(&theirs.0, &theirs.1)])
        }),
    ];
    let times = medians(bench.rounds.unwrap_or(ROUNDS), &mut contestants)?;
    drop(contestants);
    let sizes = [&ours.1, &theirs.1].map(|store| Measure::Bytes(bytes_below(store)));
    fresh(&ours.1)?;
    let memory =
        [our_make(), site.casync_make(&theirs.0, &theirs.1)].map(|command| peak_bytes(&command));
    let [our_memory, their_memory] = memory;
    let peer = "casync make".to_string();
    let job = "make of 2 GiB, new store";
    let rows = vec![
        Row {
            job: job.to_string(),
            ours: times[0].into(),
            peer: peer.clone(),
            theirs: times[1].into(),
            goal: Goal::TimesAsFast(3.5),
        },
        Row {
            job: format!("{job}: its size"),
            ours: sizes[0],
            peer: peer.clone(),
            theirs: sizes[1],
            goal: Goal::AtMostTimes(1.02),
        },
        Row {
            job: format!("{job}: peak memory"),
            ours: our_memory?,
            peer,
            theirs: their_memory?,
            goal: MEMORY_MOST,
        },
    ];
    for (index, store) in [&ours, &theirs] {
        let _ = (fs::remove_file(index), fs::remove_dir_all(store));
    }
    Ok(rows)
}

/// From a filled store to a new file.
pub(super) fn extract(bench: &Bench) -> Result<Vec<Row>, String> {
    let site = Site::new(bench)?;
    let target = bench.memory.join("extracted.img");
    let our_extract = || {
        let mut command = bench.program("extract");
        command.arg(&site.index).arg(&target).arg("--store").arg(&site.store);
        command
    };
    let their_extract = || {
        let mut command = tool("casync");
        let store = format!("--store={}", site.store.display());
        command.arg("extract").arg(store).arg(&site.index).arg(&target);
        command
    };
    let prepare = || {
        let _ = fs::remove_file(&target);
        settle()?;
        warm_memory(2 << 30)
    };
    let mut contestants = [
        Contestant::new("ours", || {
            prepare()?;
            timed(&mut [our_extract()])
        }),
        Contestant::new("casync extract", || {
            prepare()?;
            timed(&mut [their_extract()])
        }),
    ];
    let times = medians(bench.rounds.unwrap_or(ROUNDS), &mut contestants)?;
    drop(contestants);
    try_run(tool("cmp").arg(&site.image).arg(&target))?;
    prepare()?;
    let our_memory = peak_bytes(&our_extract())?;
    prepare()?;
    let their_memory = peak_bytes(&their_extract())?;
    let _ = fs::remove_file(&target);
    let peer = "casync extract".to_string();
    Ok(vec![
        Row {
            job: "extract of 2 GiB".to_string(),
            ours: times[0].into(),
            peer: peer.clone(),
            theirs: times[1].into(),
            goal: Goal::TimesAsFast(2.0),
        },
        Row {
            job: "extract of 2 GiB: peak memory".to_string(),
            ours: our_memory,
            peer,
            theirs: their_memory,
            goal: MEMORY_MOST,
        },
    ])
}

/// 1 TiB with 1 GiB of data in it costs what that 1 GiB costs by itself.
pub(super) fn sparse_index(bench: &Bench) -> Result<Vec<Row>, String> {
    require_room(bench.memory.path(), 3 << 30)?;
    let (sparse, dense) = (bench.memory.join("sparse.img"), bench.memory.join("dense.img"));
    let index = bench.memory.join("ours.caibx");
    scatter(&image_of_usr(bench)?, &sparse, &dense)?;
    let mut contestants = [
        Contestant::new("1 TiB", || timed(&mut [make(bench, &index, &sparse)])),
        Contestant::new("1 GiB", || timed(&mut [make(bench, &index, &dense)])),
    ];
    let times = medians(bench.rounds.unwrap_or(ROUNDS), &mut contestants)?;
    drop(contestants);
    for path in [&sparse, &dense, &index] {
        let _ = fs::remove_file(path);
    }
    Ok(vec![Row {
        job: "index of 1 TiB with 1 GiB of data".to_string(),
        ours: times[0].into(),
        peer: "ours, the 1 GiB alone".to_string(),
        theirs: times[1].into(),
        goal: Goal::AtMostTimes(1.5),
    }])
}

/// Writes 1 GiB of `source`, once in 16 places of a file of 1 TiB, once without holes.
fn scatter(source: &Path, sparse: &Path, dense: &Path) -> Result<(), String> {
    let work = || {
        let source = File::open(source)?;
        let (sparse, dense) = (File::create(sparse)?, File::create(dense)?);
        sparse.set_len(1 << 40)?;
        let mut piece = vec![0; 1 << 20];
        for number in 0..1024u64 {
            source.read_exact_at(&mut piece, number << 20)?;
            dense.write_all_at(&piece, number << 20)?;
            let (place, within) = (number / 64, number % 64);
            sparse.write_all_at(&piece, place * (1 << 36) + (within << 20))?;
        }
        Ok(())
    };
    work().map_err(|cause: std::io::Error| format!("cannot make a file of 1 TiB: {cause}"))
}

/// Removes a store, and warms the memory that the next one takes.
fn fresh(store: &Path) -> Result<(), String> {
    let _ = fs::remove_dir_all(store);
    settle()?;
    warm_memory(2 << 30)
}

/// The bytes of all files below `folder`.
fn bytes_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
            Ok(metadata) => metadata.size(),
            Err(_) => 0,
        })
        .sum()
}

/// The most memory that a command has resident.
fn peak_bytes(command: &Command) -> Result<Measure, String> {
    let mut timed = tool("time");
    timed.args(["-q", "-f", "%M"]).arg(command.get_program()).args(command.get_args());
    let output = timed.output().map_err(|cause| format!("cannot start time: {cause}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let kilobytes = text.lines().last().and_then(|line| line.trim().parse::<u64>().ok());
    match kilobytes {
        Some(kilobytes) if output.status.success() => Ok(Measure::Bytes(kilobytes * 1024)),
        _ => Err(format!("{command:?} failed: {text}")),
    }
}
