//! `list-chunks` and `info`: looking into an index.

use std::process::ExitCode;

use engine::ops::index::{self, InfoRequest};
use engine::stores::Stores;
use engine::{Lenience, Result};
use serde_json::Value;

use super::args::{Format, Info, ListChunks};
use super::{NamedIndex, Session};
use crate::compat::output::{joined, object, show};

pub(super) fn list_chunks(args: &ListChunks, session: &Session<'_>) -> Result<ExitCode> {
    let index = NamedIndex::open(&args.index)?;
    let mut items = session.face.items();
    session.face.run(|task| {
        index::chunks(index.path(), Lenience::Lenient, task, &mut |span| {
            items.item(|| span.id.hex(), || Value::Null)
        })
    })?;
    items.end()?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn info(args: &Info, session: &Session<'_>) -> Result<ExitCode> {
    let index = NamedIndex::open(&args.index)?;
    let sources: Result<Vec<_>> = args.store.iter().map(|text| session.source(text)).collect();
    let cache = args.cache.as_deref().map(|text| session.target(text)).transpose()?;
    let request = |stores: Stores| InfoRequest {
        index: index.path().to_owned(),
        lenience: Lenience::Lenient,
        stores,
        seeds: args.seed.clone(),
    };
    // Apart, so that each answers for itself.
    let of_stores = request(Stores { sources: sources?, ..Stores::default() });
    let of_cache = request(Stores { cache: cache.map(|(store, _)| store), ..Stores::default() });
    let in_store = session.face.run(|task| index::info(&of_stores, task))?.in_stores;
    let report = session.face.run(|task| index::info(&of_cache, task))?;
    let not_in_seed = report.distinct.bytes - report.in_seeds.bytes;
    let numbers = [
        ("total", "Total chunks", report.all.chunks),
        ("unique", "Unique chunks", report.distinct.chunks),
        ("in-store", "Chunks in store", in_store.unwrap_or_default().chunks),
        ("in-seed", "Chunks in seed", report.in_seeds.chunks),
        ("in-cache", "Chunks in cache", report.in_cache.chunks),
        ("not-in-seed-nor-cache", "Chunks not in seed nor cache", report.not_at_hand.chunks),
        ("size", "Blob size", report.size_bytes),
        ("dedup-size-not-in-seed", "Size of deduplicated chunks not in seed", not_in_seed),
        (
            "dedup-size-not-in-seed-nor-cache",
            "Size of deduplicated chunks not in seed nor cache",
            report.not_at_hand.bytes,
        ),
        // Only --chunks-info would tell.
        (
            "dedup-size-not-in-seed-nor-cache-compressed",
            "Size of deduplicated chunks not in seed nor cache, compressed",
            0,
        ),
        ("chunk-size-min", "Chunk size min", report.sizes.min()),
        ("chunk-size-avg", "Chunk size avg", report.sizes.avg()),
        ("chunk-size-max", "Chunk size max", report.sizes.max()),
    ];
    show(&match args.format {
        Format::Json => object(&numbers.map(|(key, _, number)| (key, number))),
        Format::Plain => {
            joined(numbers.iter().map(|(_, words, number)| format!("{words}: {number}")), "\n")
        }
    })?;
    Ok(ExitCode::SUCCESS)
}
