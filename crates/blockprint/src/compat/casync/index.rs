//! `list` and `gc`: what indexes name, and what none does.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Duration;

use engine::ops::index;
use engine::ops::store::{self, PruneRequest};
use engine::stores::{StoreLocation, default_store, no_store};
use engine::{Lenience, Result};
use serde_json::Value;

use super::args::{Cli, What, exactly};
use super::{index_of_blob, refuse_remote};
use crate::compat::output::show;
use crate::compat::refusal::nonsense;
use crate::debug;
use crate::render::Face;

/// That tool lists only archives, and refuses indexes of blobs. The form is that of `blockprint index chunks`.
pub(super) fn list(what: Option<What>, words: Vec<OsString>, face: &Face) -> Result<()> {
    let [name] = exactly(words, "INDEX")?;
    let index = index_of_blob(name, what)?;
    let mut items = face.items();
    face.run(|task| {
        index::chunks(index.path(), Lenience::Strict, task, &mut |span| {
            let line = || format!("{}\t{}\t{}", span.offset, span.len_bytes, span.id);
            items.item(line, || Value::Null)
        })
    })?;
    items.end()
}

pub(super) fn gc(cli: &Cli, words: Vec<OsString>, face: &Face) -> Result<()> {
    let Some(first) = words.first().map(Path::new) else {
        return Err(nonsense(
            "gc needs at least one index: without one, every chunk would be unused",
        ));
    };
    words.iter().try_for_each(|name| refuse_remote(name))?;
    if let Some(folder) = words.iter().map(Path::new).find(|path| path.is_dir()) {
        return Err(nonsense(format!("{} is a folder, and no index", folder.display())));
    }
    let store = match &cli.store {
        Some(text) => StoreLocation::parse(text),
        None => default_store(first).ok_or_else(|| no_store(first))?,
    };
    if cli.is_verbose() {
        let (references, chunks) = usage(&words, face)?;
        show(&format!("Chunk store usage: {references} references, {chunks} chunks"))?;
    }
    let request = PruneRequest {
        indexes: words.into_iter().map(Into::into).collect(),
        lenience: Lenience::Strict,
        // That tool has none. What ours works on is locked.
        grace: Duration::ZERO,
        leftover_grace: LEFTOVER_GRACE,
        steps: debug::steps(),
        store,
    };
    let plan = face.run(|task| store::plan_prune(&request, task))?;
    let (unused, used) = (plan.unused, plan.used + plan.young);
    if cli.is_verbose() {
        let verb = if cli.dry_run { "Would remove" } else { "Removing" };
        let suffix = suffix();
        for id in plan.unused_chunks() {
            show(&format!("{verb} chunk {id}{suffix}."))?;
        }
    }
    if cli.dry_run {
        show(&format!("Would remove {unused} chunks, {used} chunks remaining."))?;
        return Ok(());
    }
    let before = folders(&request.store);
    let report = face.run(|task| store::prune(plan, task))?;
    if cli.is_verbose() {
        let (removed, remaining) = (report.removed, report.used + report.kept);
        let gone = before.saturating_sub(folders(&request.store));
        show(&format!(
            "Removed {removed} chunks, {gone} directories, {remaining} chunks remaining."
        ))?;
    }
    Ok(())
}

/// casync's and desync's writers do not say that they work.
const LEFTOVER_GRACE: Duration = Duration::from_secs(24 * 3600);

/// How many chunks the indexes name, each as often as it stands there, and how many different ones.
fn usage(names: &[OsString], face: &Face) -> Result<(u64, u64)> {
    let (mut references, mut different) = (0, HashSet::new());
    for name in names {
        face.run(|task| {
            index::chunks(Path::new(name), Lenience::Strict, task, &mut |span| {
                references += 1;
                different.insert(span.id);
                Ok(())
            })
        })?;
    }
    Ok((references, different.len() as u64))
}

fn suffix() -> String {
    let named = std::env::var("CASYNC_COMPRESSED_CHUNK_SUFFIX");
    named.ok().filter(|suffix| !suffix.is_empty()).unwrap_or_else(|| ".cacnk".to_string())
}

/// How many folders of chunks the store has.
fn folders(store: &StoreLocation) -> u64 {
    let StoreLocation::Folder(path) = store else { return 0 };
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let is_one = |name: OsString| {
        name.len() == 4 && name.to_str().is_some_and(|name| u16::from_str_radix(name, 16).is_ok())
    };
    entries.flatten().filter(|entry| is_one(entry.file_name())).count() as u64
}
