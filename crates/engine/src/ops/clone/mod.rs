//! Clone image files instantly, copy-on-write, frozen for the moment of the clone if they are in use.

mod catchup;
mod freezing;
mod target;

use std::fs::{File, Metadata};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use image::units::Bytes;
use image::{Error, ErrorKind, Image, Phase, Replace, Result, Task};
use sys::holders::Holders;

use crate::location::{Format, Location};
use crate::ops::copy::OnReadError;
use crate::ops::copy::transfer::{Ledger, Shape, Transfer};
use crate::reflink::{Reflink, is_unsupported};
use crate::{Steps, Threads};
use catchup::Catchup;
use freezing::Filesystems;
use target::Target;

/// What is to be cloned where, and how.
#[derive(Clone, Debug)]
pub struct CloneRequest {
    /// Image files. Several are frozen together and cloned at one moment.
    pub sources: Vec<Location>,
    /// The clone; for several sources, or if it is a folder, the folder for the clones.
    pub target: PathBuf,
    /// Existing files may be replaced.
    pub force: bool,
    /// Whether blocks are to be shared.
    pub reflink: Reflink,
    /// The longest time that filesystems may be frozen.
    pub freeze_timeout: Duration,
    /// What permissions a clone gets.
    pub mode: ModeRule,
    /// How many threads, where data has to be copied.
    pub threads: Threads,
    /// Told of each step, also while filesystems are frozen.
    pub steps: Steps,
}

/// What permissions a clone gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeRule {
    /// The source's mode and, as root, its owner.
    Source,
    /// The source's mode less the umask; a replaced file's own mode. As `loclone` does.
    LessUmask,
}

/// A clone that can be made. Nothing is written yet, nothing frozen.
pub struct ClonePlan {
    /// What will be cloned.
    pub clones: Vec<PlannedClone>,
    filesystems: Filesystems,
    request: CloneRequest,
}

/// One source and its target.
pub struct PlannedClone {
    /// The image file.
    pub source: PathBuf,
    /// The clone.
    pub target: PathBuf,
    /// Whether a file stands there that will be replaced.
    pub replaces: bool,
    /// Size in bytes.
    pub size_bytes: u64,
    file: File,
    metadata: Metadata,
    holders: Holders,
}

/// What was cloned.
#[derive(Clone, Debug)]
pub struct CloneReport {
    /// In the order of the sources.
    pub clones: Vec<Cloned>,
    /// For how long the filesystems were frozen; `None` if there were none.
    pub frozen: Option<Duration>,
    /// The filesystems that were frozen.
    pub filesystems: Vec<FrozenFilesystem>,
    /// How long it took in all.
    pub elapsed: Duration,
}

/// One clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cloned {
    /// The image file.
    pub source: PathBuf,
    /// Its clone.
    pub target: PathBuf,
    /// Size in bytes.
    pub size_bytes: u64,
    /// How it was made.
    pub method: Method,
}

/// How a clone was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// In one call, blocks shared.
    Reflink,
    /// Blocks shared before the freeze, and what changed since then brought while frozen.
    ReflinkCatchup {
        /// How many bytes were brought while frozen.
        frozen_bytes: u64,
    },
    /// The data was copied.
    Copy,
}

/// A filesystem that was frozen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrozenFilesystem {
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// What is mounted there.
    pub device: PathBuf,
    /// Its type.
    pub filesystem: String,
}

impl Method {
    /// The word for it in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Method::Reflink => "reflink",
            Method::ReflinkCatchup { .. } => "reflink-catchup",
            Method::Copy => "copy",
        }
    }
}

