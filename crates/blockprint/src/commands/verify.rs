//! `blockprint verify`.

use std::process::ExitCode;

use engine::ops::disk;
use engine::ops::verify::{
    self, ImageVerifyReport, ImageVerifyRequest, VerifyReport, VerifyRequest,
};
use engine::{Lenience, Result};

use crate::args::{Common, VerifyArgs};
use crate::render::{Face, Report, Wanted, json, text};
use crate::{debug, exit};

pub(super) fn run(args: VerifyArgs, common: &Common, face: &Face) -> Result<ExitCode> {
    let Some(target) = args.target else {
        if disk::is_set(&args.index) {
            return super::disk::verify(args.index, common, face);
        }
        let request = ImageVerifyRequest {
            image: args.index,
            limit_bytes_per_s: common.limit,
            threads: common.threads(),
        };
        let report = face.run(|task| verify::verify_image(&request, task))?;
        face.report(&report, Wanted::UnlessQuiet);
        return Ok(ExitCode::SUCCESS);
    };
    let request = VerifyRequest {
        index: args.index,
        target: target.into(),
        stores: args.stores.into(),
        repair: args.repair,
        dry_run: args.dry_run,
        lenience: if args.lenient { Lenience::Lenient } else { Lenience::Strict },
        limit_bytes_per_s: common.limit,
        threads: common.threads(),
        steps: debug::steps(),
    };
    let report = face.run(|task| verify::perform(verify::plan(request, task)?, task))?;
    let is_right = report.is_right() || report.is_repaired();
    face.report(&Shown { report, list_max: args.list }, Wanted::UnlessQuiet);
    Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::from(exit::DIFFERENT) })
}

impl Report for ImageVerifyReport {
    fn text(&self) -> String {
        text::image_verify(self)
    }
    fn json(&self) -> serde_json::Value {
        json::image_verify(self)
    }
}

/// A report of which so many ranges are listed.
struct Shown {
    report: VerifyReport,
    list_max: usize,
}

impl Report for Shown {
    fn text(&self) -> String {
        text::verify(&self.report, self.list_max)
    }
    fn json(&self) -> serde_json::Value {
        json::verify(&self.report)
    }
}
