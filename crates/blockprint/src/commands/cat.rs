//! `blockprint cat`.

use std::io;
use std::process::ExitCode;

use engine::ops::cat::{self, CatReport, CatRequest};
use engine::{Error, ErrorKind, Result};

use crate::args::{CatArgs, Common};
use crate::render::{Face, Report, Wanted, json, text};

pub(super) fn run(args: CatArgs, common: &Common, face: &Face) -> Result<ExitCode> {
    let to_stdout = args.output.is_none();
    if common.json && to_stdout {
        let sentence = "--json and the bytes would both go to standard output (name a file to write them into)";
        return Err(Error::new(ErrorKind::Invalid, sentence));
    }
    let request = CatRequest {
        image: args.image.into(),
        stores: args.stores.into(),
        offset: args.offset,
        len_bytes: args.length,
        output: args.output,
        force: args.force,
        skip_damaged: false,
        limit_bytes_per_s: common.limit,
        threads: common.threads(),
    };
    let report = face.run(|task| {
        let plan = cat::plan(request, task)?;
        cat::perform(plan, &mut io::stdout().lock(), task)
    })?;
    if !to_stdout {
        face.report(&report, Wanted::UnlessQuiet);
    }
    Ok(ExitCode::SUCCESS)
}

impl Report for CatReport {
    fn text(&self) -> String {
        text::cat(self)
    }
    fn json(&self) -> serde_json::Value {
        json::cat(self)
    }
}
