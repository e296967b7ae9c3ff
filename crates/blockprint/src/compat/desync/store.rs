//! `verify`, `cache` and `prune`: looking after stores.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use engine::chunking::{ChunkId, DEFAULT_LEVEL};
use engine::ops::store::{self, CopyRequest, PruneRequest, Repair, VerifyRequest};
use engine::{Bytes, Error, Lenience, Result};

use super::args::{Cache, Prune, Verify};
use super::{Session, named, paths};
use crate::compat::refusal::nonsense;
use crate::debug;
use crate::render::complain;

pub(super) fn verify(args: &Verify, session: &Session<'_>) -> Result<ExitCode> {
    let request = VerifyRequest {
        store: session.source(&args.store)?,
        repair: if args.repair { Repair::Remove } else { Repair::No },
        threads: args.workers.threads(),
    };
    let report = session.face.run(|task| store::verify(&request, task))?;
    let is_sound = report.is_sound();
    for bad in &report.damaged {
        // That tool shows zeroes for what it cannot unpack.
        let found = bad.found.unwrap_or(ChunkId([0; 32]));
        let end = if args.repair && is_sound { ": removed" } else { "" };
        complain(&format!("chunk id {} does not match its hash {found}{end}", bad.id));
    }
    let more = report.damaged_count - report.damaged.len() as u64;
    if more > 0 {
        complain(&format!("and {more} more"));
    }
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn cache(args: Cache, session: &Session<'_>) -> Result<ExitCode> {
    let indexes = named(&args.index)?;
    let sources: Result<Vec<_>> = args.store.iter().map(|text| session.source(text)).collect();
    let (target, form) = session.target(&args.cache)?;
    let request = CopyRequest {
        sources: sources?,
        target,
        indexes: paths(&indexes),
        ignore_chunks: args.ignored.chunks()?,
        ignore: args.ignored.ignore,
        lenience: Lenience::Lenient,
        form,
        level: DEFAULT_LEVEL,
        threads: args.workers.threads(),
    };
    session.face.run(|task| store::copy(&request, task))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn prune(args: &Prune, session: &Session<'_>) -> Result<ExitCode> {
    let indexes = named(&args.index)?;
    let request = PruneRequest {
        store: session.target(&args.store)?.0,
        indexes: paths(&indexes),
        lenience: Lenience::Lenient,
        // That tool has none. What ours works on is locked.
        grace: Duration::ZERO,
        leftover_grace: LEFTOVER_GRACE,
        steps: debug::steps(),
    };
    if !args.yes && !io::stdin().is_terminal() {
        let sentence =
            "nothing is removed without being asked: standard input is no terminal (--yes answers)";
        return Err(nonsense(sentence));
    }
    let plan = session.face.run(|task| store::plan_prune(&request, task))?;
    if !args.yes {
        complain(&format!(
            "Remove {} chunks ({}) of {} that the {} indexes do not name? {} stay. [y/N]",
            plan.unused,
            Bytes(plan.unused_bytes),
            request.store,
            plan.indexes.len(),
            plan.used,
        ));
        if !is_yes()? {
            return Err(nonsense("nothing was removed"));
        }
    }
    session.face.run(|task| store::prune(plan, task))?;
    Ok(ExitCode::SUCCESS)
}

/// That tool's writers do not say that they work, so that their files under way are left to age.
const LEFTOVER_GRACE: Duration = Duration::from_secs(24 * 3600);

fn is_yes() -> Result<bool> {
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .map_err(|cause| Error::io("cannot read the answer", cause))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes" | "Yes"))
}