/// Opens the sources, finds what is mounted from them, and refuses what has to be refused.
///
/// # Errors
///
/// `NotFound`, `Denied`; `Invalid` if a source is no regular file, or two clones would have one name; `Exists`
/// for a file that may not be replaced; `InUse` for a target that is mounted or attached, or lies in a
/// filesystem that would be frozen; `Unsupported` where copying is asked of an image that is mounted.
pub fn plan(request: CloneRequest, _task: &Task) -> Result<ClonePlan> {
    let into_folder = target::is_folder(&request)?;
    let mut clones: Vec<PlannedClone> = Vec::new();
    for source in &request.sources {
        let target = match source.path().file_name() {
            Some(name) if into_folder => request.target.join(name),
            _ => request.target.clone(),
        };
        let clone = PlannedClone::new(source.path(), target, request.force)?;
        if clones.iter().any(|other| other.target == clone.target) {
            let sentence = format!("two clones would be {}", clone.target.display());
            return Err(Error::new(ErrorKind::Invalid, sentence));
        }
        clones.push(clone);
    }
    target::refuse_sources(&clones)?;
    let filesystems = Filesystems::of(clones.iter().map(|clone| &clone.holders))?;
    for clone in &clones {
        clone.refuse_unseen()?;
        clone.refuse_without_room()?;
        filesystems.refuse_if_inside(&clone.source, &clone.source)?;
        filesystems.refuse_if_inside(target::folder_of(&clone.target), &clone.target)?;
        if request.reflink == Reflink::Never && clone.is_live() {
            return Err(cannot_copy_mounted(clone, "copying its data takes too long for that"));
        }
    }
    Ok(ClonePlan { clones, filesystems, request })
}

/// Clones.
///
/// What a power cut, `kill -9`, an error or a wish to stop may leave: each target is the old file, or absent,
/// or a complete clone. Nothing stays frozen: a watchdog process thaws when this one dies, and when the time
/// is up.
pub fn perform(plan: ClonePlan, task: &Task) -> Result<CloneReport> {
    let start = Instant::now();
    let ClonePlan { clones, filesystems, request } = plan;
    let targets = clones
        .iter()
        .map(|clone| Target::create(clone, request.mode))
        .collect::<Result<Vec<Target>>>()?;
    request.steps.reach("opened");
    let work = Work { clones: &clones, targets: &targets, request: &request, task };
    let (methods, frozen) = if filesystems.is_empty() {
        let methods = work.clone_idle()?;
        filesystems.refuse_if_more(clones.iter().map(|clone| &clone.metadata))?;
        (methods, None)
    } else {
        let (methods, frozen) = work.clone_live(&filesystems)?;
        (methods, Some(frozen))
    };
    task.checkpoint()?;
    let mut report = CloneReport {
        clones: Vec::new(),
        frozen,
        filesystems: filesystems.describe(),
        elapsed: Duration::ZERO,
    };
    for ((clone, target), method) in clones.iter().zip(targets).zip(methods) {
        request.steps.reach("publishing");
        let replace = if clone.replaces { Replace::Allowed } else { Replace::Never };
        let size_bytes = target.size_bytes().unwrap_or(clone.size_bytes);
        target.publish(replace, method).map_err(|error| match report.clones.last() {
            Some(last) => {
                error.and(format!("{} and those before are complete", last.target.display()))
            }
            None => error,
        })?;
        report.clones.push(Cloned {
            source: clone.source.clone(),
            target: clone.target.clone(),
            size_bytes,
            method,
        });
    }
    request.steps.reach("published");
    report.elapsed = start.elapsed();
    Ok(report)
}

impl ClonePlan {
    /// The filesystems that will be frozen.
    pub fn filesystems(&self) -> Vec<FrozenFilesystem> {
        self.filesystems.describe()
    }
}

impl PlannedClone {
    fn new(source: &Path, target: PathBuf, force: bool) -> Result<Self> {
        let name = source.display().to_string();
        let failed = |cause| Error::io(format!("cannot open {name}"), cause).at(&name, None);
        // Looked at before it is opened, which could wait for ever if it is a pipe.
        if !std::fs::metadata(source).map_err(failed)?.is_file() {
            let sentence = format!("{name} is no regular file; only image files can be cloned");
            return Err(Error::new(ErrorKind::Invalid, sentence).at(name, None));
        }
        let file = File::open(source).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let (target, replaces) = target::check(target, &metadata, force)?;
        let holders = Holders::of(&metadata)?;
        let size_bytes = metadata.len();
        Ok(PlannedClone {
            source: source.to_owned(),
            target,
            replaces,
            size_bytes,
            file,
            metadata,
            holders,
        })
    }
}

