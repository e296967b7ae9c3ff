//! A whole disk, open, and its partitions as block devices, whether the kernel knows them or not.

use std::fs;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use formats::table::Table;
use image::{Error, ErrorKind, Medium, Result};
use sys::holders::Holders;
use sys::{Access, AttachedPart, DeviceMedium, FileMedium};

use crate::registry::{self, MediumKind};

/// A disk, or a file with the content of one.
pub(super) struct Disk {
    /// Where it is, links followed.
    pub(super) path: PathBuf,
    pub(super) medium: Box<dyn Medium>,
    pub(super) sector_bytes: u32,
    /// The claim lasts as long as this does.
    handle: OwnedFd,
    access: Access,
}

impl Disk {
    /// Opens it for a look at its table, whoever uses it.
    pub(super) fn look_at(path: &Path) -> Result<Self> {
        Disk::open(path, |path| DeviceMedium::open(path, Access::Read))
    }

    /// Opens it for reading, and claims it with all its partitions: nobody can mount one meanwhile.
    ///
    /// # Errors
    ///
    /// `InUse` for what is mounted or held.
    pub(super) fn claim_to_read(path: &Path) -> Result<Self> {
        refuse_held(path, "make a backup of")?;
        Disk::open(path, DeviceMedium::open_claimed)
    }

    /// Opens the device `path` for writing, and claims it with all its partitions.
    ///
    /// # Errors
    ///
    /// `InUse` for what is mounted or held; `Invalid` for what is no block device.
    pub(super) fn claim_to_write(path: &Path) -> Result<Self> {
        let metadata = registry::look(path)?;
        if registry::medium_kind(path, &metadata)? != MediumKind::Device {
            let name = path.display().to_string();
            let sentence =
                format!("cannot restore a disk to {name}: it is no block device, such as /dev/sdb");
            return Err(Error::new(ErrorKind::Invalid, sentence).at(name, None));
        }
        refuse_held(path, "overwrite")?;
        let disk = Disk::open(path, |path| DeviceMedium::open(path, Access::Write))?;
        Ok(Disk { access: Access::Write, ..disk })
    }

    fn open(path: &Path, open: impl Fn(&Path) -> Result<DeviceMedium>) -> Result<Self> {
        let metadata = registry::look(path)?;
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let access = Access::Read;
        let (medium, handle, sector_bytes): (Box<dyn Medium>, _, _) =
            match registry::medium_kind(&path, &metadata)? {
                MediumKind::Device => {
                    let medium = open(&path).map_err(|error| match error.kind() {
                        ErrorKind::InUse => error.and("somebody else has claimed it"),
                        _ => error,
                    })?;
                    let sector_bytes = medium.logical_sector_bytes();
                    let handle = medium.as_fd().try_clone_to_owned();
                    (Box::new(medium), handle, sector_bytes)
                }
                MediumKind::File => {
                    let medium = FileMedium::open(&path, Access::Read)?;
                    let sector_bytes = Table::sector_bytes_of_file(&medium)?;
                    let handle = medium.file().as_fd().try_clone_to_owned();
                    (Box::new(medium), handle, sector_bytes)
                }
            };
        let handle = handle.map_err(|cause| {
            let name = path.display().to_string();
            Error::io(format!("cannot open {name} once more"), cause).at(name, None)
        })?;
        Ok(Disk { path, medium, sector_bytes, handle, access })
    }

    /// The bytes `range` of it as a block device.
    pub(super) fn attach(&self, range: &Range<u64>) -> Result<AttachedPart> {
        let name = self.medium.name();
        AttachedPart::attach(self.handle.as_fd(), name, range, self.sector_bytes, self.access)
    }

    /// Has the kernel look for the partitions of a new table.
    pub(super) fn tell_kernel(&self) -> Result<()> {
        sys::reread_partitions(self.handle.as_fd(), self.medium.name())
    }
}

fn refuse_held(path: &Path, what: &str) -> Result<()> {
    let holders = Holders::of_path(path)?;
    if !holders.is_held() {
        return Ok(());
    }
    let name = path.display().to_string();
    let sentence = format!("cannot {what} {name}: it is {holders} (unmount or detach it first)");
    Err(Error::new(ErrorKind::InUse, sentence).at(name, None))
}
