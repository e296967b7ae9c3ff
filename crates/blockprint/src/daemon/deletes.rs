//! Images that are no longer wanted.

use std::path::PathBuf;

use engine::jobs::Claims;
use engine::ops::remove_backup;
use engine::{ErrorKind, Result};

use super::inbound::PathText;
use super::log::{self, Log};
use super::outbound;
use super::work::{Event, Work, refuse_relative, resolved};

/// Removes it, and answers.
pub(super) fn start(work: &Work, file: PathText) {
    let shown = file.shown();
    let (mine, theirs) = (work.clone(), work.clone());
    let claims = Claims { what: "deletion", ..Claims::default() };
    let delete = move || -> (PathBuf, Result<()>) {
        let file = file.resolve_image();
        let removed = refuse_relative(&file).and_then(|()| {
            let claims =
                Claims { what: "deletion", reads: Vec::new(), writes: vec![resolved(&file)] };
            mine.jobs.run(claims, &engine::Task::silent(), |_| remove_backup::perform(&file))
        });
        (file, removed)
    };
    let started = work.jobs.start(
        claims,
        Box::new(Log { job: "deletion".to_string() }),
        move |_| Ok(delete()),
        move |_, result| {
            let message = match result {
                Ok((file, removed)) => answer(&file.display().to_string(), removed),
                Err(error) => answer(&shown, Err(error)),
            };
            theirs.post(Event::Answered { message });
        },
    );
    if let Err(error) = started {
        log::error(&error.full_sentence());
    }
}

fn answer(file: &str, removed: Result<()>) -> String {
    match removed {
        Ok(()) => outbound::deleted(file),
        // Words that clients compare.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            outbound::not_deleted(file, "No such file")
        }
        Err(error) => outbound::not_deleted(file, &error.full_sentence()),
    }
}
