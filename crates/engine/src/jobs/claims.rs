//! What a job uses, and whether two jobs get in each other's way.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sys::{BlockDevice, DeviceNumber};

/// What a job is about, for the table of what is in use and for the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// The word for the work: `backup`, `restore`, …
    pub what: &'static str,
    /// Devices and files that are read: others may read them as well.
    pub reads: Vec<PathBuf>,
    /// Devices and files that are written: nobody else may touch them.
    pub writes: Vec<PathBuf>,
}

/// Claims, and what devices their paths are.
#[derive(Debug)]
pub(super) struct Uses {
    pub(super) claims: Claims,
    reads: Vec<Thing>,
    writes: Vec<Thing>,
}

/// A path, and if it is a device, its number and those of all that lies on it.
#[derive(Debug)]
struct Thing {
    path: PathBuf,
    device: Option<(DeviceNumber, BTreeSet<DeviceNumber>)>,
}

impl Uses {
    pub(super) fn of(claims: Claims) -> Self {
        let things = |paths: &[PathBuf]| paths.iter().map(|path| Thing::of(path)).collect();
        Uses { reads: things(&claims.reads), writes: things(&claims.writes), claims }
    }

    /// What both use, unless both only read it.
    pub(super) fn conflict<'a>(&self, other: &'a Uses) -> Option<&'a Path> {
        let with = |mine: &[Thing], theirs: &'a [Thing]| {
            theirs.iter().find(|their| mine.iter().any(|my| my.overlaps(their)))
        };
        let found = with(&self.writes, &other.writes)
            .or_else(|| with(&self.writes, &other.reads))
            .or_else(|| with(&self.reads, &other.writes));
        found.map(|thing| thing.path.as_path())
    }
}

impl Thing {
    fn of(path: &Path) -> Self {
        let device = DeviceNumber::of_node(path).map(|number| {
            let family = BlockDevice::from_number(number).map(|device| device.family());
            (number, family.unwrap_or_default().iter().map(|device| device.number).collect())
        });
        Thing { path: path.to_owned(), device }
    }

    /// Whether they are the same, or one is a device that lies on the other.
    fn overlaps(&self, other: &Thing) -> bool {
        let same_device = match (&self.device, &other.device) {
            (Some((mine, on_mine)), Some((theirs, on_theirs))) => {
                mine == theirs || on_mine.contains(theirs) || on_theirs.contains(mine)
            }
            _ => false,
        };
        same_device || self.path == other.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::host::{LoopDevice, LoopOptions, Needs, partition_image, require};

    fn reads(path: &Path) -> Uses {
        Uses::of(Claims { what: "backup", reads: vec![path.to_owned()], writes: Vec::new() })
    }

    fn writes(path: &Path) -> Uses {
        Uses::of(Claims { what: "restore", reads: Vec::new(), writes: vec![path.to_owned()] })
    }

    #[test]
    fn only_those_who_read_may_share() {
        let (here, there) = (Path::new("/srv/a"), Path::new("/srv/b"));
        assert_eq!(reads(here).conflict(&reads(here)), None);
        assert_eq!(reads(here).conflict(&writes(here)), Some(here));
        assert_eq!(writes(here).conflict(&reads(here)), Some(here));
        assert_eq!(writes(here).conflict(&writes(here)), Some(here));
        assert_eq!(writes(here).conflict(&writes(there)), None);
    }

    #[test]
    fn a_disk_is_in_the_way_of_its_partitions_and_they_of_it_but_not_of_each_other() {
        let Some(scratch) = require(&Needs::root().tools(&["sfdisk", "partx"])) else { return };
        let disk = scratch.join("disk.img");
        partition_image(&disk, 24 << 20, "label: gpt\nsize=8M\nsize=8M\n");
        let options = LoopOptions { partitions: true, ..LoopOptions::default() };
        let device = LoopDevice::attach(&disk, &options);
        let (whole, first, second) = (device.path(), device.partition(1), device.partition(2));
        assert!(writes(whole).conflict(&reads(&first)).is_some());
        assert!(writes(&second).conflict(&reads(whole)).is_some());
        assert!(reads(whole).conflict(&reads(&first)).is_none());
        assert!(writes(&first).conflict(&writes(&second)).is_none());
        let link = scratch.join("link");
        std::os::unix::fs::symlink(&first, &link).unwrap();
        assert!(writes(&first).conflict(&writes(&link)).is_some());
    }
}
