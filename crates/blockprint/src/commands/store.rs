//! `blockprint store`.

use std::collections::HashSet;
use std::process::ExitCode;

use engine::chunking::Form;
use engine::ops::store::{
    self, CopyReport, CopyRequest, PrunePlan, PruneReport, PruneRequest, Repair, StoreReport,
    VerifyReport, VerifyRequest,
};
use engine::stores::StoreLocation;
use engine::{Result, Task};

use super::index::lenience;
use crate::args::{Common, StoreArgs, StoreCommand, StoreCopyArgs, StorePruneArgs};
use crate::render::{Face, Report, Wanted, json, text};
use crate::{debug, exit};

pub(super) fn run(args: StoreArgs, common: &Common, face: &Face) -> Result<ExitCode> {
    match args.command {
        StoreCommand::Info(args) => {
            let location = StoreLocation::parse(&args.store);
            let report = face.run(|task| store::info(&location, task))?;
            face.report(&report, Wanted::Always);
        }
        StoreCommand::List(args) => {
            let location = StoreLocation::parse(&args.store);
            let mut items = face.items();
            face.run(|task| {
                store::list(&location, task, &mut |stored| {
                    let line = || match args.long {
                        true => {
                            format!("{}\t{}\t{}", stored.id, stored.form.name(), stored.len_bytes)
                        }
                        false => stored.id.hex(),
                    };
                    items.item(line, || json::stored(stored))
                })
            })?;
            items.end()?;
        }
        StoreCommand::Verify(args) => {
            let repair = match args.repair_from {
                Some(from) => Repair::From(StoreLocation::parse(&from)),
                None if args.remove => Repair::Remove,
                None => Repair::No,
            };
            let request = VerifyRequest {
                store: StoreLocation::parse(&args.store),
                repair,
                threads: common.threads(),
            };
            let report = face.run(|task| store::verify(&request, task))?;
            let sound = report.is_sound();
            face.report(&report, if sound { Wanted::UnlessQuiet } else { Wanted::Always });
            return Ok(if sound { ExitCode::SUCCESS } else { ExitCode::from(exit::DIFFERENT) });
        }
        StoreCommand::Prune(args) => return prune(args, face),
        StoreCommand::Copy(args) => return copy(args, common, face),
    }
    Ok(ExitCode::SUCCESS)
}

fn prune(args: StorePruneArgs, face: &Face) -> Result<ExitCode> {
    let request = PruneRequest {
        store: StoreLocation::parse(&args.store),
        indexes: args.indexes,
        lenience: lenience(args.lenient),
        grace: args.grace,
        leftover_grace: args.grace,
        steps: debug::steps(),
    };
    if args.dry_run {
        let plan = face.run(|task| store::plan_prune(&request, task))?;
        face.report(&plan, Wanted::Always);
        return Ok(ExitCode::SUCCESS);
    }
    let work = |task: &Task| store::prune(store::plan_prune(&request, task)?, task);
    let report = face.run(work)?;
    face.report(&report, Wanted::UnlessQuiet);
    Ok(ExitCode::SUCCESS)
}

fn copy(args: StoreCopyArgs, common: &Common, face: &Face) -> Result<ExitCode> {
    let form = if args.packing.uncompressed { Form::Plain } else { Form::Compressed };
    let mut sources = vec![StoreLocation::parse(&args.source)];
    for store in &args.store {
        sources.push(StoreLocation::parse(store));
    }
    let request = CopyRequest {
        sources,
        target: StoreLocation::parse(&args.target),
        indexes: args.index,
        ignore: args.ignore,
        ignore_chunks: HashSet::new(),
        form,
        lenience: lenience(args.lenient),
        level: args.packing.level,
        threads: common.threads(),
    };
    let report = face.run(|task| store::copy(&request, task))?;
    face.report(&report, Wanted::UnlessQuiet);
    Ok(ExitCode::SUCCESS)
}

macro_rules! reports {
    ($($report:ty: $name:ident;)*) => {$(
        impl Report for $report {
            fn text(&self) -> String {
                text::$name(self)
            }
            fn json(&self) -> serde_json::Value {
                json::$name(self)
            }
        }
    )*};
}
reports! {
    StoreReport: store;
    VerifyReport: store_verify;
    PrunePlan: prune_plan;
    PruneReport: prune;
    CopyReport: store_copy;
}
