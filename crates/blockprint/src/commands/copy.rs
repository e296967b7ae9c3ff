//! `blockprint copy`.

use std::process::ExitCode;

use engine::Result;
use engine::ops::copy::{self, CopyPlan, CopyReport, CopyRequest, NewMode, OnReadError};

use crate::args::{Common, CopyArgs, OnReadErrorArg};
use crate::render::{Face, Report, Wanted, json, text};
use crate::{debug, exit};

pub(super) fn run(args: CopyArgs, common: &Common, face: &Face) -> Result<ExitCode> {
    let request = CopyRequest {
        source: args.source.into(),
        stores: args.stores.into(),
        target: args.target.into(),
        used_only: args.used_only,
        block_bytes: args.block_size,
        mode: NewMode::OfSource,
        sparse: true,
        keep: true,
        force: args.force,
        in_place: args.in_place,
        resume: args.resume,
        reflink: args.reflink.into(),
        verify: args.verify,
        on_read_error: match args.on_read_error {
            OnReadErrorArg::Stop => OnReadError::Stop,
            OnReadErrorArg::Zero => OnReadError::Zero,
        },
        bad_map: args.bad_map,
        journal: args.journal,
        limit_bytes_per_s: common.limit,
        threads: common.threads(),
        checkpoint_every: debug::checkpoint_every(),
        steps: debug::steps(),
    };
    if args.dry_run {
        let plan = face.run(|task| copy::plan(request, task))?;
        face.report(&plan, Wanted::Always);
        return Ok(ExitCode::SUCCESS);
    }
    let report = face.run(|task| copy::perform(copy::plan(request, task)?, task))?;
    face.report(&report, Wanted::UnlessQuiet);
    Ok(if report.unreadable.is_empty() && !report.lost_end {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(exit::INCOMPLETE)
    })
}

impl Report for CopyPlan {
    fn text(&self) -> String {
        text::copy_plan(self)
    }
    fn json(&self) -> serde_json::Value {
        json::copy_plan(self)
    }
}

impl Report for CopyReport {
    fn text(&self) -> String {
        text::copy(self)
    }
    fn json(&self) -> serde_json::Value {
        json::copy(self)
    }
}
