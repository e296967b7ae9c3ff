//! `blockprint backups`.

use std::path::PathBuf;
use std::process::ExitCode;

use engine::Result;
use engine::ops::backups::{self, Backup};

use crate::args::BackupsArgs;
use crate::render::{Face, Report, Wanted, json, text};

pub(super) fn run(args: BackupsArgs, face: &Face) -> Result<ExitCode> {
    let backups = face.run(|task| backups::list(&args.folder, task))?;
    face.report(&Listed { folder: args.folder, backups }, Wanted::Always);
    Ok(ExitCode::SUCCESS)
}

/// The backups of a folder.
struct Listed {
    folder: PathBuf,
    backups: Vec<Backup>,
}

impl Report for Listed {
    fn text(&self) -> String {
        text::backups(&self.folder, &self.backups)
    }
    fn json(&self) -> serde_json::Value {
        json::backups(&self.folder, &self.backups)
    }
}
