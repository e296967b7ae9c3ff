//! `blockprint index`.

use std::process::ExitCode;

use engine::chunking::Span;
use engine::ops::index::{self, DiffReport, IndexReport, InfoRequest};
use engine::stores::{StoreLocation, Stores};
use engine::{Lenience, Result};

use crate::args::{IndexArgs, IndexCommand};
use crate::render::{Face, Report, Wanted, json, text};

pub(super) fn run(args: IndexArgs, face: &Face) -> Result<ExitCode> {
    match args.command {
        IndexCommand::Info(args) => {
            let request = InfoRequest {
                index: args.index,
                lenience: lenience(args.lenient),
                stores: Stores {
                    sources: args.store.into_iter().map(StoreLocation::from).collect(),
                    cache: args.cache.map(StoreLocation::from),
                    ..Stores::default()
                },
                seeds: args.seed,
            };
            let report = face.run(|task| index::info(&request, task))?;
            face.report(&report, Wanted::Always);
        }
        IndexCommand::Chunks(args) => {
            let mut items = face.items();
            face.run(|task| {
                index::chunks(&args.index, lenience(args.lenient), task, &mut |span| {
                    let line = || if args.ids { span.id.hex() } else { line(span) };
                    items.item(line, || json::chunk(span))
                })
            })?;
            items.end()?;
        }
        IndexCommand::Diff(args) => {
            let mut items = face.items();
            let report = face.run(|task| {
                index::diff(&args.had, &args.wanted, lenience(args.lenient), task, &mut |span| {
                    if args.list { items.item(|| line(span), || json::chunk(span)) } else { Ok(()) }
                })
            })?;
            items.end()?;
            face.report(&report, Wanted::Always);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// How strictly flags are read.
pub(super) fn lenience(lenient: bool) -> Lenience {
    if lenient { Lenience::Lenient } else { Lenience::Strict }
}

fn line(span: &Span) -> String {
    format!("{}\t{}\t{}", span.offset, span.len_bytes, span.id)
}

impl Report for IndexReport {
    fn text(&self) -> String {
        text::index(self)
    }
    fn json(&self) -> serde_json::Value {
        json::index(self)
    }
}

impl Report for DiffReport {
    fn text(&self) -> String {
        text::diff(self)
    }
    fn json(&self) -> serde_json::Value {
        json::diff(self)
    }
}
