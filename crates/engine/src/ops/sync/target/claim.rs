//! Claiming a target: which format it has or gets, what its content is to begin with, and what is refused.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use formats::probe;
use formats::spgz::rounded_block_bytes;
use image::layers::Checked;
use image::{Error, ErrorKind, Replace, Result, Task};
use sys::{Access, DeviceMedium, FileMedium};

use super::held::Held;
use super::{Base, Home, SyncTarget};
use crate::location::{Format, Location};
use crate::ops::sync::EndRequest;
use crate::registry::{self, Facts, MediumKind};
use crate::target::{Claim, Hold, Layout, TargetKind, Wanted, lock_alone, refuse_same};

/// What is to become a target.
pub(in crate::ops::sync) struct Claiming<'a> {
    /// Where it is, or will be; in a folder, it gets the source's name.
    pub(in crate::ops::sync) location: &'a Location,
    /// How it is to be written.
    pub(in crate::ops::sync) end: &'a EndRequest,
    /// What the source is, if that is on this machine.
    pub(in crate::ops::sync) source: Option<&'a Facts>,
    /// The name of a source that is elsewhere.
    pub(in crate::ops::sync) source_name: Option<&'a OsStr>,
    /// Nothing is to be written.
    pub(in crate::ops::sync) dry_run: bool,
}

