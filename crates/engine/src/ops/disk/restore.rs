//! Make a disk of a set.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use formats::table::Table;
use image::units::Bytes;
use image::{Error, ErrorKind, Folder, Medium, MemoryMedium, Phase, Result, Task};
use sys::{Access, AttachedPart, DeviceMedium, Directory};

use super::backup::{SWAP_HEADER_BYTES, boot_area};
use super::grow::Grower;
use super::manifest::{BOOT_FILE, TABLE_FILE};
use super::parts::Disk;
use super::set;
use super::{Boot, Content, Manifest, PartitionFacts, digest};
use crate::ops::restore::{self, RestorePlan, RestoreRequest};
use crate::{Steps, Threads};

/// Where a partition that grows ends: at a multiple of this, as every tool has it.
const ALIGNMENT_BYTES: u64 = 1 << 20;

/// Which set is to be restored to which disk.
#[derive(Clone)]
pub struct DiskRestoreRequest {
    /// The folder of the set.
    pub set: PathBuf,
    /// The disk that is overwritten.
    pub target: PathBuf,
    /// Whether a partition takes what a larger disk has more.
    pub grow: Option<Grow>,
    /// Read back what was written, and compare.
    pub verify: bool,
    /// Tell the disk first that it holds nothing any more.
    pub discard: bool,
    /// Let partclone write.
    pub by_partclone: bool,
    /// Write at most so many bytes a second.
    pub limit_bytes_per_s: Option<u64>,
    /// How many threads.
    pub threads: Threads,
    /// Told of each step.
    pub steps: Steps,
}

/// Which partition grows, with its filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grow {
    /// The one that lies last on the disk.
    Last,
}

/// A set that can be restored: its images are open, the target is claimed, nothing is written.
pub struct DiskRestorePlan {
    /// The set.
    pub set: PathBuf,
    /// What is overwritten, links followed.
    pub target: PathBuf,
    /// Size of the target in bytes.
    pub target_bytes: u64,
    /// What is in the set.
    pub manifest: Manifest,
    /// The number of the partition that grows, and its size in bytes then.
    pub grown: Option<(u32, u64)>,
    request: DiskRestoreRequest,
    disk: Disk,
    table: Table,
    boot: Option<Vec<u8>>,
    parts: Vec<Part>,
    grower: Option<Grower>,
}

/// What a restore of a set did.
#[derive(Clone, Debug)]
pub struct DiskRestoreReport {
    /// The set.
    pub set: PathBuf,
    /// What was overwritten.
    pub target: PathBuf,
    /// What was in the set.
    pub manifest: Manifest,
    /// The number of the partition that has grown, with its filesystem, and its size in bytes now.
    pub grown: Option<(u32, u64)>,
    /// Bytes written.
    pub written_bytes: u64,
    /// Whether what was written was read back and found equal.
    pub verified: bool,
    /// Whether the kernel has a node for each partition now.
    pub is_known_to_kernel: bool,
    /// How long it took.
    pub elapsed: Duration,
}

/// A partition that is to be restored.
struct Part {
    number: u32,
    device: AttachedPart,
    what: What,
}

enum What {
    Image(Box<RestorePlan>),
    SwapHeader(Vec<u8>),
}

/// Reads the set, claims the disk, opens each image, and refuses what has to be refused. Writes nothing.
///
/// # Errors
///
/// `NotFound`, `Denied`; `InUse` for a disk of which anything is mounted or held; `TooSmall`; `Unsupported` for a disk with
/// sectors of another size, and for a filesystem that cannot grow; `Invalid` for a target that is no block device, and for a
/// set that is unfinished; `Damaged` for a set that is not what its manifest says.
pub fn plan(request: DiskRestoreRequest, task: &Task) -> Result<DiskRestorePlan> {
    set::refuse_unfinished(&request.set)?;
    let manifest = Manifest::read(&request.set)?;
    let folder = Directory::open(&request.set)?;
    let whole = table_of(&manifest, &request.set, &folder)?;
    let boot = boot_of(&manifest, &request.set, &folder)?;
    let disk = Disk::claim_to_write(&request.target)?;
    let target_bytes = disk.medium.len()?;
    let shown = disk.path.display().to_string();
    let mut table = whole.adapted_to(target_bytes, disk.sector_bytes).map_err(|error| {
        error
            .context(format!("cannot restore {} to {shown}", request.set.display()))
            .at(&shown, None)
    })?;
    let (mut grown, mut grower) = (None, None);
    if request.grow == Some(Grow::Last) {
        let before = whole.last_partition();
        let after = table.grow_last(ALIGNMENT_BYTES)?;
        if before.is_some_and(|before| before.range.end < after.range.end) {
            let facts = manifest.partitions.iter().find(|facts| facts.number == after.number);
            grower = Some(Grower::of(
                after.number,
                facts.and_then(|facts| facts.filesystem.kind.as_deref()),
            )?);
            grown = Some((after.number, after.range.end - after.range.start));
        } else {
            task.note(format!("{shown} has no room that the last partition could take"));
        }
    }
    let mut parts = Vec::new();
    for partition in table.partitions().into_iter().filter(|partition| !partition.is_container) {
        task.checkpoint()?;
        let facts = manifest.partitions.iter().find(|facts| facts.number == partition.number);
        let Some(facts) = facts else { continue };
        let device = disk.attach(&partition.range)?;
        let what = what_of(&request, facts, &folder, &device, task)?;
        parts.extend(what.map(|what| Part { number: partition.number, device, what }));
    }
    Ok(DiskRestorePlan {
        set: request.set.clone(),
        target: disk.path.clone(),
        target_bytes,
        manifest,
        grown,
        request,
        disk,
        table,
        boot,
        parts,
        grower,
    })
}

