//! `blockprint make`.

use std::process::ExitCode;

use engine::Result;
use engine::chunking::{Existing, Form};
use engine::ops::make::{self, MakeReport, MakeRequest};
use engine::stores::StoreLocation;

use crate::args::{Common, MakeArgs};
use crate::debug;
use crate::render::{Face, Report, Wanted, json, text};

pub(super) fn run(args: MakeArgs, common: &Common, face: &Face) -> Result<ExitCode> {
    let form = if args.packing.uncompressed { Form::Plain } else { Form::Compressed };
    let store = args.store.as_deref().map(StoreLocation::parse);
    let request = MakeRequest {
        index: Some(args.index),
        used_only: args.used_only,
        force: args.force,
        store,
        form,
        sizes: args.cutting.chunk_size,
        rule: args.cutting.chunker.into(),
        algorithm: args.cutting.digest.into(),
        level: args.packing.level,
        existing: if args.verify_existing { Existing::Verified } else { Existing::Trusted },
        dry_run: args.dry_run,
        limit_bytes_per_s: common.limit,
        threads: common.threads(),
        steps: debug::steps(),
        ..MakeRequest::new(args.source.into())
    };
    let report = face.run(|task| make::perform(make::plan(request, task)?, task))?;
    face.report(&report, if report.is_dry_run { Wanted::Always } else { Wanted::UnlessQuiet });
    Ok(ExitCode::SUCCESS)
}

impl Report for MakeReport {
    fn text(&self) -> String {
        text::make(self)
    }
    fn json(&self) -> serde_json::Value {
        json::make(self)
    }
}
