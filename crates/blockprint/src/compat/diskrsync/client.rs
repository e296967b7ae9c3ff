//! The client: two locations, of which either may be on another machine.

use std::ffi::OsStr;
use std::sync::Arc;

use engine::location::Place;
use engine::ops::sync::{self, Protocol, RemoteLines, ServeRole, SyncRequest, WireBytes};
use engine::remote::Ssh;
use engine::stores::Stores;
use engine::{Error, ErrorKind, Listener, Phase, Result, Task};

use super::args::Cli;
use super::bars::Bars;
use super::log;
use super::operand::Operand;
use crate::render::complain;
use crate::signals;

/// Makes the target like the source.
pub(super) fn run(cli: &Cli, program: &OsStr, source: &OsStr, target: &OsStr) -> Result<()> {
    let source = Operand::read(source)?;
    let target = Operand::read(target)?.or_in_folder(&source)?;
    let local = match (&source.host, &target.host) {
        (None, Some(_)) => Some(ServeRole::Source),
        (Some(_), None) => Some(ServeRole::Target),
        _ => None,
    };
    let target = target.place();
    refuse_folder(&target)?;
    let bars = Arc::new(Bars::new(cli.verbose));
    let request = SyncRequest {
        source: source.place(),
        target,
        stores: Stores::default(),
        end: super::end(cli),
        used_only: false,
        protocol: Protocol::Diskrsync,
        ssh: Ssh {
            flags: cli.ssh_flags(),
            remote_command: Some(cli.remote_command(program).to_string_lossy().into_owned()),
        },
        remote_progress: cli.verbose,
        remote_lines: RemoteLines::new({
            let bars = Arc::clone(&bars);
            move |role, line| bars.hear(role, line)
        }),
        compress_wire: false,
        limit_bytes_per_s: None,
        dry_run: false,
    };
    let ears = Ears { verbose: cli.verbose, bars: Arc::clone(&bars), side: local };
    let task = Task::new(Box::new(ears), signals::cancel_flag());
    let report = bars.watch(&task, || {
        let plan = sync::plan(request, &task)?;
        sync::perform(plan, &task)
    })?;
    if cli.verbose {
        complain(&statistics(report.wire.unwrap_or_default(), local));
    }
    Ok(())
}

/// A folder as target has a slash at its end, and becomes a file in it.
fn refuse_folder(target: &Place) -> Result<()> {
    match target {
        Place::Local(location) if location.path().is_dir() => {
            let name = location.path().display().to_string();
            let sentence = format!("cannot write {name}: is a directory (put a / behind it)");
            Err(Error::new(ErrorKind::Invalid, sentence).at(name, None))
        }
        _ => Ok(()),
    }
}

/// What went from the target to the source, and what went the other way; nothing did if both are here.
fn statistics(wire: WireBytes, here: Option<ServeRole>) -> String {
    let WireBytes { received_bytes, sent_bytes, relayed_bytes } = wire;
    let (read, wrote) = match here {
        Some(ServeRole::Source) => (received_bytes, sent_bytes),
        Some(ServeRole::Target) => (sent_bytes, received_bytes),
        None => (received_bytes - relayed_bytes, relayed_bytes),
    };
    format!("Read: {read}, wrote: {wrote}")
}

/// Hears what the work says.
struct Ears {
    verbose: bool,
    bars: Arc<Bars>,
    /// Which end is here.
    side: Option<ServeRole>,
}

impl Listener for Ears {
    fn began(&self, phase: Phase, total_bytes: u64) {
        self.bars.begin_here(self.side, phase, total_bytes);
    }

    fn noted(&self, sentence: &str) {
        if self.verbose {
            self.bars.line(&log::dated(sentence));
        }
    }

    fn warned(&self, sentence: &str) {
        self.bars.line(&log::dated(sentence));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_count_what_came_from_the_target_as_read() {
        let wire = |received_bytes, sent_bytes, relayed_bytes| WireBytes {
            received_bytes,
            sent_bytes,
            relayed_bytes,
        };
        let expected = "Read: 80, wrote: 17";
        assert_eq!(statistics(wire(80, 17, 0), Some(ServeRole::Source)), expected);
        assert_eq!(statistics(wire(17, 80, 0), Some(ServeRole::Target)), expected);
        assert_eq!(statistics(wire(97, 97, 17), None), expected);
        assert_eq!(statistics(WireBytes::default(), None), "Read: 0, wrote: 0");
    }
}
