//! Make an image of a partition: of its used blocks, in partclone's format, compressed.

mod naming;
mod pack;
mod partclone;
mod readback;
mod source;
#[cfg(test)]
mod tests;
mod unfinished;
mod work;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use filesystems::partclone::{Partclone, Variant};
use filesystems::{Filesystem, Used, used_blocks};
use formats::packed::Compression;
use image::{Error, ErrorKind, Phase, Result, Task};

use crate::partclone::OnReport;
use crate::{Steps, Threads};
pub use readback::sha256;
use source::Source;
use unfinished::Unfinished;

/// What is to be imaged where.
#[derive(Clone)]
pub struct BackupRequest {
    /// The partition. A regular file with a filesystem in it will do.
    pub source: PathBuf,
    /// The folder that the image goes to.
    pub folder: PathBuf,
    /// The stem of the file's name; by default the label, else the device's name.
    pub name: Option<String>,
    /// How it is compressed.
    pub compression: Compression,
    /// How hard, as the compression's tool counts it.
    pub level: Option<i32>,
    /// Read the image back, as a filesystem's image, and compare it with the partition.
    pub verify: bool,
    /// The filesystem, if the caller knows better than blkid.
    pub filesystem: Option<String>,
    /// Where partclone is: by default where it is installed. Stand-ins do all the work themselves.
    pub partclone: Option<Partclone>,
    /// Permissions of the image.
    pub mode: u32,
    /// Read at most so many bytes a second.
    pub limit_bytes_per_s: Option<u64>,
    /// How many threads.
    pub threads: Threads,
    /// Hears what partclone says, where it does the work.
    pub on_report: Option<OnReport>,
    /// Told of each step.
    pub steps: Steps,
}

/// A backup that can be made: nothing is written.
pub struct BackupPlan {
    /// What is read, links followed.
    pub source: PathBuf,
    /// What is on it.
    pub filesystem: Filesystem,
    /// The variant in the image's name.
    pub variant: Variant,
    /// The image. Until it is whole, `.inprogress` stands behind its name.
    pub destination: PathBuf,
    /// Size of the partition in bytes.
    pub device_bytes: u64,
    /// Bytes in used blocks; `None` where that is not known, and all is read.
    pub used_bytes: Option<u64>,
    request: BackupRequest,
    /// Stand-ins for partclone may image what is not there.
    opened: Option<Source>,
    /// Which blocks are used, once that was asked.
    map: Option<Used>,
}

/// What a backup did.
#[derive(Clone, Debug)]
pub struct BackupReport {
    /// What was read.
    pub source: PathBuf,
    /// The image.
    pub destination: PathBuf,
    /// The filesystem's kind, label and UUID.
    pub filesystem: Filesystem,
    /// The variant in the image's name.
    pub variant: Variant,
    /// Size of the partition in bytes.
    pub device_bytes: u64,
    /// Bytes in used blocks; `None` where all was read.
    pub used_bytes: Option<u64>,
    /// Size of the image in bytes.
    pub image_bytes: u64,
    /// Whether the image was read back and found equal.
    pub verified: bool,
    /// Whether partclone wrote the stream.
    pub by_partclone: bool,
    /// How long it took.
    pub elapsed: Duration,
}

/// Looks at the partition, chooses the image's name, and refuses what has to be refused. Writes nothing, and is quick:
/// which blocks are used is asked later.
///
/// # Errors
///
/// `NotFound`, `Denied`; `InUse` for a partition that is mounted or held, with the mount point; `Exists` for an image, or an
/// unfinished one, of the same name; `Full` where even the least that it can need does not fit; `Invalid` for a name.
pub fn plan(request: BackupRequest, task: &Task) -> Result<BackupPlan> {
    let opened = match Source::claim(&request.source) {
        Ok(source) => Some(source),
        Err(error) if is_stub(&request) => {
            task.warn(format!("{} (left to the stand-in for partclone)", error.full_sentence()));
            None
        }
        Err(error) => return Err(error),
    };
    let source = opened.as_ref().map_or(&*request.source, |source| source.path()).to_owned();
    let device_bytes = opened.as_ref().map_or(0, |source| source.image().size());
    let filesystem = naming::filesystem(&request, opened.as_ref(), task);
    let variant = naming::variant(&request, opened.as_ref(), &filesystem, task)?;
    let destination = naming::destination(&request, &filesystem, variant)?;
    let plan = BackupPlan {
        source,
        filesystem,
        variant,
        destination,
        device_bytes,
        used_bytes: None,
        request,
        opened,
        map: None,
    };
    let is_whole = plan.opened.as_ref().is_some_and(Source::is_device);
    if plan.variant.is_raw() && is_whole && !is_stub(&plan.request) {
        let folder = sys::Directory::of(&plan.destination)?;
        plan.refuse_full(device_bytes, sys::available_bytes(&folder).ok())?;
    }
    Ok(plan)
}

