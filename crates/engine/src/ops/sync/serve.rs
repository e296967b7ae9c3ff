//! The end that was called: speaks on its standard input and output.

use image::{Result, Task};

use super::EndRequest;
use crate::location::Location;

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

/// Serves on standard input and output until the sync is done. An error was told to the other end, too, where the protocol
/// has words for it.
pub fn serve(request: ServeRequest, task: &Task) -> Result<()> {
    let _ = (request, task);
    todo!()
}
