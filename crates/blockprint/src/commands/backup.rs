//! `blockprint backup`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use engine::jobs::Jobs;
use engine::ops::backup::{self, BackupPlan, BackupReport, BackupRequest};
use engine::ops::disk;
use engine::partitions::Compression;
use engine::{Error, Result, Task};

use crate::args::{BackupArgs, Common, CompressionArg};
use crate::render::{Face, Report, Wanted, json, text};
use crate::{debug, journal};

pub(super) fn run(args: BackupArgs, common: &Common, face: &Face) -> Result<ExitCode> {
    if disk::has_table(&args.source)? {
        return super::disk::backup(args, common, face);
    }
    let request = BackupRequest {
        source: args.source,
        folder: args.folder,
        name: args.name,
        compression: args.compression.into(),
        level: args.level,
        verify: args.verify,
        filesystem: None,
        partclone: None,
        mode: 0o600,
        limit_bytes_per_s: common.limit,
        threads: common.threads(),
        on_report: None,
        steps: debug::steps(),
    };
    if args.dry_run {
        let plan = face.run(|task| {
            let mut plan = backup::plan(request, task)?;
            plan.survey(task)?;
            Ok(plan)
        })?;
        face.report(&plan, Wanted::Always);
        return Ok(ExitCode::SUCCESS);
    }
    let report = face.run(|task| {
        let jobs = jobs(task)?;
        let mut plan = backup::plan(request, task)?;
        plan.survey(task)?;
        let image = noted(&plan.destination)?;
        let claims = journal::claims("backup", plan.source.clone(), image);
        jobs.run(claims, task, |task| backup::perform(plan, task))
    })?;
    face.report(&report, Wanted::UnlessQuiet);
    Ok(ExitCode::SUCCESS)
}

/// Folders of what dead processes left may hang: that is not waited for any longer.
const CLEAN_WITHIN: Duration = Duration::from_secs(2);

/// Jobs that are noted, where that can be done; what dead processes left of theirs is removed.
fn jobs(task: &Task) -> Result<Jobs> {
    let noted = Jobs::new(journal::folder()).and_then(|jobs| {
        let (tell, heard) = mpsc::channel();
        journal::clean(&jobs, move |removed| {
            let _ = tell.send(removed.map(Path::to_owned));
        })?;
        let until = Instant::now() + CLEAN_WITHIN;
        // It ends when the thread does.
        while let Ok(removed) = heard.recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            match removed {
                Ok(path) => {
                    task.note(format!("removed {}, of a job that was killed", path.display()));
                }
                Err(error) => task.warn(error.full_sentence()),
            }
        }
        Ok(jobs)
    });
    noted.or_else(|error| {
        task.note(error.full_sentence());
        Jobs::new(None)
    })
}

/// A path as other processes find it.
fn noted(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|cause| {
        let name = path.display().to_string();
        Error::io(format!("cannot tell where {name} is"), cause).at(name, None)
    })
}

impl From<CompressionArg> for Compression {
    fn from(arg: CompressionArg) -> Self {
        match arg {
            CompressionArg::Gz => Compression::Gz,
            CompressionArg::Zst => Compression::Zst,
            CompressionArg::Lz4 => Compression::Lz4,
            CompressionArg::Uncompressed => Compression::Uncompressed,
        }
    }
}

impl Report for BackupPlan {
    fn text(&self) -> String {
        text::backup_plan(self)
    }
    fn json(&self) -> serde_json::Value {
        json::backup_plan(self)
    }
}

impl Report for BackupReport {
    fn text(&self) -> String {
        text::backup(self)
    }
    fn json(&self) -> serde_json::Value {
        json::backup(self)
    }
}
