//! `blockprint devices`.

use std::process::ExitCode;

use engine::Result;
use engine::devices::{self, Device};

use crate::args::DevicesArgs;
use crate::render::{Face, Report, Wanted, json, text};

pub(super) fn run(args: &DevicesArgs, face: &Face) -> Result<ExitCode> {
    let devices = if !args.devices.is_empty() {
        args.devices.iter().map(|path| devices::look(path)).collect::<Result<Vec<_>>>()?
    } else if args.all {
        devices::list_all()?
    } else {
        devices::list()?
    };
    face.report(&Listed(devices), Wanted::Always);
    Ok(ExitCode::SUCCESS)
}

/// The devices of a listing.
struct Listed(Vec<Device>);

impl Report for Listed {
    fn text(&self) -> String {
        text::devices(&self.0)
    }
    fn json(&self) -> serde_json::Value {
        json::devices(&self.0)
    }
}
