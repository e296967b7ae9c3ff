//! What ties digests to a medium: how it is told that nobody has written to it since.

use std::fs::{self, File, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sys::{DeviceNumber, DiskState};

/// A medium at one moment. Each write to it makes another mark of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Each write sets both times to the time that it is then.
    File {
        /// Number in its filesystem.
        inode: u64,
        /// Size in bytes.
        size_bytes: u64,
        /// When its content changed, in nanoseconds since 1970.
        modified_ns: i128,
        /// When anything of it changed. Nobody can set this one back.
        changed_ns: i128,
    },
    /// Each write counts.
    Device(DiskState),
}

/// What has to hold for digests to be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    /// The medium is what it was.
    Still {
        /// Of the medium.
        mark: Mark,
        /// Only during this start of the system: what the mark stands for may have been in memory only.
        boot: Option<[u8; 16]>,
    },
    /// The medium is a file, which was being written by whoever kept the digests; nobody wrote to it after `until_ns`.
    WritingFile {
        /// Number in its filesystem.
        inode: u64,
        /// When it was made: numbers are given out again.
        made_ns: i128,
        /// A little later than when the digests were kept.
        until_ns: i128,
    },
    /// The same of a device: no more was written than the one who kept the digests may have done.
    WritingDevice {
        /// When what had been written was durable.
        state: DiskState,
        /// The count of written sectors that it may have come to.
        changed_max_sectors: u64,
    },
}

/// The clock by which files are stamped advances in steps of at most this.
const CLOCK_STEP: Duration = Duration::from_millis(20);

impl Mark {
    /// That of the medium at `path`, flushed before, as it is now. `None` where the system does not tell it well enough.
    ///
    /// Waits until whatever is written later gets a later time.
    pub(super) fn of(path: &Path) -> Option<Self> {
        Mark::look(path, true)
    }

    /// The same without a flush, where that can be: of a device, what is not written yet would count later.
    pub(super) fn of_cached(path: &Path) -> Option<Self> {
        Mark::look(path, false)
    }

    fn look(path: &Path, flush: bool) -> Option<Self> {
        let file = File::open(path).ok()?;
        if flush || !file.metadata().ok()?.is_file() {
            file.sync_all().ok()?;
        }
        let mark = Mark::of_open(&file)?;
        if let Mark::File { changed_ns, .. } = &mark
            && let Ok(age_ns) = u128::try_from(now_ns() - changed_ns)
            && age_ns < CLOCK_STEP.as_nanos()
        {
            thread::sleep(CLOCK_STEP);
            return Mark::of_open(&file).filter(|after| *after == mark);
        }
        Some(mark)
    }

    fn of_open(file: &File) -> Option<Self> {
        let metadata = file.metadata().ok()?;
        if metadata.file_type().is_block_device() {
            return DiskState::read(DeviceNumber::from_raw(metadata.rdev())).map(Mark::Device);
        }
        // Whole seconds only: two writes within one of them would look like one.
        if metadata.ctime_nsec() == 0 {
            return None;
        }
        Some(Mark::File {
            inode: metadata.ino(),
            size_bytes: metadata.len(),
            modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

impl Binding {
    /// For a medium that is being written, and was flushed when its disk's `state` was read; `lease` and `more_bytes` are how
    /// long and how much the writer may go on before it makes another.
    pub(super) fn writing(
        path: &Path,
        state: Option<&DiskState>,
        lease: Duration,
        more_bytes: u64,
    ) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        if metadata.file_type().is_block_device() {
            let state = state?.clone();
            let changed_max_sectors = state.changed_sectors.saturating_add(more_bytes / 512);
            return Some(Binding::WritingDevice { state, changed_max_sectors });
        }
        Some(Binding::WritingFile {
            inode: metadata.ino(),
            made_ns: made_ns(&metadata),
            until_ns: now_ns() + lease.as_nanos() as i128,
        })
    }

    /// Why the digests may not be used for the medium at `path`; nothing if they may.
    pub(super) fn refusal(&self, path: &Path) -> Option<&'static str> {
        const WRITTEN: &str = "it was written to since";
        const OTHER: &str = "it is another one";
        const UNKNOWN: &str = "the system does not tell whether it was written to since";
        match self {
            Binding::Still { boot: Some(boot), .. } if sys::boot_id() != Some(*boot) => {
                Some("the system was started anew since")
            }
            Binding::Still { mark, boot } => match Mark::look(path, boot.is_none()) {
                Some(now) if now == *mark => None,
                Some(_) => Some(WRITTEN),
                None => Some(UNKNOWN),
            },
            Binding::WritingFile { inode, made_ns: made, until_ns } => {
                let Ok(now) = fs::metadata(path) else { return Some(OTHER) };
                let is_it = now.is_file() && now.ino() == *inode && made_ns(&now) == *made;
                let written_ns = nanoseconds(now.mtime(), now.mtime_nsec());
                match is_it {
                    false => Some(OTHER),
                    true if written_ns > *until_ns => Some(WRITTEN),
                    true => None,
                }
            }
            Binding::WritingDevice { state, changed_max_sectors } => {
                let Some(Mark::Device(now)) = Mark::of(path) else { return Some(UNKNOWN) };
                let place = |state: &DiskState| {
                    (state.boot, state.sequence, state.start_sectors, state.size_sectors)
                };
                match place(&now) == place(state) {
                    false => Some(OTHER),
                    true if now.changed_sectors > *changed_max_sectors => Some(WRITTEN),
                    true => None,
                }
            }
        }
    }
}

/// When a file was made; 0 where the filesystem does not tell.
fn made_ns(metadata: &Metadata) -> i128 {
    let made = metadata.created().ok().and_then(|made| made.duration_since(UNIX_EPOCH).ok());
    made.map_or(0, |made| made.as_nanos() as i128)
}

fn now_ns() -> i128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as i128)
}

fn nanoseconds(seconds: i64, rest: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(rest)
}
