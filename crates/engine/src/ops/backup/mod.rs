//! Make an image of a partition: of its used blocks, in partclone's format, compressed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use filesystems::Filesystem;
use filesystems::partclone::{Partclone, Report, Variant};
use formats::packed::Compression;
use image::{Result, Task};

use crate::{Steps, Threads};

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

/// Hears what partclone says.
pub type OnReport = Arc<dyn Fn(Report) + Send + Sync>;

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

/// Looks at the partition, chooses the image's name, and refuses what has to be refused. Writes nothing.
///
/// # Errors
///
/// `NotFound`, `Denied`; `InUse` for a partition that is mounted or held, with the mount point; `Exists` for an image, or an
/// unfinished one, of the same name; `Full` where even the least that it can need does not fit; `Invalid` for a name.
pub fn plan(_request: BackupRequest, _task: &Task) -> Result<BackupPlan> {
    todo!()
}

/// Makes the image. It has its name only once it is whole and durable; an image is never replaced. Once it has begun to get its name, a
/// wish to stop comes too late.
///
/// What a power cut or `kill -9` may leave: a file `….inprogress`, or the whole image.
///
/// # Errors
///
/// `Full`, `Io`, `Damaged` (a stream or a verification), `Cancelled`. The unfinished file is removed, unless it is whole and only its name
/// was taken meanwhile.
pub fn perform(plan: BackupPlan, _task: &Task) -> Result<BackupReport> {
    let _ = plan.request;
    todo!()
}
