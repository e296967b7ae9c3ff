//! What a sync writes to: a device, a file in place, a new file, or a clone that takes the place of the old one.

mod begin;
mod claim;
mod held;

use std::ffi::OsString;
use std::num::NonZero;
use std::path::{Path, PathBuf};

use formats::spgz::{SpgzImage, rounded_block_bytes};
use image::layers::Checked;
use image::ranges::RangeSet;
use image::{Folder, Image, ImageMut, Phase, Replace, Result, Task};
use sys::{Directory, FileMedium};

use crate::location::Format;
use crate::ops::copy::forget_journal;
use crate::publish::publish;
use crate::target::{FileImage, Layout, NewPermissions, TargetKind, too_small};
use crate::{Steps, Threads};
pub(super) use claim::Claiming;
use claim::{Guard, nothing_to_trust};
use held::Held;

/// A claimed target. Nothing is changed before [`begin`](sync::Target::begin), and nothing at all in a dry run.
///
/// What is there when a sync does not come to its end: of a device and of a file in place, a mixture of old and new; of
/// any other, the old state under its name, and a partial file beside it, which the next sync goes on with.
pub(super) struct SyncTarget {
    path: PathBuf,
    kind: TargetKind,
    home: Home,
    base: Base,
    format: Format,
    /// What was asked for.
    block_bytes: Option<NonZero<u64>>,
    held: Checked<Held>,
    permissions: NewPermissions,
    steps: Steps,
    threads: Threads,
    task: Task,
    dry_run: bool,
    has_begun: bool,
    is_done: bool,
    /// Held until all is done, to keep others away.
    _guards: Vec<Guard>,
}

/// Where the image lies while it is written.
enum Home {
    Device,
    InPlace,
    File { directory: Directory, name: OsString, partial: OsString, replace: Replace },
}

/// What the image is before the first write.
enum Base {
    /// What is open already.
    Itself,
    /// A new file of no bytes.
    Nothing,
    /// A clone of this file, which is locked.
    CloneOf(FileMedium),
}

impl SyncTarget {
    /// Claims what is wanted, or refuses it. Writes nothing.
    ///
    /// # Errors
    ///
    /// `InUse` for what is mounted, attached, claimed or being written by another program; `TooSmall` for a device;
    /// `Invalid` for what cannot be the target, and for wishes that contradict what is there; `NotFound`, `Denied`;
    /// `Damaged` for a container whose header is.
    pub(super) fn claim(what: &Claiming<'_>, task: &Task) -> Result<Self> {
        what.claim(task)
    }

    /// What it is.
    pub(super) fn kind(&self) -> TargetKind {
        self.kind
    }

    /// Where it is, or will be in the end; links are followed.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The format that it has or gets.
    pub(super) fn format(&self) -> Format {
        self.format
    }

    /// The length of its blocks in bytes, if it is or will be a container.
    pub(super) fn block_bytes(&self) -> Option<u64> {
        let will_have = || {
            let asked = self.block_bytes.map(|asked| rounded_block_bytes(asked.get()).ok());
            asked.unwrap_or(Some(SpgzImage::<FileMedium>::BLOCK_BYTES_DEFAULT))
        };
        let is_container = self.format == Format::Spgz;
        let has = self.held.get_ref().block_bytes();
        has.or_else(|| will_have().filter(|_| is_container))
    }

    /// Whether what is compared and written is a partial file, of which nobody else knows: from the beginning on, if an
    /// interrupted sync left it, else since [`begin`](sync::Target::begin).
    pub(super) fn is_ours_alone(&self) -> bool {
        let is_open = self.has_begun || matches!(self.base, Base::Itself);
        matches!(self.home, Home::File { .. }) && is_open
    }

    /// Damaged blocks of a container that were made anew.
    pub(super) fn repaired(&self) -> RangeSet {
        self.held.get_ref().repaired()
    }

