//! `blockprint compare`.

use std::process::ExitCode;

use engine::Result;
use engine::ops::compare::{self, CompareReport, CompareRequest};

use crate::args::{Common, CompareArgs};
use crate::exit;
use crate::render::{Face, Report, Wanted, json, text};

pub(super) fn run(args: CompareArgs, common: &Common, face: &Face) -> Result<ExitCode> {
    let request = CompareRequest {
        a: args.a.into(),
        b: args.b.into(),
        stores: args.stores.into(),
        used_only: args.used_only,
        first: args.first,
        limit_bytes_per_s: common.limit,
        threads: common.threads(),
    };
    let report = face.run(|task| compare::perform(compare::plan(request, task)?, task))?;
    let equal = report.is_equal();
    face.report(&Shown { report, list_max: args.list }, Wanted::UnlessQuiet);
    Ok(if equal { ExitCode::SUCCESS } else { ExitCode::from(exit::DIFFERENT) })
}

/// A report of which so many ranges are listed.
struct Shown {
    report: CompareReport,
    list_max: usize,
}

impl Report for Shown {
    fn text(&self) -> String {
        text::compare(&self.report, self.list_max)
    }
    fn json(&self) -> serde_json::Value {
        json::compare(&self.report)
    }
}
