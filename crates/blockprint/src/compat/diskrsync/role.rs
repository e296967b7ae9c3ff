//! The end that a client calls: speaks diskrsync's protocol on standard input and output, and says on standard error how
//! far it is.

use std::ffi::OsString;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::location::Location;
use engine::ops::sync::{self, DiskrsyncShape, ServeRequest, ServeRole};
use engine::{Listener, Phase, Result, Task};

use super::args::Cli;
use super::progress::{Teller, UPDATE_EVERY};
use super::{log, meanwhile};
use crate::signals;

/// Serves until the sync is done.
pub(super) fn run(cli: &Cli, role: ServeRole, path: OsString) -> Result<()> {
    let teller = Arc::new(Mutex::new(Teller::new(cli.calc_progress, cli.sync_progress)));
    let ears = Ears { verbose: cli.verbose, teller: Arc::clone(&teller) };
    let task = Task::new(Box::new(ears), signals::cancel_flag());
    let request = ServeRequest {
        role,
        location: Location { format: None, path: path.into() },
        end: super::end(cli),
        diskrsync: true,
        dry_run: false,
    };
    let look = || {
        if let Some(progress) = task.progress() {
            tell(&mut lock(&teller), |teller| teller.look(progress));
        }
    };
    meanwhile(UPDATE_EVERY, look, || sync::serve(request, &task))?;
    tell(&mut lock(&teller), Teller::end);
    Ok(())
}

/// Hears what the work says.
struct Ears {
    verbose: bool,
    teller: Arc<Mutex<Teller>>,
}

impl Listener for Ears {
    fn began(&self, phase: Phase, total_bytes: u64) {
        if self.verbose && phase == Phase::Hash {
            log::line(&levels(total_bytes));
        }
        tell(&mut lock(&self.teller), |teller| teller.begin(phase, total_bytes));
    }

    fn noted(&self, sentence: &str) {
        if self.verbose {
            log::line(sentence);
        }
    }

    fn warned(&self, sentence: &str) {
        log::line(sentence);
    }
}

/// The shape of the tree, as that tool says it.
fn levels(common_bytes: u64) -> String {
    let shape = DiskrsyncShape::of(common_bytes);
    let leaves = shape.order.saturating_pow(shape.levels.saturating_sub(1)).max(1);
    format!(
        "Levels: {}, order: {}, target block size: {}, block size: {}",
        shape.levels,
        shape.order,
        shape.target_block_bytes,
        common_bytes / leaves
    )
}

/// Writes what the teller says while nobody else can: lines are not to be mixed up.
fn tell(teller: &mut Teller, say: impl FnOnce(&mut Teller) -> String) {
    let lines = say(teller);
    // Nobody may read them; the work goes on.
    let _ = io::stderr().lock().write_all(lines.as_bytes());
}

fn lock(teller: &Mutex<Teller>) -> MutexGuard<'_, Teller> {
    teller.lock().unwrap_or_else(PoisonError::into_inner)
}
