//! Contract suites: what each implementation of a trait must do, asked from outside.
//!
//! A suite makes fresh subjects through the closure that it is given, and tries rule after rule on them. It
//! fails at its end, with the list of the rules that are broken: each is a sentence, followed by the numbers.
//!
//! ```
//! use image::MemoryMedium;
//! use testkit::contract::{MediumRules, check_medium};
//!
//! check_medium(|len_bytes| MemoryMedium::new("scratch", len_bytes), MediumRules::file());
//! ```
//!
//! Where chance decides, the seed stands in the message, and `TESTKIT_SEED=…` repeats it.

mod folder;
mod image;
mod image_mut;
mod medium;
mod model;
mod plain;
mod random;
mod rules;
mod store;

pub use folder::check_folder;
pub use image::check_image;
pub use image_mut::{check_image_mut, check_image_mut_reopened};
pub use medium::{check_medium, check_medium_reopened};
pub use plain::PlainImage;
pub use rules::{ImageRules, MediumRules, Resizing};
pub use store::{StoreRules, check_store};

use std::thread;

/// The rules that were broken so far.
struct Suite {
    subject: &'static str,
    broken: Vec<String>,
}

impl Suite {
    fn new(subject: &'static str) -> Self {
        Suite { subject, broken: Vec::new() }
    }

    /// Tries the rule that `check` is about; `name` is the name of its function.
    fn rule(&mut self, name: &str, check: impl FnOnce()) {
        if let Err(message) = crate::caught(check) {
            self.broken.push(format!("{}: {message}", name.replace('_', " ")));
        }
    }

    fn finish(self) {
        assert!(
            self.broken.is_empty(),
            "{} broken rules of the contract of {}:\n- {}",
            self.broken.len(),
            self.subject,
            self.broken.join("\n- ")
        );
    }
}

/// Tries functions as rules: their names are the sentences of the suite.
macro_rules! try_rules {
    ($suite:ident, $bench:ident: $($rule:ident),+ $(,)?) => {
        $($suite.rule(stringify!($rule), || $rule(&mut $bench));)+
    };
}
use try_rules;

/// The value of a call that has to work.
fn must<T>(result: ::image::Result<T>, what: impl FnOnce() -> String) -> T {
    result.unwrap_or_else(|error| panic!("{}: {error:?}", what()))
}

/// Runs all of `works` at once. A panic in one of them keeps its words.
fn together(works: Vec<Box<dyn FnOnce() + Send + '_>>) {
    let failed = thread::scope(|scope| {
        let threads: Vec<_> = works.into_iter().map(|work| scope.spawn(work)).collect();
        threads.into_iter().filter_map(|thread| thread.join().err()).next_back()
    });
    if let Some(panic) = failed {
        std::panic::resume_unwind(panic);
    }
}
