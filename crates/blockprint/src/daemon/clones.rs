//! Images of partitions: from a request to a backup.

use std::path::{Path, PathBuf};

use engine::backup_name::BackupName;
use engine::jobs::JobId;
use engine::ops::backup::{self, BackupRequest};
use engine::partitions::{Compression, Variant};
use engine::{Error, ErrorKind, LocalTime, Result, Steps, Task, Threads};

use super::inbound::PathText;
use super::log;
use super::sources::Part;
use super::view::Outcome;
use super::work::{Event, Work, refuse_relative, resolved};
use crate::{debug, journal};

/// What a client wants.
pub(super) struct Wish {
    pub(super) source: PathText,
    pub(super) destination: PathText,
    pub(super) name: String,
    pub(super) compression: Option<String>,
}

/// Begins with it.
pub(super) fn start(work: &Work, id: JobId, wish: Wish) {
    work.start(id, "clone", move |work, id, task| clone(work, id, &wish, task));
}

fn clone(work: &Work, id: &JobId, wish: &Wish, task: &Task) -> Result<Outcome> {
    let source = wish.source.resolve();
    // Without a slash at the end, and without two in the middle.
    let folder: PathBuf = wish.destination.resolve().components().collect();
    let compression = match wish.compression.as_deref() {
        None => Ok(Compression::Gz),
        Some(name) => by_name(name),
    };
    let tell = |file_name: &str, source_uuid: Option<String>| {
        work.post(Event::Named {
            id: id.clone(),
            source: source.display().to_string(),
            destination: folder.join(file_name).display().to_string(),
            source_uuid,
        });
    };
    let name_for = |part: Option<&Part>| {
        let kind = part.and_then(|part| part.kind.as_deref());
        let named = file_name(work, &wish.name, kind, compression.as_ref().ok().copied());
        tell(named.shown(), part.and_then(|part| part.uuid.clone()));
        named
    };
    // By what was seen before, in case the look takes its time: the first message does not wait for it.
    name_for(work.known(&source).as_ref());
    let part = work.look_up(&source);
    let named = name_for(part.as_ref());
    let kind = part.as_ref().and_then(|part| part.kind.as_deref());
    let uuid = part.as_ref().and_then(|part| part.uuid.clone());

    let compression = compression?;
    let named = named.refuse()?;
    refuse_relative(&source)?;
    refuse_relative(&folder)?;
    work.refuse_used(&source, part.as_ref())?;
    claim(work, id, &source, &folder.join(&named))?;
    let has_stand_in = work.settings.stand_in.is_some();
    let kind = match (kind, has_stand_in || work.settings.lsblk.is_some()) {
        (Some(kind), true) => Some(kind.to_string()),
        // What nobody knows is copied as it is: a stand-in may be given devices that are not there.
        (None, _) if has_stand_in => Some(Variant::DD.name().to_string()),
        // Better known by a look at the device itself.
        _ => None,
    };
    let plan = backup::plan(
        BackupRequest {
            source: source.clone(),
            folder: folder.clone(),
            name: Some(wish.name.clone()),
            compression,
            level: None,
            verify: work.settings.verify,
            filesystem: kind,
            partclone: work.partclone(),
            mode: work.settings.image_mode,
            limit_bytes_per_s: None,
            threads: Threads::Automatic,
            on_report: work.on_report(id),
            steps: ready_once_created(work, id),
        },
        task,
    )?;
    let planned = plan.destination.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if planned != named {
        claim(work, id, &source, &folder.join(&planned))?;
    }
    tell(&planned, uuid.or_else(|| plan.filesystem.uuid.clone()));
    let report = backup::perform(plan, task)?;
    let sha256 = match report.verified {
        true => backup::sha256(&report.destination, task)
            .map_err(|error| log::warn(&error.full_sentence()))
            .ok(),
        false => None,
    };
    Ok(Outcome { image_bytes: Some(report.image_bytes), verified: report.verified, sha256 })
}

/// The first message follows the unfinished file: whoever hears it may look for that.
fn ready_once_created(work: &Work, id: &JobId) -> Steps {
    let (work, id, steps) = (work.clone(), id.clone(), debug::steps());
    Steps::new(move |step| {
        steps.reach(step);
        if step == "created" {
            work.post(Event::Ready { id: id.clone() });
        }
    })
}

fn by_name(name: &str) -> Result<Compression> {
    // `zstd` is a name of old files, not of a choice.
    Compression::ALL.into_iter().find(|compression| compression.name() == name).ok_or_else(|| {
        let names = Compression::ALL.map(Compression::name).join(", ");
        Error::new(ErrorKind::Invalid, format!("there is no compression {name:?}, but {names}"))
    })
}

/// The name that an image gets, or the one that it is spoken of by, and why it cannot have one.
enum Named {
    Well(String),
    Badly(String, Error),
}

impl Named {
    fn shown(&self) -> &str {
        match self {
            Named::Well(name) | Named::Badly(name, _) => name,
        }
    }

    fn refuse(self) -> Result<String> {
        match self {
            Named::Well(name) => Ok(name),
            Named::Badly(_, error) => Err(error),
        }
    }
}

/// The name as far as it is known before anything was looked at.
fn file_name(
    work: &Work,
    stem: &str,
    kind: Option<&str>,
    compression: Option<Compression>,
) -> Named {
    let has_program = |variant: &Variant| {
        work.partclone().is_some_and(|partclone| partclone.program(*variant).is_some())
    };
    let variant = kind.and_then(Variant::by_name).filter(has_program).unwrap_or(Variant::DD);
    let compression = compression.unwrap_or(Compression::Gz);
    let now = LocalTime::now();
    match BackupName::compose(stem, now, variant, compression) {
        Ok(name) => Named::Well(name),
        Err(error) => {
            // Clients show what has a name of this form only.
            let harmless = |character: char| match character {
                '/' => '_',
                _ if character.is_control() => '_',
                _ => character,
            };
            let harmless: String = stem.chars().map(harmless).take(40).collect();
            let name = [harmless.as_str(), "image"]
                .into_iter()
                .find_map(|stem| BackupName::compose(stem, now, variant, compression).ok());
            Named::Badly(name.unwrap_or_default(), error)
        }
    }
}

/// Nobody else may touch the image, or write to what it is made of.
fn claim(work: &Work, id: &JobId, source: &Path, image: &Path) -> Result<()> {
    work.jobs.claim_more(id, journal::claims("clone", resolved(source), resolved(image)))
}
