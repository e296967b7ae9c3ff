//! Make a set of a whole disk.

use std::ffi::OsStr;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use filesystems::partclone::Variant;
use filesystems::{Filesystem, probe};
use formats::packed::Compression;
use formats::table::{Partition, Table};
use image::units::Bytes;
use image::{Error, ErrorKind, Folder, Medium, Result, Task};
use sys::{Access, AttachedPart, Directory, FileMedium, LocalTime};

use super::manifest::{BOOT_FILE, BOOT_MAX_BYTES, TABLE_FILE};
use super::parts::Disk;
use super::set::{self, UnfinishedSet};
use super::{Boot, Content, DiskFacts, Manifest, PartitionFacts, TableFacts, digest};
use crate::backup_name::BackupName;
use crate::ops::backup::{self, BackupRequest};
use crate::{Steps, Threads, devices};

/// What makes a partition a swap area is in its first page, and no machine has larger ones.
pub(super) const SWAP_HEADER_BYTES: u64 = 64 << 10;

/// Of which disk a set is to be made, and where.
#[derive(Clone)]
pub struct DiskBackupRequest {
    /// The disk. A regular file with the content of one will do.
    pub source: PathBuf,
    /// The folder in which the set is made.
    pub folder: PathBuf,
    /// The beginning of its name; by default the device's name.
    pub name: Option<String>,
    /// How images are compressed.
    pub compression: Compression,
    /// How hard, as the compression's tool counts it.
    pub level: Option<i32>,
    /// Read each image back and compare it, and note the digest of its file in the manifest.
    pub verify: bool,
    /// Permissions of the images.
    pub mode: u32,
    /// Read at most so many bytes a second.
    pub limit_bytes_per_s: Option<u64>,
    /// How many threads.
    pub threads: Threads,
    /// Told of each step.
    pub steps: Steps,
}

/// A set that can be made: nothing is written.
pub struct DiskBackupPlan {
    /// What is read, links followed.
    pub source: PathBuf,
    /// The set. Until it is whole, `.inprogress` stands behind its name.
    pub destination: PathBuf,
    /// The disk.
    pub disk: DiskFacts,
    /// The kind of its table: `gpt` or `dos`.
    pub table: &'static str,
    /// Its partitions, and what is on each.
    pub partitions: Vec<(Partition, Filesystem)>,
    request: DiskBackupRequest,
    stem: String,
    made: String,
    opened: Disk,
    bytes: Table,
    /// The partitions as devices, in the same order; containers are none.
    parts: Vec<Option<AttachedPart>>,
}

/// What making a set did.
#[derive(Clone, Debug)]
pub struct DiskBackupReport {
    /// What was read.
    pub source: PathBuf,
    /// The set.
    pub destination: PathBuf,
    /// What is in it.
    pub manifest: Manifest,
    /// Size of the files of the set, in bytes.
    pub set_bytes: u64,
    /// Whether the images were read back and found equal.
    pub verified: bool,
    /// How long it took.
    pub elapsed: Duration,
}

/// Claims the disk, reads its table, looks at each partition, and refuses what has to be refused. Writes nothing.
///
/// # Errors
///
/// `NotFound`, `Denied`; `InUse` for a disk of which anything is mounted or held; `Invalid` for one without a partition table, or
/// for a name; `Damaged` for a table that cannot be right; `Exists` for a set of the same name.
pub fn plan(request: DiskBackupRequest, task: &Task) -> Result<DiskBackupPlan> {
    let opened = Disk::claim_to_read(&request.source)?;
    let shown = opened.path.display().to_string();
    let Some(bytes) = Table::read(&opened.medium, opened.sector_bytes)? else {
        let sentence = format!("{shown} has no partition table, so that no set can be made of it");
        return Err(Error::new(ErrorKind::Invalid, sentence).at(shown, None));
    };
    bytes.findings().iter().for_each(|finding| task.warn(format!("{shown}: {finding}")));
    let made = set::moment(LocalTime::now());
    let stem = request.name.clone().unwrap_or_else(|| {
        let name = opened.path.file_stem().unwrap_or_default().to_string_lossy();
        name.chars().map(|letter| if letter.is_control() { '_' } else { letter }).collect()
    });
    // What is good for the longest name is good for that of the set.
    let longest = format!("{stem}-p999");
    BackupName::compose(&longest, LocalTime::now(), Variant::DD, request.compression)?;
    if !request.folder.is_dir() {
        let name = request.folder.display().to_string();
        let sentence = format!("there is no folder {name} for the set");
        return Err(Error::new(ErrorKind::NotFound, sentence).at(name, None));
    }
    let destination = request.folder.join(set::name(&stem, &made));
    set::refuse_taken(&destination)?;
    let (mut partitions, mut parts) = (Vec::new(), Vec::new());
    for partition in bytes.partitions() {
        task.checkpoint()?;
        let (part, filesystem) = match partition.is_container {
            true => (None, Filesystem::default()),
            false => {
                let part = opened.attach(&partition.range)?;
                let filesystem = look_at(&part, &partition, task);
                (Some(part), filesystem)
            }
        };
        parts.push(part);
        partitions.push((partition, filesystem));
    }
    Ok(DiskBackupPlan {
        source: opened.path.clone(),
        destination,
        disk: facts(&opened, &bytes),
        table: bytes.kind().name(),
        partitions,
        request,
        stem,
        made,
        opened,
        bytes,
        parts,
    })
}