impl PlannedClone {
    /// Whether a filesystem that could change is mounted from it.
    fn is_live(&self) -> bool {
        self.holders.mounts.iter().any(sys::MountEntry::can_change)
    }

    fn refuse_unseen(&self) -> Result<()> {
        let Some(device) = self.holders.unseen.first() else { return Ok(()) };
        let name = self.source.display().to_string();
        let sentence = format!(
            "cannot clone {name}: the filesystem on {} is in use, but mounted nowhere in sight, so that it cannot be \
             frozen (after `umount -l` end what has files open on it; or run this where it is mounted)",
            device.display()
        );
        Err(Error::new(ErrorKind::InUse, sentence).at(name, None))
    }
}

impl PlannedClone {
    /// Once its blocks are shared, each write to the image takes a new block: without any left, the filesystem
    /// inside it would get I/O errors because of the clone.
    fn refuse_without_room(&self) -> Result<()> {
        let Ok(left) = sys::available_bytes(&self.file) else { return Ok(()) };
        if !self.is_live() || left >= ROOM_BYTES {
            return Ok(());
        }
        let name = self.source.display().to_string();
        let sentence = format!(
            "cannot clone {name} while it is in use: its filesystem has only {} left, and what is written to the image \
             after the clone needs new blocks (make room for {} at least)",
            Bytes(left),
            Bytes(ROOM_BYTES)
        );
        Err(Error::new(ErrorKind::Full, sentence).at(name, None))
    }
}

/// What the steps of a clone have in common.
struct Work<'a> {
    clones: &'a [PlannedClone],
    targets: &'a [Target],
    request: &'a CloneRequest,
    task: &'a Task,
}

