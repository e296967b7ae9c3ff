//! A target that is being written, and how it ends.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use formats::raw::RawImage;
use image::{Folder, ImageMut, Medium, Replace, Result};
use sys::{DeviceMedium, Directory};

use super::{FileImage, NewPermissions, TargetKind, metadata_of, which_container, which_file};
use crate::Steps;
use crate::location::{Format, Location};
use crate::publish::publish;
use crate::registry::Identity;

/// A target that is being written.
pub(crate) enum Opened {
    File {
        image: FileImage,
        directory: Directory,
        name: OsString,
        partial: OsString,
        replace: Replace,
        blank: bool,
        path: PathBuf,
        permissions: NewPermissions,
    },
    InPlace {
        image: FileImage,
        path: PathBuf,
    },
    Device {
        image: RawImage<DeviceMedium>,
        path: PathBuf,
    },
}

impl Opened {
    /// The target as an image.
    pub(crate) fn image(&self) -> &dyn ImageMut {
        match self {
            Opened::File { image, .. } | Opened::InPlace { image, .. } => image.image(),
            Opened::Device { image, .. } => image,
        }
    }

    /// Cuts it or lets it grow; what is new reads as zeroes.
    pub(crate) fn resize(&mut self, size_bytes: u64) -> Result<()> {
        match self {
            Opened::File { image, .. } | Opened::InPlace { image, .. } => {
                image.image_mut().resize(size_bytes)
            }
            Opened::Device { image, .. } => image.resize(size_bytes),
        }
    }

    /// The target as a file whose bytes are those of the image, so that it can share blocks with another.
    pub(crate) fn file(&self) -> Option<&fs::File> {
        match self {
            Opened::File { image: FileImage::Raw(image), .. }
            | Opened::InPlace { image: FileImage::Raw(image), .. } => Some(image.medium().file()),
            _ => None,
        }
    }

    /// The length of its blocks in bytes, if it is a container.
    pub(crate) fn block_bytes(&self) -> Option<u64> {
        match self {
            Opened::File { image, .. } | Opened::InPlace { image, .. } => image.block_bytes(),
            Opened::Device { .. } => None,
        }
    }

    /// Whether all of it reads as zeroes when it is opened.
    pub(crate) fn is_blank(&self) -> bool {
        matches!(self, Opened::File { blank: true, .. })
    }

    /// Where it will be.
    pub(crate) fn path(&self) -> &Path {
        match self {
            Opened::File { path, .. }
            | Opened::InPlace { path, .. }
            | Opened::Device { path, .. } => path,
        }
    }

    /// Where it is now.
    pub(crate) fn location(&self) -> Location {
        let (path, format) = match self {
            Opened::File { path, partial, image, .. } => {
                (path.with_file_name(partial), image.format())
            }
            Opened::InPlace { path, image } => (path.clone(), image.format()),
            Opened::Device { path, .. } => (path.clone(), Format::Raw),
        };
        Location { format: Some(format), path }
    }

    /// What it is.
    pub(crate) fn kind(&self) -> TargetKind {
        match self {
            Opened::File { replace: Replace::Never, .. } => TargetKind::NewFile,
            Opened::File { replace: Replace::Allowed, .. } => TargetKind::ReplacedFile,
            Opened::InPlace { .. } => TargetKind::FileInPlace,
            Opened::Device { .. } => TargetKind::Device,
        }
    }

    /// Which medium is written, for a journal.
    pub(crate) fn identity(&self) -> Result<Identity> {
        match self {
            Opened::File { image, .. } | Opened::InPlace { image, .. } => {
                let metadata = metadata_of(image.medium())?;
                Ok(match image {
                    FileImage::Raw(_) => which_file(&metadata),
                    FileImage::Spgz(_) => which_container(&metadata),
                })
            }
            Opened::Device { image, path } => {
                Ok(Identity::Device { path: path.clone(), size_bytes: image.medium().len()? })
            }
        }
    }

    /// For people: what is there after a failure. `verb` is what was done to it: "copied".
    pub(crate) fn left_behind(&self, verb: &str) -> String {
        match self {
            Opened::File { path, partial, .. } => {
                format!("what was {verb} is kept in {}", path.with_file_name(partial).display())
            }
            Opened::InPlace { path, .. } | Opened::Device { path, .. } => {
                format!("{} now holds a mixture of old and new", path.display())
            }
        }
    }

    /// Removes a partial file; `None` where there is nothing that could be undone.
    pub(crate) fn abandon(self) -> Option<Result<()>> {
        match self {
            Opened::File { directory, partial, .. } => Some(directory.remove(&partial)),
            _ => None,
        }
    }

    /// Puts a new file under its name. Everything written is durable already. `noun` is what it is: "copy".
    pub(crate) fn publish(self, noun: &str, steps: &Steps) -> Result<()> {
        match self {
            Opened::File {
                image, directory, name, partial, replace, path, permissions, ..
            } => {
                let partial_path = path.with_file_name(&partial);
                let medium = image.medium();
                permissions
                    .apply(medium, &partial_path)
                    .and_then(|()| publish(&directory, medium, &partial, &name, replace, steps))
                    .map_err(|error| {
                        let kept = partial_path.display();
                        error.and(format!("the complete {noun} is kept in {kept}"))
                    })
            }
            _ => Ok(()),
        }
    }
}
