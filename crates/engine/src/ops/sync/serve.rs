//! The end that was called: speaks on its standard input and output.

use std::sync::Arc;

use image::{Error, ErrorKind, Result, Task};
use sync::{Hangup, Wire};

use super::EndRequest;
use super::play::{self, OpenSource, Played, Wishes};
use super::target::{Claiming, SyncTarget};
use crate::location::Location;
use crate::remote::{Traffic, wire_over};
use crate::stores::Stores;

/// What a called end does.
#[derive(Clone, Debug)]
pub struct ServeRequest {
    /// Which end.
    pub role: ServeRole,
    /// What is read or written.
    pub location: Location,
    /// How.
    pub end: EndRequest,
    /// Only diskrsync's protocol is spoken; else the native one.
    pub diskrsync: bool,
    /// Nothing is written (native only).
    pub dry_run: bool,
}

/// Which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServeRole {
    /// It has the content.
    Source,
    /// It gets the content.
    Target,
}

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// All is done.
    Done,
    /// It failed, and the other end, which was told why, tells its user.
    Told(ErrorKind),
}

/// Serves on standard input and output until the sync is done. Both are `/dev/null` afterwards.
///
/// # Errors
///
/// What nobody was told yet: all in diskrsync's protocol, which has no words for errors; in the native one, what failed
/// before the other end had said anything.
pub fn serve(request: ServeRequest, task: &Task) -> Result<Served> {
    let ServeRequest { role, location, end, diskrsync, dry_run } = request;
    let (input, output) = sys::pipe::take_stdio()
        .map_err(|cause| Error::io("cannot serve on standard input and output", cause))?;
    let traffic = Arc::new(Traffic::default());
    let wire = wire_over(input, output, Hangup::new(), &traffic, None, task)?;
    let wishes = Wishes { end: &end, compress: true, dry_run };
    let played = match (diskrsync, role) {
        (true, _) => return serve_diskrsync(role, &location, &end, wire, task),
        (false, ServeRole::Source) => serve_source(&location, wishes, wire, task),
        (false, ServeRole::Target) => serve_target(&location, wishes, wire, task),
    };
    match played.and_then(|mut played| played.settle()) {
        Ok(()) => Ok(Served::Done),
        // Somebody is there, and speaks.
        Err(error) if traffic.received_bytes() > 0 => Ok(Served::Told(error.kind())),
        Err(error) => Err(error),
    }
}

fn serve_source(
    location: &Location,
    wishes: Wishes<'_>,
    wire: Wire<'_>,
    task: &Task,
) -> Result<Played> {
    match OpenSource::open(location, &Stores::default(), wishes.end, task) {
        Ok(source) => source.native(wishes, wire, task),
        Err(error) => Err(play::told(wire, error)),
    }
}

fn serve_target(
    location: &Location,
    wishes: Wishes<'_>,
    wire: Wire<'_>,
    task: &Task,
) -> Result<Played> {
    match claim(location, wishes.end, wishes.dry_run, task) {
        Ok(mut target) => play::native_target(&mut target, wishes, wire, task),
        Err(error) => Err(play::told(wire, error)),
    }
}

fn serve_diskrsync(
    role: ServeRole,
    location: &Location,
    end: &EndRequest,
    wire: Wire<'_>,
    task: &Task,
) -> Result<Served> {
    match role {
        ServeRole::Source => {
            let source = OpenSource::open(location, &Stores::default(), end, task)?;
            source.diskrsync(end, wire, task)?;
        }
        ServeRole::Target => {
            let mut target = claim(location, end, false, task)?;
            // Whether the source ended well is not ours to know: who started both ends does.
            play::diskrsync_target(&mut target, end, &mut || Ok(()), wire, task)?;
        }
    }
    Ok(Served::Done)
}

fn claim(location: &Location, end: &EndRequest, dry_run: bool, task: &Task) -> Result<SyncTarget> {
    let claiming = Claiming { location, end, source: None, source_name: None, dry_run };
    SyncTarget::claim(&claiming, task)
}
