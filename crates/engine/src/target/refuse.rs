//! What is refused before anything is written.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use image::units::Bytes;
use image::{Error, ErrorKind, Medium, Result};
use sys::{DeviceNumber, FileMedium, LoopDevice};

use super::lock::is_one;
use crate::registry::{self, MediumKind};

/// A source and the target must be two things.
pub(crate) fn refuse_same(source: &Path, path: &Path, target: &Metadata) -> Result<()> {
    if !is_same(&registry::look(source)?, target) {
        return Ok(());
    }
    let name = path.display().to_string();
    let sentence = format!("{} and {name} are the same", source.display());
    Err(Error::new(ErrorKind::Invalid, sentence).at(name, None))
}

/// Whether what is written to the target is written to the source, too.
fn is_same(source: &Metadata, target: &Metadata) -> bool {
    match (MediumKind::of(source), MediumKind::of(target)) {
        (Some(MediumKind::Device), Some(MediumKind::Device)) => source.rdev() == target.rdev(),
        (Some(MediumKind::File), Some(MediumKind::File)) => is_one(source, target),
        (Some(MediumKind::File), Some(MediumKind::Device)) => {
            let number = DeviceNumber::from_raw(target.rdev());
            LoopDevice::backed_by(source).iter().any(|found| found.device.number == number)
        }
        _ => false,
    }
}

/// A target of a fixed size must not be smaller than the image.
pub(crate) fn too_small(path: &Path, has: u64, needs: u64) -> Result<()> {
    if has >= needs {
        return Ok(());
    }
    let name = path.display().to_string();
    let sentence = format!(
        "{name} is too small: it has {has} bytes ({}), the image has {needs} ({}), which is {} bytes ({}) more",
        Bytes(has),
        Bytes(needs),
        needs - has,
        Bytes(needs - has)
    );
    Err(Error::new(ErrorKind::TooSmall, sentence).at(name, None))
}

/// A name in /dev that does not exist is a device that was misspelt: a file there would lie in memory.
pub(super) fn new_in_dev(path: &Path) -> Result<()> {
    let parent = path.parent().and_then(|parent| fs::canonicalize(parent).ok()).unwrap_or_default();
    if parent.starts_with("/dev") && !parent.starts_with("/dev/shm") {
        let name = path.display().to_string();
        return Err(
            Error::new(ErrorKind::NotFound, format!("there is no device {name}")).at(name, None)
        );
    }
    Ok(())
}

/// A link that leads nowhere would be found in the way when all is done.
pub(super) fn dangling_link(path: &Path) -> Result<()> {
    if fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    let name = path.display().to_string();
    let sentence = format!("cannot write to {name}: it is a link that leads nowhere");
    Err(Error::new(ErrorKind::Invalid, sentence).at(name, None))
}

/// A file that is to be written where it stands, as the container that it is, has to be one.
pub(super) fn no_container(medium: &FileMedium) -> Result<()> {
    if registry::begins_like_container(medium)? {
        return Ok(());
    }
    let name = medium.name();
    let sentence = format!(
        "{name} is no spgz container that could be written where it stands (without --in-place it is replaced by one; \
         raw:{name} overwrites it with the bytes of the image)"
    );
    Err(Error::new(ErrorKind::Invalid, sentence).at(name, None))
}
