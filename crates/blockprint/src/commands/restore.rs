//! `blockprint restore`.

use std::process::ExitCode;

use engine::jobs::{Claims, Jobs};
use engine::ops::disk;
use engine::ops::restore::{self, RestorePlan, RestoreReport, RestoreRequest};
use engine::{Error, ErrorKind, Result};

use crate::args::{Common, RestoreArgs};
use crate::debug;
use crate::render::{Face, Report, Wanted, json, text};

pub(super) fn run(args: RestoreArgs, common: &Common, face: &Face) -> Result<ExitCode> {
    if disk::is_set(&args.image) {
        return super::disk::restore(args, common, face);
    }
    if args.grow.is_some() {
        let sentence =
            "--grow is for the set of a whole disk, on which a partition can take more room";
        return Err(Error::new(ErrorKind::Invalid, sentence));
    }
    let request = RestoreRequest {
        image: args.image,
        target: args.target,
        verify: args.verify,
        discard: args.discard,
        by_partclone: args.by_partclone,
        partclone: None,
        limit_bytes_per_s: common.limit,
        threads: common.threads(),
        on_report: None,
        steps: debug::steps(),
    };
    if args.dry_run {
        let plan = face.run(|task| restore::plan(request, task))?;
        face.report(&plan, Wanted::Always);
        return Ok(ExitCode::SUCCESS);
    }
    let claims = Claims {
        what: "restore",
        reads: vec![request.image.clone()],
        writes: vec![request.target.clone()],
    };
    let jobs = Jobs::new(None)?;
    // What cannot be done anyway is refused before anybody is asked. The plan holds the target while they think.
    let plan = face.run(|task| restore::plan(request, task))?;
    if !args.yes {
        super::confirm::overwriting(&plan.image, &plan.target)?;
    }
    let report = face.run(|task| jobs.run(claims, task, |task| restore::perform(plan, task)))?;
    face.report(&report, Wanted::UnlessQuiet);
    Ok(ExitCode::SUCCESS)
}

impl Report for RestorePlan {
    fn text(&self) -> String {
        text::restore_plan(self)
    }
    fn json(&self) -> serde_json::Value {
        json::restore_plan(self)
    }
}

impl Report for RestoreReport {
    fn text(&self) -> String {
        text::restore(self)
    }
    fn json(&self) -> serde_json::Value {
        json::restore(self)
    }
}
