//! What an operation writes to: claimed before anything is written, opened, and in the end published or abandoned.

mod file_image;
mod lock;
mod opened;
mod permissions;
mod refuse;

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};

use formats::raw::RawImage;
use image::{Error, ErrorKind, Folder, Medium, Replace, Result};
use sys::holders::Holders;
use sys::{Access, DeviceMedium, Directory, FileMedium};

use crate::folders::beside;
use crate::location::Format;
use crate::registry::{self, Identity, MediumKind};
pub(crate) use file_image::{FileImage, Layout};
pub(crate) use lock::{create_partial, lock_alone, metadata_of, which_container, which_file};
pub(crate) use opened::Opened;
pub(crate) use permissions::NewPermissions;
pub(crate) use refuse::{refuse_same, too_small};

/// What an operation writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// A new file.
    NewFile,
    /// A new file that takes the place of an old one.
    ReplacedFile,
    /// An existing file, where it stands.
    FileInPlace,
    /// A block device.
    Device,
}

/// What is wanted of a target.
pub(crate) struct Wanted<'a> {
    /// Where it is to be; no folder.
    pub(crate) path: PathBuf,
    /// Size of the image that it is to hold, in bytes.
    pub(crate) size_bytes: u64,
    /// What a file gets that is new and replaces none: its mode without what umask takes away.
    pub(crate) new_mode: u32,
    /// What a file is to be, or is where it stands; a device is always raw.
    pub(crate) layout: Layout,
    /// An existing file may be replaced or overwritten.
    pub(crate) force: bool,
    /// An existing file is overwritten where it stands.
    pub(crate) in_place: bool,
    /// Refuses what stands there if it is one of the sources.
    pub(crate) apart: &'a dyn Fn(&Path, &Metadata) -> Result<()>,
    /// Whether the file that stands there is what an interrupted run had finished and named before it could say so.
    pub(crate) is_finished: &'a dyn Fn(&Path, &Metadata) -> bool,
}

/// A target that may be written. A device is open and claimed; of a file, only its folder is open.
pub(crate) struct Claim {
    path: PathBuf,
    hold: Hold,
    permissions: NewPermissions,
    layout: Layout,
}

/// How a claimed target is held.
pub(crate) enum Hold {
    /// A file that is to be made, or replaced.
    File { directory: Directory, name: OsString, partial: OsString, replace: Replace },
    /// A file that is written where it stands; open and locked.
    InPlace { medium: FileMedium },
    /// A device; open and claimed.
    Device { medium: DeviceMedium },
}

/// Whether what an interrupted run has left is gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leftover {
    /// A partial file is taken up again.
    TakenUp,
    /// It is removed, and a new one begun.
    Removed,
}