/// Makes the set. It has its name only once all of it is whole and durable; a set is never replaced.
///
/// What a power cut or `kill -9` may leave: a folder `….inprogress`, or the whole set.
///
/// # Errors
///
/// Those of [`backup::perform`] for each partition. The unfinished folder is removed, unless it is whole and only its name was
/// taken meanwhile.
pub fn perform(plan: DiskBackupPlan, task: &Task) -> Result<DiskBackupReport> {
    let start = Instant::now();
    let steps = plan.request.steps.clone();
    let unfinished = UnfinishedSet::create(&plan.destination)?;
    steps.reach("created");
    let folder = Directory::open(unfinished.path())?;
    let table = plan.keep_table(&folder)?;
    let boot = plan.keep_boot(&folder)?;
    let mut partitions = Vec::new();
    for (index, (partition, filesystem)) in plan.partitions.iter().enumerate() {
        let content = match &plan.parts[index] {
            None => Content::Container,
            Some(part) if filesystem.kind.as_deref() == Some("swap") => {
                plan.keep_swap_header(partition, part, &folder)?
            }
            Some(part) => plan.keep_image(partition, filesystem, part, unfinished.path(), task)?,
        };
        partitions.push(PartitionFacts {
            number: partition.number,
            range: partition.range.clone(),
            kind: partition.kind.clone(),
            name: partition.name.clone(),
            uuid: partition.uuid.clone(),
            filesystem: filesystem.clone(),
            content,
        });
        steps.reach("partition");
    }
    let DiskBackupPlan { made, disk, .. } = &plan;
    let manifest = Manifest { made: made.clone(), disk: disk.clone(), table, boot, partitions };
    task.checkpoint()?;
    manifest.write(unfinished.path())?;
    let set_bytes = size_of(unfinished.path());
    unfinished.publish(&steps)?;
    Ok(DiskBackupReport {
        source: plan.source,
        destination: plan.destination,
        manifest,
        set_bytes,
        verified: plan.request.verify,
        elapsed: start.elapsed(),
    })
}

