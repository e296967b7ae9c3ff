//! Named steps of an operation, for whoever wants to stop, kill or watch it at one of them.

use std::fmt;
use std::sync::Arc;

/// Is told the name of each step that an operation has come to. By itself it does nothing: tests use it to end
/// the process at a chosen moment.
#[derive(Clone, Default)]
pub struct Steps(Option<Arc<dyn Fn(&'static str) + Send + Sync>>);

impl Steps {
    /// Calls `hook` at each step, from whichever thread comes to it; also while filesystems are frozen.
    pub fn new(hook: impl Fn(&'static str) + Send + Sync + 'static) -> Self {
        Steps(Some(Arc::new(hook)))
    }

    /// The operation has come to `step`; also called by a hook that wraps another one.
    pub fn reach(&self, step: &'static str) {
        if let Some(hook) = &self.0 {
            hook(step);
        }
    }
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Steps(hooked)" } else { "Steps" })
    }
}
