//! A writer inside a filesystem that is frozen, copied or killed meanwhile, which remembers what was acknowledged.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::records::{BLOCK_BYTES, CHURN, RECORD_BYTES, RECORDS, churned_block, fill};
use super::{mounts, thaw};

/// How hard a writer works.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// So many records between two calls of fsync; a record counts as acknowledged once that returned.
    pub records_per_sync: u64,
    /// Overwrite one block of a file of so many 4 KiB blocks before each record; none where this is zero.
    pub churn_blocks: u64,
    /// Rest so long after each sync.
    pub rest: Duration,
}

impl Default for Load {
    fn default() -> Self {
        Load { records_per_sync: 1, churn_blocks: 256, rest: Duration::ZERO }
    }
}

/// The longest time in which a writer got nothing acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// The last record acknowledged before it.
    pub last_record: u64,
    /// How long it was.
    pub length: Duration,
}

/// A thread that appends numbered records with fsync until it is stopped.
///
/// When dropped while its filesystem is frozen, it thaws it: a thread that waits in the kernel cannot be stopped.
#[derive(Debug)]
pub struct Writer {
    folder: PathBuf,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// When each record was acknowledged; record 1 comes first.
    acknowledged: Mutex<Vec<Instant>>,
}

impl Writer {
    /// Starts writing in `folder`, and returns once the first record is acknowledged.
    #[track_caller]
    pub fn start(folder: &Path, load: &Load) -> Self {
        let shared = Arc::new(Shared::default());
        let (given, place, load) = (Arc::clone(&shared), folder.to_path_buf(), *load);
        let thread = thread::spawn(move || write(&place, &load, &given));
        let mut writer = Writer { folder: folder.to_path_buf(), shared, thread: Some(thread) };
        while writer.acknowledged() == 0 {
            if writer.thread.as_ref().is_some_and(JoinHandle::is_finished) {
                panic!("the writer could not start: {:?}", writer.join());
            }
            thread::sleep(Duration::from_millis(1));
        }
        writer
    }

    /// The number of records acknowledged until now.
    pub fn acknowledged(&self) -> u64 {
        self.with_times(|times| times.len() as u64)
    }

    /// The number of records acknowledged at that moment.
    pub fn acknowledged_at(&self, moment: Instant) -> u64 {
        self.with_times(|times| times.partition_point(|time| *time <= moment) as u64)
    }

    /// The longest pause between two acknowledgements from the last one before `since` until now.
    pub fn longest_pause(&self, since: Instant) -> Pause {
        self.with_times(|times| {
            let first = times.partition_point(|time| *time <= since).saturating_sub(1);
            let pauses = times[first..].windows(2).enumerate().map(|(index, pair)| Pause {
                last_record: (first + index + 1) as u64,
                length: pair[1] - pair[0],
            });
            let none = Pause { last_record: times.len() as u64, length: Duration::ZERO };
            pauses.max_by_key(|pause| pause.length).unwrap_or(none)
        })
    }

    /// Waits until one more record is acknowledged. False if that takes longer than `at_most`.
    pub fn goes_on(&self, at_most: Duration) -> bool {
        let start = Instant::now();
        let before = self.acknowledged();
        while self.acknowledged() == before {
            if start.elapsed() > at_most {
                return false;
            }
            thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// Stops it: the number of acknowledged records, or why it stopped by itself.
    pub fn stop(mut self) -> Result<u64, String> {
        match self.join() {
            Some(Err(cause)) => Err(format!("the writer failed: {cause}")),
            _ => Ok(self.acknowledged()),
        }
    }

    fn join(&mut self) -> Option<io::Result<()>> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take()?;
        let start = Instant::now();
        while !thread.is_finished() {
            if start.elapsed() > Duration::from_secs(1) {
                self.thaw_below();
            }
            thread::sleep(Duration::from_millis(2));
        }
        Some(thread.join().unwrap_or_else(|_| Err(io::Error::other("it panicked"))))
    }

    fn thaw_below(&self) {
        let holds = |point: &PathBuf| self.folder.starts_with(point);
        let points = mounts().into_iter().map(|entry| entry.point).filter(holds);
        if let Some(point) = points.max_by_key(|point| point.as_os_str().len()) {
            thaw(&point);
        }
    }

    fn with_times<T>(&self, ask: impl FnOnce(&[Instant]) -> T) -> T {
        ask(&self.shared.acknowledged.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.join();
    }
}

fn write(folder: &Path, load: &Load, shared: &Shared) -> io::Result<()> {
    let mut records = File::create_new(folder.join(RECORDS))?;
    let churn = churned_file(folder, load.churn_blocks)?;
    let mut record = [0; RECORD_BYTES];
    let mut block = [0; BLOCK_BYTES];
    let mut number = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        for _ in 0..load.records_per_sync {
            number += 1;
            if let Some(file) = &churn {
                fill(&mut block, number);
                let index = churned_block(number, load.churn_blocks);
                file.write_all_at(&block, index * BLOCK_BYTES as u64)?;
            }
            fill(&mut record, number);
            records.write_all(&record)?;
        }
        records.sync_all()?;
        let now = Instant::now();
        let mut times = shared.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        times.resize(number as usize, now);
        drop(times);
        thread::sleep(load.rest);
    }
    Ok(())
}

fn churned_file(folder: &Path, block_count: u64) -> io::Result<Option<File>> {
    if block_count == 0 {
        return Ok(None);
    }
    let file = OpenOptions::new().write(true).create_new(true).open(folder.join(CHURN))?;
    file.set_len(block_count * BLOCK_BYTES as u64)?;
    Ok(Some(file))
}

#[cfg(test)]
mod tests {
    use super::super::{
        Filesystem, Needs, TempDir, loop_devices, make_image, read_records, require,
    };
    use super::*;