impl Claiming<'_> {
    /// Claims it. Writes nothing.
    pub(super) fn claim(&self, task: &Task) -> Result<SyncTarget> {
        let wish = self.wish()?;
        let path = self.path(wish);
        let new_format = new_format(wish, &path);
        let is_empty = fs::metadata(&path).is_ok_and(|found| found.is_file() && found.len() == 0);
        // A file of no bytes is no image that anybody could miss.
        let counts_as_missing =
            is_empty && (self.end.content_decides || wish == Some(Format::Spgz));
        let claim = Claim::new(Wanted {
            path,
            size_bytes: self.source.map_or(0, |facts| facts.size_bytes),
            new_mode: self.new_mode(),
            layout: Layout::Raw,
            force: true,
            in_place: !self.end.atomic && !counts_as_missing,
            apart: &|path, found| self.refuse_inputs(path, found),
            is_finished: &|_, _| false,
        })?;
        let kind = claim.kind();
        let (path, hold, permissions) = claim.into_parts();
        let steps = &self.end.steps;
        let mut guards = Vec::new();
        let (home, base, format, held) = match hold {
            Hold::Device { medium } => {
                self.refuse_for_device(&path, wish)?;
                let held = match self.dry_run {
                    true => {
                        let reader = DeviceMedium::open(&path, Access::Read)?;
                        guards.push(Guard::Device { _claimed: medium });
                        Held::device(reader, steps)?
                    }
                    false => Held::device(medium, steps)?,
                };
                (Home::Device, Base::Itself, Format::Raw, held)
            }
            Hold::InPlace { medium } => {
                let format = self.format_of(&path, &medium, wish, task)?;
                let medium = self.for_reading(&path, medium, &mut guards)?;
                (Home::InPlace, Base::Itself, format, Held::file(medium, format, steps)?)
            }
            Hold::File { directory, name, partial, replace } => {
                let partial_path = path.with_file_name(&partial);
                if let Ok(found) = fs::metadata(&partial_path) {
                    self.refuse_inputs(&partial_path, &found)?;
                }
                let replaces_content = replace == Replace::Allowed && !counts_as_missing;
                let (base, format) = match replaces_content {
                    true => {
                        let old = FileMedium::open(&path, Access::Read)?;
                        lock_alone(&old, &path)?;
                        let format = self.format_of(&path, &old, wish, task)?;
                        (Base::CloneOf(old), format)
                    }
                    false => (Base::Nothing, new_format),
                };
                self.check_wished_blocks(&path, format)?;
                let leftover = self.leftover(&partial_path, format, &mut guards)?;
                let (base, held) = match (leftover, base) {
                    (Some(held), Base::CloneOf(old)) => {
                        guards.push(Guard::File { _locked: old });
                        (Base::Itself, held)
                    }
                    (Some(held), _) => (Base::Itself, held),
                    (None, Base::CloneOf(old)) => {
                        let reader = FileMedium::open(&path, Access::Read)?;
                        (Base::CloneOf(old), Held::file(reader, format, steps)?)
                    }
                    (None, base) => (base, Held::nothing(steps)?),
                };
                (Home::File { directory, name, partial, replace }, base, format, held)
            }
        };
        let old_is_there = matches!(base, Base::CloneOf(_)) || !matches!(home, Home::File { .. });
        if self.end.since.is_some() && !old_is_there {
            return Err(nothing_to_trust(&path));
        }
        let target = SyncTarget {
            path,
            kind,
            home,
            base,
            format,
            block_bytes: self.end.block_bytes,
            held: Checked::new(held),
            permissions,
            steps: steps.clone(),
            threads: self.end.threads,
            task: task.clone(),
            dry_run: self.dry_run,
            has_begun: false,
            is_done: false,
            _guards: guards,
        };
        target.say_of_blocks(task);
        steps.reach("claimed");
        Ok(target)
    }

    /// The format that was asked for.
    fn wish(&self) -> Result<Option<Format>> {
        let name = self.location.path().display().to_string();
        if self.location.format == Some(Format::Index) || self.end.format == Some(Format::Index) {
            let sentence =
                format!("cannot sync to the index {name} (`blockprint make` makes indexes)");
            return Err(Error::new(ErrorKind::Invalid, sentence).at(name, None));
        }
        let formats = [self.location.format, self.end.format];
        if formats.into_iter().flatten().any(Format::is_backup) {
            let sentence =
                format!("cannot sync to the backup {name} (`blockprint backup` makes backups)");
            return Err(Error::new(ErrorKind::Invalid, sentence).at(name, None));
        }
        match (self.location.format, self.end.format) {
            (Some(prefix), Some(option)) if prefix != option && !self.end.content_decides => {
                let sentence = format!(
                    "{} says that the target is {}, and --format that it is {} (leave one of them out)",
                    self.location,
                    prefix.name(),
                    option.name()
                );
                Err(Error::new(ErrorKind::Invalid, sentence).at(name, None))
            }
            (prefix, option) => Ok(prefix.or(option)),
        }
    }

    /// The file or device; in a folder, the source's name, with an end that says what it becomes.
    fn path(&self, wish: Option<Format>) -> PathBuf {
        let mut path = self.location.path().to_owned();
        let source = self.source.map(|facts| facts.path.as_path());
        let name = source.and_then(Path::file_name).or(self.source_name);
        let Some(name) = name.filter(|_| path.is_dir()) else { return path };
        if let Some(facts) = self.source.filter(|facts| facts.format.is_backup()) {
            path.push(registry::unpacked_name(&facts.path));
        } else {
            path.push(name);
        }
        let is_index = self.source.is_some_and(|facts| facts.format == Format::Index);
        let is_container = registry::is_named_container(&path);
        if is_index || is_container && wish == Some(Format::Raw) && !self.end.content_decides {
            path.set_extension("");
        }
        if wish == Some(Format::Spgz) && !is_container && !self.end.content_decides {
            path.as_mut_os_string().push(".spgz");
        }
        path
    }

    /// As `cp` does it for a file. A copy of a device is for its owner only, since it may hold everybody's secrets.
    fn new_mode(&self) -> u32 {
        match self.source.map(|facts| (facts.medium, fs::metadata(&facts.path))) {
            None => 0o666 & !sys::umask(),
            Some((MediumKind::File, Ok(metadata))) => metadata.mode() & !sys::umask(),
            Some(_) => 0o600,
        }
    }

    /// The target is none of what is read.
    fn refuse_inputs(&self, path: &Path, found: &Metadata) -> Result<()> {
        let Some(source) = self.source else { return Ok(()) };
        refuse_same(&source.path, path, found)?;
        self.end.since.as_deref().map_or(Ok(()), |clone| refuse_same(clone, path, found))
    }

    fn refuse_for_device(&self, path: &Path, wish: Option<Format>) -> Result<()> {
        let name = path.display().to_string();
        let what = if wish == Some(Format::Spgz) && !self.end.content_decides {
            "a container is a file (a device gets the image itself)"
        } else if self.end.atomic {
            "only a file can be replaced in one step (leave --atomic out)"
        } else if self.end.block_bytes.is_some() && !self.end.content_decides {
            "a block size is for containers, which are files"
        } else {
            return Ok(());
        };
        let sentence = format!("{name} is a device, and {what}");
        Err(Error::new(ErrorKind::Invalid, sentence).at(name, None))
    }

    /// The format of the file that is there. It keeps it: another wish is refused.
    fn format_of(
        &self,
        path: &Path,
        medium: &FileMedium,
        wish: Option<Format>,
        task: &Task,
    ) -> Result<Format> {
        let name = path.display().to_string();
        let begins = registry::begins_like_container(medium)?;
        let content_counts = self.end.content_decides
            || registry::is_named_container(path)
            || self.location.format == Some(Format::Spgz)
            || wish == Some(Format::Spgz);
        let has = if begins && content_counts { Format::Spgz } else { Format::Raw };
        match (wish, has) {
            (Some(Format::Spgz), Format::Raw) if !self.end.content_decides => {
                let sentence = format!(
                    "{name} is no spgz container, and stays what it is (leave spgz out, or move the file away so that a \
                     container is made)"
                );
                return Err(Error::new(ErrorKind::Invalid, sentence).at(name, None));
            }
            // What a prefix says is meant: these bytes, whatever they look like.
            (Some(Format::Raw), Format::Spgz) if self.location.format != Some(Format::Raw) => {
                let sentence = format!(
                    "{name} is an spgz container, and stays one (leave --format out, or write raw:{name} to overwrite it with \
                     the bytes of the image)"
                );
                return Err(Error::new(ErrorKind::Invalid, sentence).at(name, None));
            }
            (Some(Format::Raw), Format::Spgz) => return Ok(Format::Raw),
            _ => {}
        }
        if has == Format::Raw && self.location.format.is_none() {
            if registry::is_index(&Location { format: None, path: path.to_owned() }, medium)? {
                let sentence = format!(
                    "{name} is a chunk index, and no image that could be synced to (write raw:{name} to overwrite it)"
                );
                return Err(Error::new(ErrorKind::Invalid, sentence).at(name, None));
            }
            let as_it_is = Location { format: None, path: path.to_owned() };
            if registry::backup_format(&as_it_is)?.is_some() {
                let sentence = format!(
                    "{name} is a backup, and no image that could be synced to (write raw:{name} to overwrite it)"
                );
                return Err(Error::new(ErrorKind::Invalid, sentence).at(name, None));
            }
            if let Some(found) = probe::looks_foreign(medium)? {
                task.warn(format!(
                    "{name} looks like a {} file; its bytes become those of the image",
                    found.name
                ));
            }
        }
        Ok(has)
    }

    /// A block size is for containers.
    fn check_wished_blocks(&self, path: &Path, format: Format) -> Result<()> {
        match self.end.block_bytes {
            Some(asked) if format == Format::Spgz => rounded_block_bytes(asked.get()).map(drop),
            Some(_) if !self.end.content_decides => {
                let name = path.display().to_string();
                let sentence = format!(
                    "a block size is for containers, and {name} will be none (--format spgz makes it one)"
                );
                Err(Error::new(ErrorKind::Invalid, sentence).at(name, None))
            }
            _ => Ok(()),
        }
    }

    /// What an interrupted sync has left to be gone on with: compared as a whole, whatever it holds is a beginning. If
    /// only a part is to be compared, it is not.
    fn leftover(
        &self,
        path: &Path,
        format: Format,
        guards: &mut Vec<Guard>,
    ) -> Result<Option<Held>> {
        let medium = match FileMedium::open(path, Access::Write) {
            Ok(medium) => medium,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        lock_alone(&medium, path)?;
        let is_container = registry::begins_like_container(&medium)?;
        if self.end.since.is_some() || is_container != (format == Format::Spgz) {
            return Ok(None);
        }
        let medium = self.for_reading(path, medium, guards)?;
        let held = match Held::file(medium, format, &self.end.steps) {
            // Cut off where nothing can be made of it.
            Err(error) if error.kind() == ErrorKind::Damaged => return Ok(None),
            held => held?,
        };
        let asked =
            self.end.block_bytes.map(|asked| rounded_block_bytes(asked.get())).transpose()?;
        Ok(Some(held).filter(|held| asked.is_none() || held.block_bytes() == asked))
    }

    /// In a dry run, the same file for reading only; the lock is held all the same.
    fn for_reading(
        &self,
        path: &Path,
        medium: FileMedium,
        guards: &mut Vec<Guard>,
    ) -> Result<FileMedium> {
        if !self.dry_run {
            return Ok(medium);
        }
        let reader = FileMedium::open(path, Access::Read)?;
        guards.push(Guard::File { _locked: medium });
        Ok(reader)
    }
}

