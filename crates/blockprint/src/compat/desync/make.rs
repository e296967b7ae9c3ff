//! `make`, `chop` and `chunk`: from a blob to chunks.

use std::io;
use std::process::ExitCode;

use engine::chunking::{DEFAULT_LEVEL, Rule};
use engine::ops::chop::{self, ChopRequest};
use engine::ops::make::{self, CutRequest, MakeRequest};
use engine::{Lenience, Result, Threads};
use serde_json::Value;

use super::args::{Chop, Chunk, Make};
use super::{NamedIndex, Session, is_stream, raw};
use crate::compat::output::object;
use crate::compat::spool::refuse_url;
use crate::debug;
use crate::render::complain;

pub(super) fn make(args: Make, session: &Session<'_>) -> Result<ExitCode> {
    refuse_url(&args.index)?;
    let store = args.store.as_deref().map(|text| session.target(text)).transpose()?;
    let (store, form) = store.unzip();
    let to_stream = is_stream(&args.index);
    let request = MakeRequest {
        index: Some(args.index).filter(|_| !to_stream),
        force: true,
        store,
        form: form.unwrap_or_default(),
        sizes: args.chunk_size,
        algorithm: session.algorithm,
        threads: args.workers.threads(),
        steps: debug::steps(),
        ..MakeRequest::new(raw(args.file))
    };
    let report = session.face.run(|task| {
        let plan = make::plan(request, task)?;
        match to_stream {
            true => make::perform_into(plan, &mut io::stdout(), task),
            false => make::perform(plan, task),
        }
    })?;
    if args.print_stats {
        // The index may go to standard output.
        let chunks = report.chunks;
        complain(&object(&[("chunks-accepted", chunks), ("chunks-produced", chunks)]));
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn chop(args: Chop, session: &Session<'_>) -> Result<ExitCode> {
    let index = NamedIndex::open(&args.index)?;
    let (store, form) = session.target(&args.store)?;
    let request = ChopRequest {
        index: index.path().to_owned(),
        source: raw(args.file),
        store,
        form,
        level: DEFAULT_LEVEL,
        ignore_chunks: args.ignored.chunks()?,
        ignore: args.ignored.ignore,
        lenience: Lenience::Lenient,
        threads: args.workers.threads(),
    };
    session.face.run(|task| chop::perform(&request, task))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn chunk(args: Chunk, session: &Session<'_>) -> Result<ExitCode> {
    let request = CutRequest {
        source: raw(args.file),
        start: args.start,
        sizes: args.chunk_size,
        rule: Rule::Casync,
        algorithm: session.algorithm,
        threads: Threads::Automatic,
    };
    let mut items = session.face.items();
    session.face.run(|task| {
        make::cut(&request, task, &mut |span| {
            let line = || format!("{}\t{}\t{}", span.offset, span.len_bytes, span.id);
            items.item(line, || Value::Null)
        })
    })?;
    items.end()?;
    Ok(ExitCode::SUCCESS)
}