impl DiskBackupPlan {
    fn keep_table(&self, folder: &Directory) -> Result<TableFacts> {
        let pieces = self.bytes.pieces();
        let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes.iter().copied()).collect();
        keep(folder, TABLE_FILE, &bytes)?;
        let range = |offset: u64, len: usize| offset..offset + len as u64;
        Ok(TableFacts {
            kind: self.table.to_string(),
            id: self.bytes.id(),
            pieces: pieces.iter().map(|piece| range(piece.offset, piece.bytes.len())).collect(),
            blake3: digest::of_bytes(&bytes),
        })
    }

    /// Keeps what stands between the first sector and the first partition, unless that is nothing.
    fn keep_boot(&self, folder: &Directory) -> Result<Option<Boot>> {
        let range = boot_area(&self.bytes);
        let mut bytes = vec![0; (range.end - range.start) as usize];
        self.opened.medium.read_at(&mut bytes, range.start)?;
        // What is the table's is kept with it.
        for piece in self.bytes.pieces() {
            let end = piece.offset + piece.bytes.len() as u64;
            let own = piece.offset.clamp(range.start, range.end)..end.clamp(range.start, range.end);
            bytes[(own.start - range.start) as usize..(own.end - range.start) as usize].fill(0);
        }
        if ::digest::is_zero(&bytes) {
            return Ok(None);
        }
        keep(folder, BOOT_FILE, &bytes)?;
        Ok(Some(Boot { range, blake3: digest::of_bytes(&bytes) }))
    }

    /// Keeps what makes a partition a swap area. What was swapped out means nothing to anybody.
    fn keep_swap_header(
        &self,
        partition: &Partition,
        part: &AttachedPart,
        folder: &Directory,
    ) -> Result<Content> {
        let len = partition.range.end - partition.range.start;
        let mut bytes = vec![0; len.min(SWAP_HEADER_BYTES) as usize];
        sys::DeviceMedium::open_claimed(part.path())?.read_at(&mut bytes, 0)?;
        let file = format!("{}-p{}.swap.bin", self.stem, partition.number);
        keep(folder, &file, &bytes)?;
        let blake3 = digest::of_bytes(&bytes);
        Ok(Content::SwapHeader { file, file_bytes: bytes.len() as u64, blake3 })
    }

    fn keep_image(
        &self,
        partition: &Partition,
        filesystem: &Filesystem,
        part: &AttachedPart,
        folder: &Path,
        task: &Task,
    ) -> Result<Content> {
        let request = &self.request;
        let number = partition.number;
        task.note(format!(
            "partition {number} of {}: {}, {}",
            self.source.display(),
            filesystem.kind.as_deref().unwrap_or("nothing that is known, taken as raw bytes"),
            Bytes(partition.range.end - partition.range.start)
        ));
        let wanted = BackupRequest {
            source: part.path().to_owned(),
            folder: folder.to_owned(),
            name: Some(format!("{}-p{number}", self.stem)),
            compression: request.compression,
            level: request.level,
            verify: request.verify,
            filesystem: None,
            partclone: None,
            mode: request.mode,
            limit_bytes_per_s: request.limit_bytes_per_s,
            threads: request.threads,
            on_report: None,
            steps: Steps::default(),
        };
        let made = backup::plan(wanted, task).and_then(|mut plan| {
            plan.survey(task)?;
            backup::perform(plan, task)
        });
        let made = made.map_err(|error| {
            error.context(format!(
                "cannot make an image of partition {number} of {}",
                self.source.display()
            ))
        })?;
        let blake3 = match request.verify {
            true => {
                Some(digest::of_medium(&FileMedium::open(&made.destination, Access::Read)?, task)?)
            }
            false => None,
        };
        let file = made.destination.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (used_bytes, file_bytes) = (made.used_bytes, made.image_bytes);
        Ok(Content::Image { file, used_bytes, file_bytes, blake3 })
    }
}

/// From the second sector to the first partition: in the first sector stands what says that there is a table.
pub(super) fn boot_area(table: &Table) -> Range<u64> {
    let sector_bytes = u64::from(table.sector_bytes());
    let first = table.partitions().iter().map(|partition| partition.range.start).min();
    let end = first.unwrap_or(table.disk_bytes()).min(BOOT_MAX_BYTES);
    sector_bytes..end.max(sector_bytes)
}

/// What is on a partition; nothing where that cannot be told.
fn look_at(part: &AttachedPart, partition: &Partition, task: &Task) -> Filesystem {
    probe(part.path()).unwrap_or_else(|error| {
        let number = partition.number;
        task.warn(format!("what is on partition {number} is not known: {}", error.full_sentence()));
        Filesystem::default()
    })
}

fn facts(disk: &Disk, table: &Table) -> DiskFacts {
    // A file has no maker.
    let device = devices::look(&disk.path).ok();
    DiskFacts {
        path: disk.path.display().to_string(),
        model: device.as_ref().and_then(|device| device.model.clone()),
        serial: device.and_then(|device| device.serial),
        size_bytes: table.disk_bytes(),
        sector_bytes: table.sector_bytes(),
    }
}

/// Writes a small file of the set.
fn keep(folder: &Directory, name: &str, bytes: &[u8]) -> Result<()> {
    let medium = folder.create(OsStr::new(name))?;
    for (index, block) in
        bytes.chunks(4096).enumerate().filter(|(_, block)| !::digest::is_zero(block))
    {
        medium.write_at(block, index as u64 * 4096)?;
    }
    medium.set_len(bytes.len() as u64)?;
    medium.sync()
}

/// The files in a folder, in bytes.
fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}