/// Makes the image. It has its name only once it is whole and durable; an image is never replaced. Once it has begun to get its name, a
/// wish to stop comes too late.
///
/// What a power cut or `kill -9` may leave: a file `….inprogress`, or the whole image.
///
/// # Errors
///
/// `Full`, `Io`, `Damaged` (a verification), `Cancelled`; `Unsupported` with the reason where it cannot be known which blocks are
/// used; `Io` with a [`PartcloneFailure`](crate::partitions::PartcloneFailure) below if a stand-in for partclone fails. The unfinished file is removed, unless it is whole and only its name was taken meanwhile.
pub fn perform(mut plan: BackupPlan, task: &Task) -> Result<BackupReport> {
    let start = Instant::now();
    let steps = plan.request.steps.clone();
    let unfinished = Unfinished::create(&plan.destination, plan.request.mode)?;
    steps.reach("created");
    let written = work::write(&mut plan, &unfinished, task);
    let written = written.map_err(|error| unfinished.explain(error))?;
    let verified = plan.request.verify && plan.opened.is_some();
    if verified {
        plan.read_back(task)?;
        steps.reach("verified");
    }
    if let Some(source) = &plan.opened {
        source.refuse_changed()?;
    }
    task.checkpoint()?;
    unfinished.publish(&steps)?;
    Ok(BackupReport {
        source: plan.source,
        destination: plan.destination,
        filesystem: plan.filesystem,
        variant: plan.variant,
        device_bytes: plan.device_bytes,
        used_bytes: written.used_bytes,
        image_bytes: written.file_bytes,
        verified,
        by_partclone: written.by_partclone,
        elapsed: start.elapsed(),
    })
}

impl BackupPlan {
    /// Asks which blocks are used, so that `used_bytes` is known. Where that cannot be known, all of the partition will be
    /// taken as raw bytes: the variant and the name change, and the reason is told as a warning.
    ///
    /// Without it, [`perform`] asks, and gives up where the map cannot be had: the name of the image has been told by then.
    ///
    /// # Errors
    ///
    /// `Cancelled`; those of [`plan`] for the new name; `Full`.
    pub fn survey(&mut self, task: &Task) -> Result<()> {
        if self.variant.is_raw() || is_stub(&self.request) || self.map.is_some() {
            return Ok(());
        }
        match self.ask_used(task)? {
            Used::Unknown(reason) => {
                let source = self.source.display();
                task.warn(format!("all of {source} is read, as raw bytes: {reason}"));
                self.variant = Variant::DD;
                self.destination =
                    naming::destination(&self.request, &self.filesystem, Variant::DD)?;
                let least = if self.opened.as_ref().is_some_and(Source::is_device) {
                    self.device_bytes
                } else {
                    0
                };
                let folder = sys::Directory::of(&self.destination)?;
                self.refuse_full(least, sys::available_bytes(&folder).ok())
            }
            known @ Used::Known { .. } => {
                self.learn(known);
                let folder = sys::Directory::of(&self.destination)?;
                let used_bytes = self.used_bytes.unwrap_or(0);
                self.refuse_full(used_bytes, sys::available_bytes(&folder).ok())
            }
        }
    }

    /// Asks partclone for the map.
    fn ask_used(&self, task: &Task) -> Result<Used> {
        match naming::partclone(&self.request) {
            Some(partclone) => {
                task.begin(Phase::Map, 0);
                used_blocks(&partclone, self.variant, &self.source, task)
            }
            None => Ok(Used::Unknown("partclone is not installed".to_string())),
        }
    }

    fn learn(&mut self, used: Used) {
        if let Used::Known { header, used } = &used {
            self.used_bytes = Some(used.used() * u64::from(header.block_bytes));
        }
        self.map = Some(used);
    }

    /// Refuses what cannot fit: only without compression is that known beforehand.
    fn refuse_full(&self, needed_bytes: u64, available_bytes: Option<u64>) -> Result<()> {
        let Some(available) = available_bytes else { return Ok(()) };
        if self.request.compression != Compression::Uncompressed || needed_bytes <= available {
            return Ok(());
        }
        let folder = self.request.folder.display().to_string();
        let sentence = format!(
            "no space in {folder} for the image: it needs {}, {} are left there (make room, or compress it)",
            image::units::Bytes(needed_bytes),
            image::units::Bytes(available),
        );
        Err(Error::new(ErrorKind::Full, sentence).at(folder, None))
    }

    fn read_back(&self, task: &Task) -> Result<()> {
        let Some(source) = &self.opened else { return Ok(()) };
        let what = readback::Readback {
            file: &unfinished::unfinished_path(&self.destination),
            compression: self.request.compression,
            is_raw: self.variant.is_raw(),
            source: source.image(),
            threads: self.request.threads,
        };
        readback::compare(&what, task)
    }
}

/// Whether all is left to a program that stands in for partclone.
fn is_stub(request: &BackupRequest) -> bool {
    request.partclone.as_ref().is_some_and(Partclone::is_stub)
}
