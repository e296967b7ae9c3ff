//! At least one end is remote: calls it, agrees on a protocol, plays the other end.

use image::{Result, Task};

use super::{SyncReport, SyncRequest};

/// The local end, open.
pub(super) struct Plan {}

pub(super) fn plan(request: &SyncRequest, task: &Task) -> Result<Plan> {
    let _ = (request, task);
    todo!()
}

pub(super) fn perform(plan: Plan, request: &SyncRequest, task: &Task) -> Result<SyncReport> {
    let _ = (plan, request, task);
    todo!()
}