/// Restores. The old table is erased first, the new one is written last: what an error, a wish to stop or a power cut leaves is
/// a disk without partitions, on which nothing can be mounted by mistake.
///
/// # Errors
///
/// Those of [`restore::perform`] for each partition. Where only the filesystem could not be grown, the error says so, and all else
/// is done.
pub fn perform(plan: DiskRestorePlan, task: &Task) -> Result<DiskRestoreReport> {
    let start = Instant::now();
    let DiskRestorePlan { request, disk, table, parts, .. } = plan;
    let shown = disk.path.display().to_string();
    let steps = &request.steps;
    Table::erase(&disk.medium, disk.sector_bytes)?;
    steps.reach("erased");
    if request.discard {
        // But not where the old table stood: what is discarded may read as it was.
        let sector_bytes = u64::from(disk.sector_bytes);
        disk.medium.discard(2 * sector_bytes..plan.target_bytes - sector_bytes)?;
    }
    let mut written_bytes = 0;
    match (&plan.manifest.boot, &plan.boot) {
        (Some(facts), Some(bytes)) => {
            disk.medium.write_at(bytes, facts.range.start)?;
            written_bytes += bytes.len() as u64;
        }
        // What another boot loader has left there.
        _ => disk.medium.punch(boot_area(&table))?,
    }
    let mut growth = Ok(());
    for Part { number, device, what } in parts {
        let place = || {
            format!(
                "cannot restore partition {number} of {shown}, which has no partition table now (try again)"
            )
        };
        written_bytes += match what {
            What::Image(image) => {
                let size_bytes = image.device_bytes.map(Bytes);
                let size = size_bytes.map_or_else(String::new, |size| format!(", {size}"));
                task.note(format!("partition {number} of {shown}: {}{size}", image.variant.name()));
                restore::perform(*image, task)
                    .map_err(|error| error.context(place()))?
                    .written_bytes
            }
            What::SwapHeader(bytes) => {
                let medium = DeviceMedium::open(device.path(), Access::Write)?;
                let written = medium.write_at(&bytes, 0).and_then(|()| medium.sync());
                written.map_err(|error| error.context(place()))?;
                bytes.len() as u64
            }
        };
        steps.reach("partition");
        if let Some(grower) = plan.grower.as_ref().filter(|grower| grower.number() == number) {
            growth = match grower.grow(device.path(), task) {
                Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
                other => other,
            };
            steps.reach("grown");
        }
    }
    task.checkpoint()?;
    task.begin(Phase::Flush, 0);
    table.write(&disk.medium)?;
    steps.reach("table");
    table.verify(&disk.medium)?;
    let told = disk.tell_kernel();
    if let Err(error) = &told {
        task.note(format!("{}; `partx -u {shown}` tells it", error.full_sentence()));
    }
    growth.map_err(|error| {
        error.context(format!(
            "{shown} is restored, but the filesystem of its last partition has not grown with that"
        ))
    })?;
    Ok(DiskRestoreReport {
        set: plan.set,
        target: disk.path,
        manifest: plan.manifest,
        grown: plan.grown,
        written_bytes,
        verified: request.verify,
        is_known_to_kernel: told.is_ok(),
        elapsed: start.elapsed(),
    })
}

