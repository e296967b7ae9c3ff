//! `blockprint clone`.

use std::process::ExitCode;

use engine::Result;
use engine::ops::clone::{self, ClonePlan, CloneReport, CloneRequest, ModeRule};

use crate::args::{CloneArgs, Common};
use crate::debug;
use crate::render::{Face, Report, Wanted, json, text};

pub(super) fn run(args: CloneArgs, common: &Common, face: &Face) -> Result<ExitCode> {
    let request = CloneRequest {
        sources: args.sources.into_iter().map(Into::into).collect(),
        target: args.target,
        force: args.force,
        reflink: args.reflink.into(),
        freeze_timeout: args.freeze_timeout,
        mode: ModeRule::Source,
        threads: common.threads(),
        steps: debug::steps(),
    };
    if args.dry_run {
        let plan = face.run(|task| clone::plan(request, task))?;
        face.report(&plan, Wanted::Always);
        return Ok(ExitCode::SUCCESS);
    }
    let report = face.run(|task| clone::perform(clone::plan(request, task)?, task))?;
    face.report(&report, Wanted::UnlessQuiet);
    Ok(ExitCode::SUCCESS)
}

impl Report for ClonePlan {
    fn text(&self) -> String {
        text::clone_plan(self)
    }
    fn json(&self) -> serde_json::Value {
        json::clone_plan(self)
    }
}

impl Report for CloneReport {
    fn text(&self) -> String {
        text::clone(self)
    }
    fn json(&self) -> serde_json::Value {
        json::clone(self)
    }
}
