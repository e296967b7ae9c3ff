//! `blockprint backup`, `restore` and `verify` where they are about a whole disk and its set.

use std::path::PathBuf;
use std::process::ExitCode;

use engine::Result;
use engine::jobs::{Claims, Jobs};
use engine::ops::disk;
use engine::ops::disk::backup::{DiskBackupPlan, DiskBackupReport, DiskBackupRequest};
use engine::ops::disk::restore::{DiskRestorePlan, DiskRestoreReport, DiskRestoreRequest, Grow};
use engine::ops::disk::verify::{DiskVerifyReport, DiskVerifyRequest};

use crate::args::{BackupArgs, Common, GrowArg, RestoreArgs};
use crate::debug;
use crate::render::{Face, Report, Wanted, json, text};

/// Makes a set of the disk that `args` name.
pub(super) fn backup(args: BackupArgs, common: &Common, face: &Face) -> Result<ExitCode> {
    let request = DiskBackupRequest {
        source: args.source,
        folder: args.folder,
        name: args.name,
        compression: args.compression.into(),
        level: args.level,
        verify: args.verify,
        mode: 0o600,
        limit_bytes_per_s: common.limit,
        threads: common.threads(),
        steps: debug::steps(),
    };
    if args.dry_run {
        let plan = face.run(|task| disk::backup::plan(request, task))?;
        face.report(&plan, Wanted::Always);
        return Ok(ExitCode::SUCCESS);
    }
    let claims = Claims { what: "backup", reads: vec![request.source.clone()], writes: Vec::new() };
    let report = face.run(|task| {
        Jobs::new(None)?.run(claims, task, |task| {
            disk::backup::perform(disk::backup::plan(request, task)?, task)
        })
    })?;
    face.report(&report, Wanted::UnlessQuiet);
    Ok(ExitCode::SUCCESS)
}

/// Makes a disk of the set that `args` name.
pub(super) fn restore(args: RestoreArgs, common: &Common, face: &Face) -> Result<ExitCode> {
    let request = DiskRestoreRequest {
        set: args.image,
        target: args.target,
        grow: args.grow.map(|GrowArg::Last| Grow::Last),
        verify: args.verify,
        discard: args.discard,
        by_partclone: args.by_partclone,
        limit_bytes_per_s: common.limit,
        threads: common.threads(),
        steps: debug::steps(),
    };
    let claims = Claims {
        what: "restore",
        reads: vec![request.set.clone()],
        writes: vec![request.target.clone()],
    };
    let jobs = Jobs::new(None)?;
    // What cannot be done anyway is refused before anybody is asked. The plan holds the target while they think.
    let plan = face.run(|task| disk::restore::plan(request, task))?;
    if args.dry_run {
        face.report(&plan, Wanted::Always);
        return Ok(ExitCode::SUCCESS);
    }
    if !args.yes {
        super::confirm::overwriting(&plan.set, &plan.target)?;
    }
    let report =
        face.run(|task| jobs.run(claims, task, |task| disk::restore::perform(plan, task)))?;
    face.report(&report, Wanted::UnlessQuiet);
    Ok(ExitCode::SUCCESS)
}

/// Reads all of a set.
pub(super) fn verify(set: PathBuf, common: &Common, face: &Face) -> Result<ExitCode> {
    let request =
        DiskVerifyRequest { set, limit_bytes_per_s: common.limit, threads: common.threads() };
    let report = face.run(|task| disk::verify::verify(&request, task))?;
    face.report(&report, Wanted::UnlessQuiet);
    Ok(ExitCode::SUCCESS)
}

macro_rules! report {
    ($($what:ty => $function:ident),*) => {$(
        impl Report for $what {
            fn text(&self) -> String {
                text::$function(self)
            }
            fn json(&self) -> serde_json::Value {
                json::$function(self)
            }
        }
    )*};
}
report!(
    DiskBackupPlan => disk_backup_plan,
    DiskBackupReport => disk_backup,
    DiskRestorePlan => disk_restore_plan,
    DiskRestoreReport => disk_restore,
    DiskVerifyReport => disk_verify
);
