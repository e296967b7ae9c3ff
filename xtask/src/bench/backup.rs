//! Backups of a partition and back, beside partclone with a compressor behind it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use testkit::host::{LoopDevice, LoopOptions, Needs, try_run};

use super::Bench;
use super::inputs::{copy, image_of_usr, read_once, require_room};
use super::rounds::{Contestant, medians, settle, timed, warm_memory};
use super::sync::shell;
use super::table::{Goal, Measure, Row};
use crate::workspace::Workspace;

/// Partclone with pigz takes half a minute for each.
const ROUNDS: usize = 2;
/// The partition, two images of it by us and two by the others, and one that is being made.
const ROOM_BYTES: u64 = 6 << 30;
const READS: usize = 100;
const TOOLS: [&str; 5] = ["partclone.ext4", "pigz", "gzip", "zstd", "losetup"];

/// One way to compress, and what it is held against.
struct Way {
    compression: &'static str,
    /// What stands behind partclone.
    packer: &'static str,
    unpacker: &'static str,
    faster: Goal,
}

const WAYS: [Way; 2] = [
    Way {
        compression: "gz",
        packer: "pigz -1 -c",
        unpacker: "gzip -dc",
        faster: Goal::TimesAsFast(4.0),
    },
    Way {
        compression: "zst",
        packer: "zstd -q -T0 -c",
        unpacker: "zstd -q -dc",
        faster: Goal::TimesAsFast(2.5),
    },
];

/// An ext4 filesystem of 2 GiB, nearly full of files of `/usr`, on a loop device.
pub(super) fn partition(bench: &Bench) -> Result<Vec<Row>, String> {
    let missing = Needs::root().tools(&TOOLS).missing();
    if !missing.is_empty() {
        return Err(format!("missing: {}", missing.join(", ")));
    }
    require_room(bench.memory.path(), ROOM_BYTES)?;
    let reader = Workspace::load()?.build_example("blockprint-formats", "random_reads")?;
    let file = bench.memory.join("usr.img");
    copy(&image_of_usr(bench)?, &file)?;
    read_once(&file)?;
    let device = LoopDevice::attach(&file, &LoopOptions::default());
    let case = Case { bench, device: device.path(), reader };
    let mut rows = Vec::new();
    for way in &WAYS {
        rows.extend(case.make(way)?);
        rows.extend(case.read(way)?);
    }
    rows.push(case.restore()?);
    for way in &WAYS {
        let _ = fs::remove_file(case.theirs(way));
        let _ = fs::remove_dir_all(case.folder(way));
    }
    drop(device);
    let _ = fs::remove_file(&file);
    Ok(rows)
}

struct Case<'a> {
    bench: &'a Bench,
    device: &'a Path,
    reader: PathBuf,
}

impl Case<'_> {
    /// The folder that our image is made in.
    fn folder(&self, way: &Way) -> PathBuf {
        self.bench.memory.join(way.compression)
    }

    /// Our image, the only one in its folder.
    fn ours(&self, way: &Way) -> Result<PathBuf, String> {
        let folder = self.folder(way);
        let entries = fs::read_dir(&folder).map_err(|cause| cause.to_string())?;
        let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        paths.next().ok_or_else(|| format!("there is no image in {}", folder.display()))
    }

    /// The image that the others make.
    fn theirs(&self, way: &Way) -> PathBuf {
        self.bench.memory.join(format!("theirs.{}", way.compression))
    }

    fn log(&self) -> PathBuf {
        self.bench.memory.join("partclone.log")
    }

    /// Backups: how long they take, and how large they are.
    fn make(&self, way: &Way) -> Result<Vec<Row>, String> {
        let (folder, theirs) = (self.folder(way), self.theirs(way));
        let (log, device) = (self.log(), self.device);
        let line = format!(
            "partclone.ext4 -L {} -c -s {} | {} > {}",
            log.display(),
            device.display(),
            way.packer,
            theirs.display()
        );
        let mut contestants = [
            Contestant::new("ours", || {
                let _ = fs::remove_dir_all(&folder);
                fs::create_dir(&folder).map_err(|cause| cause.to_string())?;
                settle()?;
                warm_memory(1 << 30)?;
                let mut command = self.bench.program("backup");
                command.args(["--compression", way.compression]).arg(device).arg(&folder);
                timed(&mut [command])
            }),
            Contestant::new(way.packer, || {
                let _ = fs::remove_file(&theirs);
                settle()?;
                warm_memory(1 << 30)?;
                timed(&mut [shell(&line)])
            }),
        ];
        let times = medians(self.bench.rounds.unwrap_or(ROUNDS), &mut contestants)?;
        drop(contestants);
        let size = |path: &Path| {
            let metadata = fs::metadata(path).map_err(|cause| cause.to_string())?;
            Ok::<_, String>(Measure::Bytes(metadata.len()))
        };
        let row = |job: &str, ours: Measure, theirs: Measure, goal: Goal| Row {
            job: format!("backup of ext4 to {}{job}", way.compression),
            ours,
            peer: format!("partclone.ext4 | {}", way.packer),
            theirs,
            goal,
        };
        let (our_size, their_size) = (size(&self.ours(way)?)?, size(&theirs)?);
        Ok(vec![
            row("", times[0].into(), times[1].into(), way.faster),
            row(": its bytes", our_size, their_size, Goal::AtMostTimes(1.0)),
        ])
    }

    /// Random parts of our image beside all of it by the compression's own tool.
    fn read(&self, way: &Way) -> Result<Vec<Row>, String> {
        let image = self.ours(way)?;
        read_once(&image)?;
        let line = format!("{} {} > /dev/null", way.unpacker, image.display());
        let mut contestants = [
            Contestant::new("ours", || {
                let mut command = Command::new(&self.reader);
                let output = try_run(command.arg(&image).arg(READS.to_string()))?;
                let nanoseconds =
                    output.trim().parse().map_err(|_| format!("not a time: {output}"))?;
                Ok(Duration::from_nanos(nanoseconds))
            }),
            Contestant::new(way.unpacker, || timed(&mut [shell(&line)])),
        ];
        let times = medians(self.bench.rounds.unwrap_or(ROUNDS), &mut contestants)?;
        Ok(vec![Row {
            job: format!("{READS} random MiB out of a backup with {}", way.compression),
            ours: times[0].into(),
            peer: format!("{}, all of it", way.unpacker),
            theirs: times[1].into(),
            goal: Goal::AtMostTimes(0.01),
        }])
    }

    /// Each restores its own image with gzip.
    fn restore(&self) -> Result<Row, String> {
        let [way, _] = &WAYS;
        let (ours, theirs) = (self.ours(way)?, self.theirs(way));
        let line = format!(
            "pigz -dc {} | partclone.ext4 -L {} -r -o {}",
            theirs.display(),
            self.log().display(),
            self.device.display()
        );
        let mut contestants = [
            Contestant::new("ours", || {
                settle()?;
                let mut command = self.bench.program("restore");
                command.arg("--yes").arg(&ours).arg(self.device);
                timed(&mut [command])
            }),
            Contestant::new("pigz | partclone", || {
                settle()?;
                timed(&mut [shell(&line)])
            }),
        ];
        let times = medians(self.bench.rounds.unwrap_or(ROUNDS), &mut contestants)?;
        Ok(Row {
            job: "restore of ext4 from gz".to_string(),
            ours: times[0].into(),
            peer: "pigz -dc | partclone.ext4 -r".to_string(),
            theirs: times[1].into(),
            goal: Goal::TimesAsFast(2.0),
        })
    }
}
