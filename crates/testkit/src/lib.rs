//! What the tests of blockprint stand on: contract suites for the central traits, power cuts on demand, and
//! guards for what a test takes from its host.
//!
//! - [`contract`] asks an implementation of a trait whether it keeps the promises in the trait's documentation;
//! - [`crash`] is a disk in memory that yields every state a power cut could leave;
//! - [`host`] has loop devices, mounts and real tools.

pub mod contract;
pub mod crash;
pub mod host;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `check`; if it panics, gives the words of the panic.
fn caught<T>(check: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(check)).map_err(|panic| words(&*panic).to_string())
}

fn words(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else if let Some(text) = panic.downcast_ref::<&str>() {
        text
    } else {
        "a panic without words"
    }
}