impl Work<'_> {
    fn pairs(&self) -> impl Iterator<Item = (&PlannedClone, &Target)> {
        self.clones.iter().zip(self.targets)
    }

    /// Clones files that no filesystem is mounted from.
    fn clone_idle(&self) -> Result<Vec<Method>> {
        for (clone, _) in self.pairs() {
            freezing::flush_devices(&clone.holders);
        }
        self.pairs()
            .map(|(clone, target)| {
                self.task.checkpoint()?;
                if self.request.reflink == Reflink::Never {
                    return self.copy(clone, target);
                }
                match sys::clone_whole(&clone.file, target.file()) {
                    Ok(()) => Ok(Method::Reflink),
                    Err(cause)
                        if self.request.reflink == Reflink::Auto && is_unsupported(&cause) =>
                    {
                        self.copy(clone, target)
                    }
                    Err(cause) => Err(clone_failed(clone, cause)),
                }
            })
            .collect()
    }

    /// Clones files that filesystems are mounted from, all at one moment.
    fn clone_live(&self, filesystems: &Filesystems) -> Result<(Vec<Method>, Duration)> {
        let mut catchups = self
            .pairs()
            .map(|(clone, target)| Catchup::begin(clone, target, self.task))
            .collect::<Result<Vec<Catchup>>>()?;
        self.request.steps.reach("precloned");
        for _ in 0..ROUNDS_MAX {
            self.task.checkpoint()?;
            filesystems.flush();
            let mut settled = true;
            for catchup in &mut catchups {
                settled &= catchup.advance()?;
            }
            if settled {
                break;
            }
        }
        filesystems.flush();
        self.request.steps.reach("flushed");
        let (methods, lasted) = self.freeze_and_finish(filesystems, &mut catchups)?;
        self.request.steps.reach("thawed");
        if catchups.iter_mut().all(Catchup::is_proven) {
            self.request.steps.reach("proven");
            return Ok((methods, lasted));
        }
        // The extent maps do not prove the clone: something else moved blocks meanwhile.
        self.task.warn(
            "the clone could not be proven from the extent maps; it is made again in one piece",
        );
        for catchup in &mut catchups {
            catchup.start_over()?;
        }
        self.freeze_and_finish(filesystems, &mut catchups)
    }

    /// The frozen moment. Everything it needs is open, in memory, and not on what is frozen.
    fn freeze_and_finish(
        &self,
        filesystems: &Filesystems,
        catchups: &mut [Catchup],
    ) -> Result<(Vec<Method>, Duration)> {
        let memory = sys::lock_memory();
        let frozen = filesystems.freeze(self.request.freeze_timeout)?;
        self.request.steps.reach("frozen");
        let finished: Result<Vec<Method>> = catchups.iter_mut().map(Catchup::finish).collect();
        self.request.steps.reach("cloned");
        let thawed = frozen.thaw();
        drop(memory);
        let methods = finished?;
        if !thawed.held {
            let sentence = format!(
                "the clone was not complete within {} ms, and the filesystem was thawed; the clone was removed \
                 (a longer --freeze-timeout may help)",
                self.request.freeze_timeout.as_millis()
            );
            return Err(Error::new(ErrorKind::Changed, sentence));
        }
        filesystems.refuse_if_more(self.clones.iter().map(|clone| &clone.metadata))?;
        Ok((methods, thawed.lasted))
    }

    /// Copies the data, leaving out holes and zeroes.
    fn copy(&self, clone: &PlannedClone, target: &Target) -> Result<Method> {
        // What is cloned are the bytes of a file, whatever they mean.
        let location = Location { format: Some(Format::Raw), path: clone.source.clone() };
        let source = crate::registry::open_source(&location, self.task)?;
        let image = target.as_image(clone.size_bytes)?;
        let transfer = Transfer {
            source: &*source.image,
            target: &image,
            ranges: std::iter::once(0..clone.size_bytes).filter(|all| !all.is_empty()).collect(),
            shape: Shape::cached(image.block_size_bytes(), true),
            on_read_error: OnReadError::Stop,
            threads: self.request.threads,
        };
        self.task.begin(Phase::Copy, source.facts.allocated_bytes.min(clone.size_bytes));
        transfer.run(self.task, &Ledger::default(), Duration::from_secs(3600), |_| Ok(()))?;
        Ok(Method::Copy)
    }
}

/// What has to be free so that the filesystem inside can go on for a while.
const ROOM_BYTES: u64 = 32 << 20;
/// How often the clone is brought up to date before the freeze; with a writer that never rests it never ends.
const ROUNDS_MAX: usize = 6;

fn clone_failed(clone: &PlannedClone, cause: std::io::Error) -> Error {
    let (source, target) = (clone.source.display(), clone.target.display());
    if clone.is_live() && is_unsupported(&cause) {
        return cannot_copy_mounted(
            clone,
            "the filesystem cannot share blocks between these two files",
        )
        .because(cause);
    }
    let mut sentence = format!("cannot clone {source} to {target}");
    if cause.kind() == std::io::ErrorKind::CrossesDevices {
        sentence.push_str(": a clone has to be on the filesystem of its source");
    } else if is_unsupported(&cause) {
        sentence.push_str(": the filesystem cannot share blocks (XFS and Btrfs can)");
    }
    Error::io(sentence, cause).at(target.to_string(), None)
}

/// The refusal to copy, rather than clone, an image that changes meanwhile.
fn cannot_copy_mounted(clone: &PlannedClone, why: &str) -> Error {
    let source = clone.source.display();
    let sentence = format!(
        "cannot clone {source}: it is {}, and would have to be frozen, but {why} (unmount it first, or put the \
         clone on the same filesystem, XFS or Btrfs)",
        clone.holders
    );
    Error::new(ErrorKind::Unsupported, sentence).at(source.to_string(), None)
}
