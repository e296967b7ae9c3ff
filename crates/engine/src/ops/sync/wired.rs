//! At least one end is remote: calls it, agrees on a protocol, plays the other end.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use image::{Error, ErrorKind, Result, Task};

use super::call::{self, Answered, Far};
use super::play::{self, Done, OpenSource, Played, Wishes};
use super::target::{Claiming, SyncTarget};
use super::{ServeRole, SyncReport, SyncRequest, Way, relay};
use crate::location::Place;
use crate::remote::{Limit, Peer, Traffic};

/// What is open here.
pub(super) struct Plan {
    here: Here,
    /// What is written, if not as it was asked for: a file in the folder that was named.
    target: Place,
}

enum Here {
    Source(Box<OpenSource>),
    Target(Box<SyncTarget>),
    Nothing,
}

/// Opens the end that is here. Calls nobody.
pub(super) fn plan(request: &SyncRequest, task: &Task) -> Result<Plan> {
    let target = in_folder(request)?;
    for (place, role) in [(&request.source, ServeRole::Source), (&target, ServeRole::Target)] {
        if let Some(far) = far(place, role) {
            call::refuse_wishes(request, far)?;
        }
    }
    let here = match (&request.source, &target) {
        (Place::Local(source), _) => {
            let source = OpenSource::open(source, &request.stores, &request.end, task)?;
            Here::Source(Box::new(source))
        }
        (_, Place::Local(location)) => {
            let claiming = Claiming {
                location,
                end: &request.end,
                source: None,
                source_name: name_of(&request.source),
                dry_run: request.dry_run,
            };
            Here::Target(Box::new(SyncTarget::claim(&claiming, task)?))
        }
        _ => Here::Nothing,
    };
    Ok(Plan { here, target })
}

pub(super) fn perform(plan: Plan, request: &SyncRequest, task: &Task) -> Result<SyncReport> {
    let started = Instant::now();
    let Plan { here, target } = plan;
    let limit = request.limit_bytes_per_s.map(Limit::new);
    let limit = limit.as_ref();
    let written = match &here {
        Here::Target(target) => target.path().display().to_string(),
        _ => target.to_string(),
    };
    let source_far = far(&request.source, ServeRole::Source);
    let target_far = far(&target, ServeRole::Target);
    let done = match (here, source_far, target_far) {
        (Here::Source(source), _, Some(far)) => {
            with_far(request, far, limit, task, |answered| push(&source, request, answered, task))
        }
        (Here::Target(mut target), Some(far), _) => {
            with_far(request, far, limit, task, |answered| {
                pull(&mut target, request, answered, task)
            })
        }
        (Here::Nothing, Some(from), Some(to)) => relay::relay(request, from, to, limit, task),
        // `plan` opens exactly the end that is here.
        _ => Err(Error::new(ErrorKind::Invalid, "neither end of the sync is on another machine")),
    }?;
    let Done { way, report, repaired, wire } = done;
    Ok(SyncReport {
        source: request.source.to_string(),
        target: written,
        way,
        size_bytes: report.source_bytes,
        old_bytes: report.target_bytes,
        compared_bytes: report.compared_bytes,
        assumed_bytes: match request.end.since {
            Some(_) => report.source_bytes.saturating_sub(report.compared_bytes),
            None => 0,
        },
        known_bytes: report.known_bytes,
        data_bytes: report.data_bytes,
        zeroed_bytes: report.zeroed_bytes,
        wire: Some(wire),
        root: report.root,
        repaired,
        dry_run: request.dry_run,
        elapsed: started.elapsed(),
    })
}

/// What the end that is here came to, and the other one, which should end now.
type Outcome = (Result<Played>, Option<Peer>, Way);

/// Calls `far`, lets `play` play the other end, and judges what both came to.
fn with_far(
    request: &SyncRequest,
    far: Far<'_>,
    limit: Option<&Limit>,
    task: &Task,
    play: impl FnOnce(Answered) -> Outcome,
) -> Result<Done> {
    let answered = call::call(request, far, false, limit, task)?;
    let traffic = Arc::clone(answered.peer.traffic());
    let (played, peer, way) = play(answered);
    let mut played = match played {
        Ok(played) => played,
        Err(error) => return Err(most_telling(error, peer, &traffic, task)),
    };
    request.end.steps.reach("transferred");
    if let Some(peer) = peer {
        let host = peer.host().to_string();
        if let Some(error) = peer.finish()?.error {
            return Err(error.and(format!(
                "all was transferred, but {host} does not say that it ended well: run it again"
            )));
        }
    }
    played.settle()?;
    Ok(Done { way, report: played.report, repaired: played.repaired, wire: traffic.bytes() })
}

