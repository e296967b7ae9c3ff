//! Partitions from images: from a request to a restore.

use engine::jobs::{Claims, JobId};
use engine::ops::restore::{self, RestoreRequest};
use engine::{Result, Task, Threads};

use super::inbound::PathText;
use super::view::Outcome;
use super::work::{Event, Work, refuse_relative, resolved};
use crate::debug;

/// What a client wants.
pub(super) struct Wish {
    pub(super) source: PathText,
    pub(super) destination: PathText,
}

/// Begins with it.
pub(super) fn start(work: &Work, id: JobId, wish: Wish) {
    work.start(id, "restore", move |work, id, task| restore(work, id, &wish, task));
}

fn restore(work: &Work, id: &JobId, wish: &Wish, task: &Task) -> Result<Outcome> {
    let (image, target) = (wish.source.resolve_image(), wish.destination.resolve());
    work.post(Event::Named {
        id: id.clone(),
        source: image.display().to_string(),
        destination: target.display().to_string(),
        source_uuid: None,
    });
    refuse_relative(&image)?;
    refuse_relative(&target)?;
    let part = work.look_up(&target);
    work.refuse_used(&target, part.as_ref())?;
    let claims =
        Claims { what: "restore", reads: vec![resolved(&image)], writes: vec![resolved(&target)] };
    work.jobs.claim_more(id, claims)?;
    let plan = restore::plan(
        RestoreRequest {
            image,
            target,
            verify: work.settings.verify,
            discard: false,
            by_partclone: false,
            partclone: work.partclone(),
            limit_bytes_per_s: None,
            threads: Threads::Automatic,
            on_report: work.on_report(id),
            steps: debug::steps(),
        },
        task,
    )?;
    work.post(Event::Ready { id: id.clone() });
    let report = restore::perform(plan, task)?;
    Ok(Outcome { verified: report.verified, ..Outcome::default() })
}
