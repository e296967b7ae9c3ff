//! `blockprint info`.

use std::process::ExitCode;

use engine::Result;
use engine::ops::info::{self, InfoReport, InfoRequest};

use crate::args::InfoArgs;
use crate::render::{Face, Report, Wanted, json, text};

pub(super) fn run(args: InfoArgs, face: &Face) -> Result<ExitCode> {
    let request =
        InfoRequest { image: args.image.into(), stores: args.stores.into(), map: args.map };
    let report = face.run(|task| info::perform(&request, task))?;
    face.report(&report, Wanted::Always);
    Ok(ExitCode::SUCCESS)
}

impl Report for InfoReport {
    fn text(&self) -> String {
        text::info(self)
    }
    fn json(&self) -> serde_json::Value {
        json::info(self)
    }
}