/// What keeps others away, and is never written.
pub(super) enum Guard {
    File { _locked: FileMedium },
    Device { _claimed: DeviceMedium },
}

/// The format of a file that is made: raw, unless a wish or its name says otherwise.
fn new_format(wish: Option<Format>, path: &Path) -> Format {
    match wish {
        Some(format) => format,
        None if registry::is_named_container(path) => Format::Spgz,
        None => Format::Raw,
    }
}

/// The error where only a part would be compared, and there is nothing to take on trust for the rest.
pub(super) fn nothing_to_trust(path: &Path) -> Error {
    let name = path.display().to_string();
    let sentence = format!(
        "nothing complete stands at {name} that could have been synced before, so that all of it has to be compared (leave \
         --since out)"
    );
    Error::new(ErrorKind::Invalid, sentence).at(name, None)
}

impl SyncTarget {
    /// A container keeps the size of its blocks.
    fn say_of_blocks(&self, task: &Task) {
        if matches!(self.kind, TargetKind::NewFile) {
            return;
        }
        if let (Some(asked), Some(has)) = (self.block_bytes, self.held.get_ref().block_bytes())
            && !rounded_block_bytes(asked.get()).is_ok_and(|asked| asked == has)
        {
            let name = self.path.display();
            task.note(format!("{name} keeps its blocks of {has} bytes"));
        }
    }
}
