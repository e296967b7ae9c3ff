//! The filesystems that have to be frozen while an image is cloned: found, opened, flushed, frozen.

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use image::{Error, ErrorKind, Result};
use sys::freeze::{FreezeError, Frozen};
use sys::holders::Holders;
use sys::{DeviceNumber, MountEntry, MountTable, Namespace};

use super::FrozenFilesystem;

/// Mounted filesystems that lie on the sources, each once, each with its root open.
pub(super) struct Filesystems {
    mounts: Vec<MountEntry>,
    roots: Vec<File>,
}

impl Filesystems {
    /// Those that are mounted from whatever `holders` hold.
    ///
    /// # Errors
    ///
    /// `InUse` if a filesystem is mounted only where this process cannot reach it, `Denied` where it may not.
    pub(super) fn of<'a>(holders: impl Iterator<Item = &'a Holders>) -> Result<Self> {
        let all: Vec<&MountEntry> = holders
            .flat_map(|holders| &holders.mounts)
            .filter(|entry| entry.can_change())
            .collect();
        let mut found = Filesystems { mounts: Vec::new(), roots: Vec::new() };
        let numbers: BTreeSet<DeviceNumber> =
            all.iter().map(|entry| entry.filesystem_number).collect();
        for number in numbers {
            let mut failure = None;
            // Any of its mounts will do; some may be hidden under others.
            for entry in all.iter().filter(|entry| entry.filesystem_number == number) {
                match entry.open() {
                    Ok(root) => {
                        found.mounts.push((*entry).clone());
                        found.roots.push(root);
                        failure = None;
                        break;
                    }
                    Err(cause) => failure = Some((entry, cause)),
                }
            }
            if let Some((entry, cause)) = failure {
                let place = entry.mount_point.display().to_string();
                let sentence =
                    format!("cannot reach the filesystem mounted at {place} to freeze it");
                let kind = match cause.kind() {
                    std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                    _ => ErrorKind::InUse,
                };
                return Err(Error::new(kind, sentence).because(cause).at(place, None));
            }
        }
        Ok(found)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// Refuses if `path` lies in one of them, or in a filesystem that itself stands on one: a write to it would
    /// wait for a thaw that waits for the write. `named` is what the user called it.
    pub(super) fn refuse_if_inside(&self, path: &Path, named: &Path) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let failed = |cause| {
            let name = path.display().to_string();
            Error::io(format!("cannot tell in which filesystem {name} lies"), cause).at(name, None)
        };
        let table = MountTable::read().map_err(failed)?;
        let mut at = path.to_owned();
        for depth in 0..DEPTH_MAX {
            let file = match File::open(&at) {
                Ok(file) => file,
                // A file below that was removed, or is out of reach. If a write should wait for the thaw because
                // of it, the thaw comes when the time is up.
                Err(_) if depth > 0 => return Ok(()),
                Err(cause) => return Err(failed(cause)),
            };
            let number = table.filesystem_of(&file).map_err(failed)?;
            if let Some(mount) = self.mounts.iter().find(|mount| mount.filesystem_number == number)
            {
                let name = named.display().to_string();
                let sentence = format!(
                    "{name} lies in the filesystem mounted at {}, which has to be frozen for the clone",
                    mount.mount_point.display()
                );
                return Err(Error::new(ErrorKind::InUse, sentence).at(name, None));
            }
            match table.backing_file_of(number) {
                Some(file) => at = file,
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Refuses if meanwhile something more was mounted from the sources, which then was not frozen.
    pub(super) fn refuse_if_more<'a>(
        &self,
        sources: impl Iterator<Item = &'a Metadata>,
    ) -> Result<()> {
        for source in sources {
            for entry in Holders::of(source)?.mounts.into_iter().filter(MountEntry::can_change) {
                let known = |mount: &MountEntry| mount.filesystem_number == entry.filesystem_number;
                if !self.mounts.iter().any(known) {
                    let place = entry.mount_point.display().to_string();
                    let sentence = format!(
                        "a filesystem of the image was mounted at {place} during the clone, which was removed \
                         (try again)"
                    );
                    return Err(Error::new(ErrorKind::Changed, sentence).at(place, None));
                }
            }
        }
        Ok(())
    }

    /// Writes out what is dirty, so that freezing has little left to write.
    pub(super) fn flush(&self) {
        for root in &self.roots {
            // Freezing flushes again, and reports what cannot be written.
            let _ = sys::flush_filesystem(root.as_fd());
        }
    }

    /// Freezes them all, for at most `at_most`.
    pub(super) fn freeze(&self, at_most: Duration) -> Result<Frozen<'_>> {
        sys::freeze::freeze(&self.roots, at_most)
            .map_err(|error| self.freeze_failed(error, at_most))
    }

    fn freeze_failed(&self, error: FreezeError, at_most: Duration) -> Error {
        const ETIMEDOUT: i32 = 110;
        let Some(mount) = error.root.and_then(|index| self.mounts.get(index)) else {
            return Error::io("cannot start the watchdog that would thaw", error.cause);
        };
        let place = mount.mount_point.display().to_string();
        if error.cause.raw_os_error() == Some(ETIMEDOUT) {
            let sentence = format!(
                "the filesystem mounted at {place} could not be frozen within {} ms (a longer --freeze-timeout \
                 may help)",
                at_most.as_millis()
            );
            return Error::new(ErrorKind::Changed, sentence).at(place, None);
        }
        let sentence = match error.cause.kind() {
            std::io::ErrorKind::ResourceBusy => format!(
                "the filesystem mounted at {place} is frozen already, by somebody else (`fsfreeze -u {place}` \
                 thaws it, if nobody is at work)"
            ),
            std::io::ErrorKind::PermissionDenied => {
                format!("only root may freeze the filesystem mounted at {place}")
            }
            std::io::ErrorKind::Unsupported => format!(
                "{} at {place} cannot be frozen (unmount it for the clone)",
                mount.filesystem
            ),
            _ => format!("cannot freeze the filesystem mounted at {place}"),
        };
        Error::io(sentence, error.cause).at(place, None)
    }

    /// For the report.
    pub(super) fn describe(&self) -> Vec<FrozenFilesystem> {
        let describe = |mount: &MountEntry| FrozenFilesystem {
            mount_point: match mount.namespace {
                Namespace::Own => mount.mount_point.clone(),
                Namespace::Of(_) => mount.reachable_path(),
            },
            device: mount.source.clone(),
            filesystem: mount.filesystem.clone(),
        };
        self.mounts.iter().map(describe).collect()
    }
}

/// Filesystems in files in filesystems: more floors than anybody builds.
const DEPTH_MAX: usize = 16;

/// Writes out what loop devices on a file still hold in memory, when no filesystem is there to do it.
pub(super) fn flush_devices(holders: &Holders) {
    for device in &holders.devices {
        if let Ok(node) = File::open(&device.path) {
            // Best effort: what cannot be written is an error for whoever wrote it.
            let _ = node.sync_all();
        }
    }
}
