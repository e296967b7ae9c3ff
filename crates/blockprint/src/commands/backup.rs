//! `blockprint backup`.

use std::process::ExitCode;

use engine::Result;
use engine::jobs::{Claims, Jobs};
use engine::ops::backup::{self, BackupPlan, BackupReport, BackupRequest};
use engine::ops::disk;
use engine::partitions::Compression;

use crate::args::{BackupArgs, Common, CompressionArg};
use crate::debug;
use crate::render::{Face, Report, Wanted, json, text};

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
    let claims = Claims { what: "backup", reads: vec![request.source.clone()], writes: Vec::new() };
    let report = face.run(|task| {
        Jobs::new(None)?.run(claims, task, |task| {
            let mut plan = backup::plan(request, task)?;
            plan.survey(task)?;
            backup::perform(plan, task)
        })
    })?;
    face.report(&report, Wanted::UnlessQuiet);
    Ok(ExitCode::SUCCESS)
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
