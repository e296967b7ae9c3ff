//! Hooks for tests: the process ends, or stops, at a named step of an operation.
//!
//! `BLOCKPRINT_DEBUG_KILL_AT=STEP` ends it as `kill -9` does, `BLOCKPRINT_DEBUG_STOP_AT=STEP` stops it as
//! SIGSTOP does; `STEP:N` means the Nth time. `BLOCKPRINT_DEBUG_CHECKPOINT_MS=N` makes journals of copies more
//! frequent. Not for users, and not part of any promise.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use engine::Steps;

/// The hooks that the environment asks for.
pub(crate) fn steps() -> Steps {
    let kill = Trap::from_environment("BLOCKPRINT_DEBUG_KILL_AT");
    let stop = Trap::from_environment("BLOCKPRINT_DEBUG_STOP_AT");
    if kill.is_none() && stop.is_none() {
        return Steps::default();
    }
    Steps::new(move |step| {
        if kill.as_ref().is_some_and(|trap| trap.springs(step)) {
            engine::kill_self();
        }
        if stop.as_ref().is_some_and(|trap| trap.springs(step)) {
            engine::raise_stop();
        }
    })
}

/// How often a copy notes what is done.
pub(crate) fn checkpoint_every() -> Duration {
    let asked = std::env::var("BLOCKPRINT_DEBUG_CHECKPOINT_MS").ok();
    let asked = asked.and_then(|text| text.parse().ok()).map(Duration::from_millis);
    asked.unwrap_or(Duration::from_secs(5))
}

struct Trap {
    step: String,
    left: AtomicU32,
}

impl Trap {
    fn from_environment(name: &str) -> Option<Trap> {
        let text = std::env::var(name).ok()?;
        let (step, count) = match text.split_once(':') {
            Some((step, count)) => (step, count.parse().ok()?),
            None => (text.as_str(), 1),
        };
        Some(Trap { step: step.to_string(), left: AtomicU32::new(count) })
    }

    fn springs(&self, step: &str) -> bool {
        self.step == step && self.left.fetch_sub(1, Ordering::Relaxed) == 1
    }
}