fn push(source: &OpenSource, request: &SyncRequest, answered: Answered, task: &Task) -> Outcome {
    let Answered { peer, wire, way } = answered;
    let played = match way {
        Way::Diskrsync => source.diskrsync(&request.end, wire, task),
        _ => source.native(wishes(request), wire, task),
    };
    (played, Some(peer), way)
}

fn pull(
    target: &mut SyncTarget,
    request: &SyncRequest,
    answered: Answered,
    task: &Task,
) -> Outcome {
    /// A source that waits for us, which it should not, is not waited for.
    const PATIENCE: Duration = Duration::from_secs(10);
    let Answered { peer, wire, way } = answered;
    if way != Way::Diskrsync {
        return (play::native_target(target, wishes(request), wire, task), Some(peer), way);
    }
    let mut peer = Some(peer);
    let mut confirm = || match peer.take().map(|peer| peer.finish_within(PATIENCE)) {
        None => Ok(()),
        Some(Ok(ended)) => ended.error.map_or(Ok(()), Err),
        Some(Err(still_there)) => {
            peer = Some(still_there);
            task.checkpoint()
        }
    };
    let played = play::diskrsync_target(target, &request.end, &mut confirm, wire, task);
    (played, peer, way)
}

fn wishes(request: &SyncRequest) -> Wishes<'_> {
    Wishes { end: &request.end, compress: request.compress_wire, dry_run: request.dry_run }
}

/// Of what went wrong here, there, and on the way, what tells most.
fn most_telling(error: Error, peer: Option<Peer>, traffic: &Traffic, task: &Task) -> Error {
    let is_lost = traffic.has_ended();
    let ended = peer.map(Peer::leave);
    if let Err(cancelled) = task.checkpoint() {
        // Ours says what is left, if it is that of a task that was cancelled.
        return if error.kind() == ErrorKind::Cancelled { error } else { cancelled };
    }
    if !is_lost || is_said_by_peer(&error) || !is_about_the_connection(&error) {
        return error;
    }
    // This end only saw that the other one was gone: that one, or ssh, knows why.
    ended.and_then(|ended| ended.error).unwrap_or(error)
}

/// Whether it says only that the other end is gone, as both protocols put it. An end that leaves because of what we said
/// must not hide that.
fn is_about_the_connection(error: &Error) -> bool {
    const WORDS: [&str; 4] = [
        " the connection ",
        "cannot send to ",
        "cannot receive from ",
        "cannot read what the other end",
    ];
    let sentence = error.to_string();
    WORDS.iter().any(|words| sentence.contains(words))
}

/// Whether the other end gave up and said why.
fn is_said_by_peer(error: &Error) -> bool {
    error.to_string().starts_with("the other end says: ")
}

/// The end at `place`, if that is on another machine.
fn far(place: &Place, role: ServeRole) -> Option<Far<'_>> {
    match place {
        Place::Local(_) => None,
        Place::Remote { host, path } => Some(Far { host, path, role }),
    }
}

/// The target, in the folder that was named: under the source's name. A folder there is known by its path alone.
fn in_folder(request: &SyncRequest) -> Result<Place> {
    match &request.target {
        Place::Remote { host, path } if is_folder_by_name(path) => {
            let mut file = path.as_bytes().to_vec();
            if !file.ends_with(b"/") {
                file.push(b'/');
            }
            let name = name_of(&request.source).ok_or_else(|| {
                let (source, target) = (&request.source, &request.target);
                let sentence =
                    format!("{target} is a folder, and {source} has no name for a file in it");
                Error::new(ErrorKind::Invalid, sentence)
            })?;
            file.extend(name.as_bytes());
            Ok(Place::Remote { host: host.clone(), path: OsString::from_vec(file) })
        }
        target => Ok(target.clone()),
    }
}

fn is_folder_by_name(path: &OsStr) -> bool {
    let path = path.as_bytes();
    path.ends_with(b"/") || matches!(path.rsplit(|&byte| byte == b'/').next(), Some(b"." | b".."))
}

/// The name of a file.
fn name_of(source: &Place) -> Option<&OsStr> {
    match source {
        Place::Local(location) => location.path().file_name(),
        Place::Remote { path, .. } => Path::new(path).file_name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_there_is_known_by_its_path() {
        for path in [".", "..", "a/", "/", "a/.", "~/"] {
            assert!(is_folder_by_name(OsStr::new(path)), "{path}");
        }
        for path in ["a", "/a/b", "a.", "...", ".a"] {
            assert!(!is_folder_by_name(OsStr::new(path)), "{path}");
        }
    }
}