    /// For people, after a failure: what is there now, and what to do. `None` if nothing was changed.
    pub(super) fn left_behind(&self) -> Option<String> {
        if !self.has_begun || self.is_done {
            return None;
        }
        let path = self.path.display();
        Some(match self.partial_path() {
            Some(partial) => format!(
                "what was synced is kept in {}; the same command goes on from it",
                partial.display()
            ),
            None => format!(
                "{path} now holds a mixture of old and new; the same command makes it right"
            ),
        })
    }

    /// Where the image lies until it is complete, if not where it will be.
    pub(super) fn partial_path(&self) -> Option<PathBuf> {
        match &self.home {
            Home::File { partial, .. } => Some(self.path.with_file_name(partial)),
            _ => None,
        }
    }

    /// Makes the file that will be written, if it is not there yet.
    fn make_ready(&mut self) -> Result<()> {
        let Home::File { directory, partial, .. } = &self.home else { return Ok(()) };
        let partial_path = self.path.with_file_name(partial);
        let made = match &self.base {
            Base::Itself => return Ok(()),
            Base::Nothing => {
                let medium = begin::anew(directory, partial, &partial_path)?;
                FileImage::create(medium, 0, self.layout())
                    .map(|image| Held::of_image(image, &self.steps))
            }
            Base::CloneOf(old) => {
                let medium = begin::anew(directory, partial, &partial_path)?;
                begin::fill_with(old, &medium, self.threads, &self.task)
                    .and_then(|()| Held::file(medium, self.format, &self.steps))
            }
        };
        match made {
            Ok(held) => self.held = Checked::new(held),
            Err(error) => {
                return Err(match directory.remove(partial) {
                    Ok(()) => error.and("nothing was changed"),
                    Err(_) => error.and(format!("{} was left behind", partial_path.display())),
                });
            }
        }
        Ok(())
    }

    fn layout(&self) -> Layout {
        match self.format {
            Format::Spgz => Layout::Spgz { block_bytes: self.block_bytes },
            _ => Layout::Raw,
        }
    }
}

impl sync::Target for SyncTarget {
    fn size_bytes(&self) -> u64 {
        self.held.size()
    }

    fn may_be_partial(&self) -> Result<()> {
        match (&self.home, &self.base) {
            (Home::File { .. }, Base::Nothing | Base::Itself) => Err(nothing_to_trust(&self.path)),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, source_bytes: u64) -> Result<()> {
        if self.held.get_ref().is_device() {
            let has_bytes = self.held.size();
            too_small(&self.path, has_bytes, source_bytes)?;
            if has_bytes > source_bytes {
                self.task.note(format!(
                    "{} is {} bytes larger than the image; the rest of it stays as it is",
                    self.path.display(),
                    has_bytes - source_bytes
                ));
            }
        }
        if self.dry_run {
            return Ok(());
        }
        // What a copy to this target may have noted as done is not there any more.
        forget_journal(&self.path, self.kind)?;
        self.make_ready()?;
        self.has_begun = true;
        self.steps.reach("begun");
        Ok(())
    }

    fn image(&self) -> &dyn ImageMut {
        &self.held
    }

    fn resize(&mut self, size_bytes: u64) -> Result<()> {
        if self.held.get_ref().is_device() {
            return too_small(&self.path, self.held.size(), size_bytes);
        }
        self.held.resize(size_bytes)
    }

    fn finish(&mut self) -> Result<()> {
        if self.dry_run {
            return Ok(());
        }
        self.task.begin(Phase::Flush, 0);
        self.held.flush()?;
        let partial_path = self.partial_path();
        match (&self.home, self.held.get_ref().medium(), partial_path) {
            (Home::File { directory, name, partial, replace }, Some(medium), Some(shown)) => {
                // Whatever fails from here on, the image is complete.
                self.is_done = true;
                self.permissions
                    .apply(medium, &shown)
                    .and_then(|()| publish(directory, medium, partial, name, *replace, &self.steps))
                    .map_err(|error| {
                        error.and(format!("the complete image is kept in {}", shown.display()))
                    })?;
            }
            _ => self.steps.reach("flushed"),
        }
        self.is_done = true;
        Ok(())
    }
}
