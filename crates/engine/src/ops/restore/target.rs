//! The partition that is overwritten: looked at, claimed, written, read back.

use std::fs;
use std::path::{Path, PathBuf};

use image::layers::Throttle;
use image::units::Bytes;
use image::{AlignedBuf, Error, ErrorKind, Medium, Result};
use sys::holders::Holders;
use sys::{Access, DeviceMedium};

use crate::registry::{self, MediumKind};

/// A partition that is ours alone.
pub(super) struct Target {
    pub(super) path: PathBuf,
    pub(super) medium: DeviceMedium,
}

/// What is done with the bytes of an image.
pub(super) struct Pass<'a> {
    pub(super) target: &'a DeviceMedium,
    pub(super) act: Act,
    pub(super) throttle: Option<Throttle>,
}

/// Writing them, or comparing them with what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Write,
    Compare,
}

/// What a thread keeps from piece to piece.
#[derive(Default)]
pub(super) struct Tools {
    /// What is read back.
    back: AlignedBuf,
}

impl Target {
    /// Claims it, so that nobody can mount it meanwhile. Writes nothing.
    ///
    /// # Errors
    ///
    /// `NotFound`, `Denied`; `Invalid` for what is no block device; `InUse` for what is mounted, held or claimed.
    pub(super) fn claim(path: &Path) -> Result<Self> {
        let metadata = registry::look(path)?;
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let name = path.display().to_string();
        if MediumKind::of(&metadata) != Some(MediumKind::Device) {
            let sentence = format!(
                "cannot restore to {name}: it is no block device (`blockprint copy` writes images into files)"
            );
            return Err(Error::new(ErrorKind::Invalid, sentence).at(name, None));
        }
        let holders = Holders::of(&metadata)?;
        if holders.is_held() {
            let sentence =
                format!("cannot restore to {name}: it is {holders} (unmount or detach it first)");
            return Err(Error::new(ErrorKind::InUse, sentence).at(name, None));
        }
        let medium =
            DeviceMedium::open(&path, Access::Write).map_err(|error| match error.kind() {
                ErrorKind::InUse => error.and("somebody else has claimed it"),
                _ => error,
            })?;
        // Blocks may be smaller than pages, and which threads write neighbours is chance.
        Ok(Target { path, medium: medium.through_cache() })
    }

    /// Refuses an image of a larger partition.
    pub(super) fn refuse_larger(&self, image: &Path, needs: u64) -> Result<()> {
        let has = self.medium.len()?;
        if needs <= has { Ok(()) } else { Err(too_small(&self.path, has, image, needs)) }
    }
}

/// The error for an image that does not fit.
pub(super) fn too_small(target: &Path, has: u64, image: &Path, needs: u64) -> Error {
    let name = target.display().to_string();
    let sentence = format!(
        "image is larger than the target: {} is of a partition of {needs} bytes ({}), {name} has {has} ({})",
        image.display(),
        Bytes(needs),
        Bytes(has),
    );
    Error::new(ErrorKind::TooSmall, sentence).at(name, None)
}

impl Pass<'_> {
    /// Does it with bytes that belong to `offset` of the partition.
    pub(super) fn put(&self, bytes: &[u8], offset: u64, tools: &mut Tools) -> Result<()> {
        if let Some(throttle) = &self.throttle {
            throttle.take(bytes.len() as u64);
        }
        match self.act {
            Act::Write => self.target.write_at(bytes, offset),
            Act::Compare => {
                tools.back.grow_to(bytes.len());
                let back = &mut tools.back[..bytes.len()];
                self.target.read_at(back, offset)?;
                match back.iter().zip(bytes).position(|(a, b)| a != b) {
                    None => Ok(()),
                    Some(at) => Err(self.differs(offset + at as u64)),
                }
            }
        }
    }

    fn differs(&self, at: u64) -> Error {
        let name = self.target.name();
        let sentence = format!(
            "{name} does not hold what was written to it: read back, byte {at} is another one (the device, or its cable, is failing)"
        );
        Error::new(ErrorKind::Damaged, sentence).at(name, Some(at..at + 1))
    }
}
