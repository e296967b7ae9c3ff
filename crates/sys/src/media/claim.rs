//! Claims on block devices by those who only read: all of this process share one, which keeps everybody else away.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A claim (O_EXCL) that lasts as long as one of its copies.
#[derive(Clone, Debug)]
pub(super) struct SharedClaim(#[expect(dead_code, reason = "held, not used")] Arc<File>);

/// Of each device that was claimed so, the claim that there may still be.
static CLAIMS: Mutex<BTreeMap<u64, Arc<Mutex<Weak<File>>>>> = Mutex::new(BTreeMap::new());

impl SharedClaim {
    /// Claims the device at `path`, or joins those of this process who have.
    ///
    /// # Errors
    ///
    /// Those of open(2): EBUSY if it is mounted, or claimed by somebody else.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let number = std::fs::metadata(path)?.rdev();
        // A device that is slow to open holds up nobody but those who want it, too.
        let known = {
            let mut claims = CLAIMS.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(claims.entry(number).or_default())
        };
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(claim) = known.upgrade() {
            return Ok(SharedClaim(claim));
        }
        let claim = Arc::new(OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(path)?);
        *known = Arc::downgrade(&claim);
        Ok(SharedClaim(claim))
    }
}

#[cfg(test)]
mod tests {
    use image::ErrorKind;
    use testkit::host::{LoopDevice, LoopOptions, Needs, require};

    use crate::{Access, DeviceMedium};

    #[test]
    fn readers_share_a_device_and_keep_writers_away() {
        let Some(scratch) = require(&Needs::root()) else { return };
        let disk = scratch.join("disk.img");
        std::fs::File::create(&disk).unwrap().set_len(1 << 20).unwrap();
        let device = LoopDevice::attach(&disk, &LoopOptions::default());
        let writer = || DeviceMedium::open(device.path(), Access::Write);
        let link = scratch.join("link");
        std::os::unix::fs::symlink(device.path(), &link).unwrap();
        let first = DeviceMedium::open_claimed(device.path()).unwrap();
        let second = DeviceMedium::open_claimed(&link).unwrap();
        assert_eq!(writer().unwrap_err().kind(), ErrorKind::InUse);
        drop(first);
        assert_eq!(writer().unwrap_err().kind(), ErrorKind::InUse);
        drop(second);
        let writing = writer().unwrap();
        let refused = DeviceMedium::open_claimed(device.path()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InUse);
        drop(writing);
        DeviceMedium::open_claimed(device.path()).unwrap();
    }
}