/// The table of the set, which must be that of its manifest.
pub(super) fn table_of(manifest: &Manifest, set: &Path, folder: &Directory) -> Result<Table> {
    let pieces = &manifest.table.pieces;
    let len_bytes = pieces.iter().map(|piece| piece.end - piece.start).sum();
    let bytes = file_of(set, folder, TABLE_FILE, len_bytes, &manifest.table.blake3)?;
    let name = set.join(TABLE_FILE).display().to_string();
    let disk = MemoryMedium::fixed(&name, manifest.disk.size_bytes);
    let mut rest = &bytes[..];
    for piece in pieces {
        let (this, behind) = rest.split_at((piece.end - piece.start) as usize);
        disk.write_at(this, piece.start)?;
        rest = behind;
    }
    let damaged = |sentence: String| Error::new(ErrorKind::Damaged, sentence).at(&name, None);
    let table = Table::read(&disk, manifest.disk.sector_bytes)?;
    let table = table.ok_or_else(|| damaged(format!("{name} holds no partition table")))?;
    let says = |facts: &PartitionFacts| {
        (facts.number, facts.range.clone(), facts.content == Content::Container)
    };
    let is = table.partitions();
    let is = is
        .iter()
        .map(|partition| (partition.number, partition.range.clone(), partition.is_container));
    if !manifest.partitions.iter().map(says).eq(is) {
        return Err(damaged(format!(
            "{name} and the manifest beside it tell of different partitions"
        )));
    }
    Ok(table)
}

/// What the set has of the place before the first partition.
pub(super) fn boot_of(
    manifest: &Manifest,
    set: &Path,
    folder: &Directory,
) -> Result<Option<Vec<u8>>> {
    let Some(Boot { range, blake3 }) = &manifest.boot else { return Ok(None) };
    file_of(set, folder, BOOT_FILE, range.end - range.start, blake3).map(Some)
}

/// A small file of the set, which must have that length and digest.
pub(super) fn file_of(
    set: &Path,
    folder: &Directory,
    file: &str,
    len_bytes: u64,
    blake3: &str,
) -> Result<Vec<u8>> {
    let name = set.join(file).display().to_string();
    let medium = folder.open(OsStr::new(file))?;
    let found = medium.len()?;
    let damaged =
        |sentence: String| Error::new(ErrorKind::Damaged, sentence).at(&name, Some(0..found));
    if found != len_bytes {
        return Err(damaged(format!(
            "{name} has {found} bytes, and the manifest beside it says {len_bytes}"
        )));
    }
    let mut bytes = vec![0; len_bytes as usize];
    medium.read_at(&mut bytes, 0)?;
    if digest::of_bytes(&bytes) != blake3 {
        return Err(damaged(format!(
            "{name} is damaged: its digest is not that of the manifest beside it"
        )));
    }
    Ok(bytes)
}

/// What is to be written to a partition; `None` if nothing is.
fn what_of(
    request: &DiskRestoreRequest,
    facts: &PartitionFacts,
    folder: &Directory,
    device: &AttachedPart,
    task: &Task,
) -> Result<Option<What>> {
    match &facts.content {
        Content::Container => Ok(None),
        Content::SwapHeader { file, file_bytes, blake3 } => {
            let partition_bytes = facts.range.end - facts.range.start;
            if *file_bytes > partition_bytes.min(SWAP_HEADER_BYTES) {
                let name = request.set.join(file).display().to_string();
                let sentence = format!("{name} is too long for the beginning of a swap area");
                return Err(Error::new(ErrorKind::Damaged, sentence).at(name, None));
            }
            let bytes = file_of(&request.set, folder, file, *file_bytes, blake3)?;
            Ok(Some(What::SwapHeader(bytes)))
        }
        Content::Image { file, file_bytes, .. } => {
            let image = request.set.join(file);
            refuse_other_file(&image, *file_bytes)?;
            let wanted = RestoreRequest {
                image,
                target: device.path().to_owned(),
                verify: request.verify,
                // All of the disk is discarded before.
                discard: false,
                by_partclone: request.by_partclone,
                partclone: None,
                limit_bytes_per_s: request.limit_bytes_per_s,
                threads: request.threads,
                on_report: None,
                steps: Steps::default(),
            };
            Ok(Some(What::Image(Box::new(restore::plan(wanted, task)?))))
        }
    }
}

/// An image is a file of the set itself, of the length that the manifest says.
pub(super) fn refuse_other_file(image: &Path, file_bytes: u64) -> Result<()> {
    let name = image.display().to_string();
    let metadata = fs::symlink_metadata(image)
        .map_err(|cause| Error::io(format!("cannot read {name}"), cause).at(&name, None))?;
    if metadata.is_file() && metadata.len() == file_bytes {
        return Ok(());
    }
    let sentence = match metadata.is_file() {
        false => format!("{name} is no file of this set"),
        true => format!(
            "{name} has {} bytes, and the manifest beside it says {file_bytes}",
            metadata.len()
        ),
    };
    Err(Error::new(ErrorKind::Damaged, sentence).at(name, None))
}
