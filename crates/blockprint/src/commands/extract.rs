//! `blockprint extract`.

use std::process::ExitCode;

use engine::ops::extract::{self, ExtractPlan, ExtractReport, ExtractRequest, SeedRequest};
use engine::{Lenience, Result};

use crate::args::{Common, ExtractArgs};
use crate::debug;
use crate::render::{Face, Report, Wanted, json, text};

pub(super) fn run(args: ExtractArgs, common: &Common, face: &Face) -> Result<ExitCode> {
    let seeds: Result<Vec<SeedRequest>> =
        args.seed.iter().map(|text| SeedRequest::parse(text)).collect();
    let request = ExtractRequest {
        index: args.index,
        target: args.target.into(),
        stores: args.stores.into(),
        force: args.force,
        in_place: args.in_place,
        seeds: seeds?,
        seed_folders: args.seed_dir,
        reflink: args.reflink.into(),
        verify: args.verify,
        lenience: if args.lenient { Lenience::Lenient } else { Lenience::Strict },
        limit_bytes_per_s: common.limit,
        threads: common.threads(),
        steps: debug::steps(),
    };
    if args.dry_run {
        let plan = face.run(|task| extract::plan(request, task))?;
        face.report(&plan, Wanted::Always);
        return Ok(ExitCode::SUCCESS);
    }
    let report = face.run(|task| extract::perform(extract::plan(request, task)?, task))?;
    face.report(&report, Wanted::UnlessQuiet);
    Ok(ExitCode::SUCCESS)
}

impl Report for ExtractPlan {
    fn text(&self) -> String {
        text::extract_plan(self)
    }
    fn json(&self) -> serde_json::Value {
        json::extract_plan(self)
    }
}

impl Report for ExtractReport {
    fn text(&self) -> String {
        text::extract(self)
    }
    fn json(&self) -> serde_json::Value {
        json::extract(self)
    }
}