impl Claim {
    /// Claims what is `wanted`, or refuses it. Writes nothing.
    ///
    /// # Errors
    ///
    /// `Exists` for a file that may not be replaced; `InUse` for what is mounted, attached or claimed; `TooSmall` for
    /// a device; `Invalid`, `NotFound`, `Denied`.
    pub(crate) fn new(wanted: Wanted<'_>) -> Result<Self> {
        match fs::metadata(&wanted.path) {
            Ok(metadata) => Claim::existing(&wanted, &metadata),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                refuse::dangling_link(&wanted.path)?;
                refuse::new_in_dev(&wanted.path)?;
                let permissions = NewPermissions::of_new(wanted.new_mode);
                Claim::file(wanted.path, permissions, Replace::Never, wanted.layout)
            }
            Err(cause) => {
                let name = wanted.path.display().to_string();
                Err(Error::io(format!("cannot write to {name}"), cause).at(name, None))
            }
        }
    }

    fn existing(wanted: &Wanted<'_>, metadata: &Metadata) -> Result<Self> {
        // A link stays a link: what it leads to is written.
        let path = fs::canonicalize(&wanted.path).unwrap_or_else(|_| wanted.path.clone());
        let kind = registry::medium_kind(&path, metadata)?;
        (wanted.apart)(&path, metadata)?;
        let finished = kind == MediumKind::File && (wanted.is_finished)(&path, metadata);
        if kind == MediumKind::File && !wanted.force && !finished {
            return Err(registry::exists_already(&path));
        }
        let holders = Holders::of(metadata)?;
        if holders.is_held() {
            let name = path.display().to_string();
            let sentence = format!(
                "cannot write to {name}: it is {holders} (unmount or detach it, or choose another target)"
            );
            return Err(Error::new(ErrorKind::InUse, sentence).at(name, None));
        }
        let permissions = NewPermissions::of_old(metadata);
        match kind {
            MediumKind::Device if wanted.layout != Layout::Raw => {
                let name = path.display().to_string();
                let sentence = format!(
                    "{name} is a device, and a container is a file (a device gets the image itself)"
                );
                Err(Error::new(ErrorKind::Invalid, sentence).at(name, None))
            }
            MediumKind::Device => {
                let medium =
                    DeviceMedium::open(&path, Access::Write).map_err(|error| {
                        match error.kind() {
                            ErrorKind::InUse => error.and("somebody else has claimed it"),
                            _ => error,
                        }
                    })?;
                refuse::too_small(&path, medium.len()?, wanted.size_bytes)?;
                let hold = Hold::Device { medium };
                Ok(Claim { path, hold, permissions, layout: Layout::Raw })
            }
            // Opened in place, what is finished has nothing left to be written.
            MediumKind::File if wanted.in_place || finished => {
                let medium = FileMedium::open(&path, Access::Write)?;
                lock_alone(&medium, &path)?;
                if wanted.layout != Layout::Raw {
                    refuse::no_container(&medium)?;
                }
                let hold = Hold::InPlace { medium };
                Ok(Claim { path, hold, permissions, layout: wanted.layout })
            }
            MediumKind::File => Claim::file(path, permissions, Replace::Allowed, wanted.layout),
        }
    }

    fn file(
        path: PathBuf,
        permissions: NewPermissions,
        replace: Replace,
        layout: Layout,
    ) -> Result<Self> {
        let name = path.file_name().map(ToOwned::to_owned).ok_or_else(|| {
            let shown = path.display().to_string();
            Error::new(ErrorKind::Invalid, format!("{shown} is no name for a file")).at(shown, None)
        })?;
        let directory = Directory::of(&path)?;
        let partial = beside(&name, ".blockprint-partial");
        let hold = Hold::File { directory, name, partial, replace };
        Ok(Claim { path, hold, permissions, layout })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What it is.
    pub(crate) fn kind(&self) -> TargetKind {
        match &self.hold {
            Hold::File { replace: Replace::Never, .. } => TargetKind::NewFile,
            Hold::File { replace: Replace::Allowed, .. } => TargetKind::ReplacedFile,
            Hold::InPlace { .. } => TargetKind::FileInPlace,
            Hold::Device { .. } => TargetKind::Device,
        }
    }

    /// The format that it has or gets.
    pub(crate) fn format(&self) -> Format {
        self.layout.format()
    }

    /// Where it is, how it is held, and who may do what with it in the end.
    pub(crate) fn into_parts(self) -> (PathBuf, Hold, NewPermissions) {
        (self.path, self.hold, self.permissions)
    }

    /// Where a new file stands until it is complete.
    pub(crate) fn partial_path(&self) -> Option<PathBuf> {
        match &self.hold {
            Hold::File { partial, .. } => Some(self.path.with_file_name(partial)),
            _ => None,
        }
    }

    /// The folder of a new file.
    pub(crate) fn directory(&self) -> Option<&Directory> {
        match &self.hold {
            Hold::File { directory, .. } => Some(directory),
            _ => None,
        }
    }

    /// How much of a device an image of `size_bytes` leaves over.
    pub(crate) fn extra_bytes(&self, size_bytes: u64) -> Option<u64> {
        match &self.hold {
            Hold::Device { medium } => medium
                .len()
                .ok()
                .and_then(|len| len.checked_sub(size_bytes))
                .filter(|&extra| extra > 0),
            _ => None,
        }
    }

    /// Which medium an interrupted run has written; `None` if its partial file is gone.
    pub(crate) fn resumable_identity(&self) -> Result<Option<Identity>> {
        match &self.hold {
            Hold::File { partial, .. } => match fs::metadata(self.path.with_file_name(partial)) {
                Ok(metadata) => Ok(Some(self.layout.which(&metadata))),
                Err(_) => Ok(None),
            },
            Hold::InPlace { medium } => {
                metadata_of(medium).map(|metadata| Some(self.layout.which(&metadata)))
            }
            Hold::Device { medium } => {
                Ok(Some(Identity::Device { path: self.path.clone(), size_bytes: medium.len()? }))
            }
        }
    }

    /// Opens it for an image of `size_bytes`. `forget` takes away, before the first write, what is known of an earlier
    /// run and does not hold any more: a new file may get the number of the one before.
    pub(crate) fn open(
        self,
        size_bytes: u64,
        leftover: Leftover,
        forget: &dyn Fn() -> Result<()>,
    ) -> Result<Opened> {
        let (path, layout) = (self.path, self.layout);
        match self.hold {
            Hold::File { directory, name, partial, replace } => {
                let partial_path = path.with_file_name(&partial);
                let taken_up = match FileMedium::open(&partial_path, Access::Write) {
                    Ok(old) => {
                        lock_alone(&old, &partial_path)?;
                        forget()?;
                        Some(old).filter(|_| leftover == Leftover::TakenUp)
                    }
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        forget()?;
                        None
                    }
                    Err(error) => return Err(error),
                };
                let blank = taken_up.is_none();
                let created = match taken_up {
                    Some(old) => FileImage::take_over(old, size_bytes, layout),
                    None => {
                        directory.remove(&partial)?;
                        let medium = create_partial(&directory, &partial, &partial_path)?;
                        FileImage::create(medium, size_bytes, layout)
                    }
                };
                if created.is_err() && blank {
                    // The error before is the one to be told.
                    let _ = directory.remove(&partial);
                }
                let (image, permissions) = (created?, self.permissions);
                Ok(Opened::File {
                    image,
                    directory,
                    name,
                    partial,
                    replace,
                    blank,
                    path,
                    permissions,
                })
            }
            Hold::InPlace { medium } => {
                forget()?;
                let image = FileImage::take_over(medium, size_bytes, layout)?;
                Ok(Opened::InPlace { image, path })
            }
            Hold::Device { medium } => {
                forget()?;
                Ok(Opened::Device { image: RawImage::create(medium, size_bytes)?, path })
            }
        }
    }
}
