//! Both on this machine: compares byte by byte and writes what differs.

use image::{Result, Task};

use super::{SyncReport, SyncRequest};
use crate::location::Location;

/// Both ends, open.
pub(super) struct Plan {}

pub(super) fn plan(
    request: &SyncRequest,
    source: &Location,
    target: &Location,
    task: &Task,
) -> Result<Plan> {
    let _ = (request, source, target, task);
    todo!()
}

pub(super) fn perform(plan: Plan, request: &SyncRequest, task: &Task) -> Result<SyncReport> {
    let _ = (plan, request, task);
    todo!()
}