    #[test]
    fn what_was_acknowledged_can_be_read() {
        let scratch = TempDir::new("writer");
        let load = Load { records_per_sync: 3, ..Load::default() };
        let writer = Writer::start(scratch.path(), &load);
        assert!(writer.goes_on(Duration::from_secs(5)));
        let acknowledged = writer.stop().unwrap();
        assert!(acknowledged >= 6);
        assert_eq!(read_records(scratch.path()), Ok(acknowledged));
    }

    #[test]
    fn a_writer_tells_why_it_stopped() {
        let Some(_scratch) = require(&Needs::root().filesystems(&["ext4"])) else {
            return;
        };
        let filesystem = Filesystem::ext4(16 << 20);
        let writer = Writer::start(filesystem.path(), &Load::default());
        super::super::fill_disk(filesystem.path());
        while writer.goes_on(Duration::from_millis(500)) {}
        let sentence = writer.stop().unwrap_err();
        assert!(sentence.contains("No space left"), "{sentence}");
    }

    #[test]
    fn a_freeze_is_the_longest_pause_and_a_frozen_writer_can_be_dropped() {
        let Some(scratch) = require(&Needs::root().filesystems(&["ext4"])) else {
            return;
        };
        let filesystem = Filesystem::ext4(64 << 20);
        let writer = Writer::start(filesystem.path(), &Load::default());
        let before = Instant::now();
        filesystem.as_mount().freeze();
        let frozen = writer.acknowledged();
        thread::sleep(Duration::from_millis(300));
        assert_eq!(writer.acknowledged(), frozen);
        let image = scratch.join("frozen.img");
        std::fs::copy(filesystem.image(), &image).unwrap();
        assert!(thaw(filesystem.path()));
        assert!(writer.goes_on(Duration::from_secs(5)));
        let pause = writer.longest_pause(before);
        assert!(pause.length >= Duration::from_millis(300), "{pause:?}");
        assert_eq!(pause.last_record, frozen);
        assert!(writer.acknowledged_at(before) <= frozen);
        filesystem.as_mount().freeze();
        drop(writer);
        let copy = Filesystem::mount_read_only(&image);
        let last = read_records(copy.path()).unwrap();
        assert!(last == frozen || last == frozen + 1, "{last} of {frozen}");
    }

    #[test]
    fn guards_may_be_dropped_in_the_wrong_order() {
        let Some(scratch) = require(&Needs::root().filesystems(&["ext4"])) else {
            return;
        };
        let image = scratch.join("order.img");
        make_image("ext4", &image, 64 << 20);
        let filesystem = Filesystem::mount(&image);
        let writer = Writer::start(filesystem.path(), &Load::default());
        drop(scratch);
        drop(filesystem);
        drop(writer);
        let is_gone = || !loop_devices().iter().any(|one| one.backing == image);
        let start = Instant::now();
        while !is_gone() && start.elapsed() < Duration::from_secs(5) {
            thread::sleep(Duration::from_millis(10));
        }
        assert!(is_gone());
    }
}
