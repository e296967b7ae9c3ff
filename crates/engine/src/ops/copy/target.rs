//! The target of a copy: claimed before anything is written, opened, and in the end published or abandoned.

use std::ffi::OsString;
use std::fs::{self, Metadata, Permissions, TryLockError};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use formats::raw::RawImage;
use image::units::Bytes;
use image::{Error, ErrorKind, Folder, ImageMut, Medium, Replace, Result};
use sys::holders::Holders;
use sys::{Access, DeviceMedium, DeviceNumber, Directory, FileMedium, LoopDevice};

use super::sidecar::JournalPlace;
use super::transfer::Shape;
use super::{CopyRequest, TargetKind};
use crate::Steps;
use crate::folders::beside;
use crate::location::Location;
use crate::publish::publish;
use crate::registry::{self, Facts, Identity, MediumKind};

/// A target that may be written. A device is open and claimed; of a file, only its folder is open.
pub(super) struct Claim {
    path: PathBuf,
    hold: Hold,
    permissions: NewPermissions,
}

enum Hold {
    File { directory: Directory, name: OsString, partial: OsString, replace: Replace },
    InPlace { medium: FileMedium },
    Device { medium: DeviceMedium },
}

/// What a new file gets.
#[derive(Clone, Copy)]
pub(super) struct NewPermissions {
    mode: u32,
    /// User and group of a file that is replaced.
    owner: Option<(u32, u32)>,
}

/// A target that is being written.
pub(super) enum Opened {
    File {
        image: RawImage<FileMedium>,
        directory: Directory,
        name: OsString,
        partial: OsString,
        replace: Replace,
        blank: bool,
        path: PathBuf,
        permissions: NewPermissions,
    },
    InPlace {
        image: RawImage<FileMedium>,
        path: PathBuf,
    },
    Device {
        image: RawImage<DeviceMedium>,
        path: PathBuf,
    },
}

/// Short zero runs on a device are cheaper written with the data around them than zeroed by a call of their own.
const DEVICE_ZERO_RUN_MIN_BYTES: usize = 64 << 10;

impl Claim {
    /// Claims the target of `request`, or refuses it.
    pub(super) fn new(request: &CopyRequest, source: &Facts) -> Result<Self> {
        let mut path = request.target.path().to_owned();
        if path.is_dir()
            && let Some(name) = source.path.file_name()
        {
            path.push(name);
        }
        match fs::metadata(&path) {
            Ok(metadata) => Claim::existing(request, source, &path, &metadata),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                refuse_dangling_link(&path)?;
                refuse_new_in_dev(&path)?;
                Claim::file(path, source, None)
            }
            Err(cause) => {
                let name = path.display().to_string();
                Err(Error::io(format!("cannot write to {name}"), cause).at(name, None))
            }
        }
    }

    fn existing(
        request: &CopyRequest,
        source: &Facts,
        path: &Path,
        metadata: &Metadata,
    ) -> Result<Self> {
        // A link stays a link: what it leads to is written.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let kind = registry::medium_kind(&path, metadata)?;
        refuse_same(source, &path, metadata)?;
        let finished = kind == MediumKind::File && is_finished(request, source, &path, metadata);
        if kind == MediumKind::File && !request.force && !finished {
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
        match kind {
            MediumKind::Device => Claim::device(path, source),
            // Opened in place, what is finished has nothing left to be written.
            MediumKind::File if request.in_place || finished => {
                let medium = FileMedium::open(&path, Access::Write)?;
                lock_alone(&medium, &path)?;
                let permissions = NewPermissions { mode: metadata.mode(), owner: None };
                Ok(Claim { path, hold: Hold::InPlace { medium }, permissions })
            }
            MediumKind::File => Claim::file(path, source, Some(metadata)),
        }
    }

    fn device(path: PathBuf, source: &Facts) -> Result<Self> {
        let medium =
            DeviceMedium::open(&path, Access::Write).map_err(|error| match error.kind() {
                ErrorKind::InUse => error.and("somebody else has claimed it"),
                _ => error,
            })?;
        let (has, needs) = (medium.len()?, source.size_bytes);
        if has < needs {
            let name = path.display().to_string();
            let sentence = format!(
                "{name} is too small: it has {has} bytes ({}), the image has {needs} ({}), which is {} bytes \
                 ({}) more",
                Bytes(has),
                Bytes(needs),
                needs - has,
                Bytes(needs - has)
            );
            return Err(Error::new(ErrorKind::TooSmall, sentence).at(name, None));
        }
        let permissions = NewPermissions { mode: 0, owner: None };
        Ok(Claim { path, hold: Hold::Device { medium }, permissions })
    }

    fn file(path: PathBuf, source: &Facts, old: Option<&Metadata>) -> Result<Self> {
        let name = path.file_name().map(ToOwned::to_owned).ok_or_else(|| {
            let shown = path.display().to_string();
            Error::new(ErrorKind::Invalid, format!("{shown} is no name for a file")).at(shown, None)
        })?;
        let directory = Directory::of(&path)?;
        let partial = beside(&name, ".blockprint-partial");
        let replace = if old.is_some() { Replace::Allowed } else { Replace::Never };
        let permissions = NewPermissions::new(source, old);
        let hold = Hold::File { directory, name, partial, replace };
        Ok(Claim { path, hold, permissions })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What it is.
    pub(super) fn kind(&self) -> TargetKind {
        match &self.hold {
            Hold::File { replace: Replace::Never, .. } => TargetKind::NewFile,
            Hold::File { replace: Replace::Allowed, .. } => TargetKind::ReplacedFile,
            Hold::InPlace { .. } => TargetKind::FileInPlace,
            Hold::Device { .. } => TargetKind::Device,
        }
    }

    /// How much of a device an image of `size_bytes` leaves over.
    pub(super) fn extra_bytes(&self, size_bytes: u64) -> Option<u64> {
        match &self.hold {
            Hold::Device { medium } => medium
                .len()
                .ok()
                .and_then(|len| len.checked_sub(size_bytes))
                .filter(|&extra| extra > 0),
            _ => None,
        }
    }

    /// Which medium an interrupted copy to this target has written; `None` if its partial file is gone.
    pub(super) fn resumable_identity(&self) -> Result<Option<Identity>> {
        match &self.hold {
            Hold::File { partial, .. } => match fs::metadata(self.path.with_file_name(partial)) {
                Ok(metadata) => Ok(Some(which_file(&metadata))),
                Err(_) => Ok(None),
            },
            Hold::InPlace { medium } => {
                metadata_of(medium).map(|metadata| Some(which_file(&metadata)))
            }
            Hold::Device { medium } => {
                Ok(Some(Identity::Device { path: self.path.clone(), size_bytes: medium.len()? }))
            }
        }
    }

    /// Opens it for an image of `size_bytes`, after `forget` has taken away what is known of an earlier copy: a
    /// new file may get the number of the one before. Without it, an interrupted copy is taken up again.
    pub(super) fn open(
        self,
        size_bytes: u64,
        forget: Option<&dyn Fn() -> Result<()>>,
    ) -> Result<Opened> {
        let path = self.path;
        let resume = forget.is_none();
        let forget = || forget.map_or(Ok(()), |forget| forget());
        match self.hold {
            Hold::File { directory, name, partial, replace } => {
                let partial_path = path.with_file_name(&partial);
                let medium = match FileMedium::open(&partial_path, Access::Write) {
                    Ok(old) => {
                        lock_alone(&old, &partial_path)?;
                        if resume {
                            old
                        } else {
                            forget()?;
                            directory.remove(&partial)?;
                            create_partial(&directory, &partial, &partial_path)?
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        forget()?;
                        create_partial(&directory, &partial, &partial_path)?
                    }
                    Err(error) => return Err(error),
                };
                let created = RawImage::create(medium, size_bytes);
                if created.is_err() && !resume {
                    // The error before is the one to be told.
                    let _ = directory.remove(&partial);
                }
                let (image, blank, permissions) = (created?, !resume, self.permissions);
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
                Ok(Opened::InPlace { image: RawImage::create(medium, size_bytes)?, path })
            }
            Hold::Device { medium } => {
                forget()?;
                Ok(Opened::Device { image: RawImage::create(medium, size_bytes)?, path })
            }
        }
    }
}

impl Opened {
    /// The target as an image.
    pub(super) fn image(&self) -> &dyn ImageMut {
        match self {
            Opened::File { image, .. } | Opened::InPlace { image, .. } => image,
            Opened::Device { image, .. } => image,
        }
    }

    /// The target as a file that can share blocks with another.
    pub(super) fn file(&self) -> Option<&fs::File> {
        match self {
            Opened::File { image, .. } | Opened::InPlace { image, .. } => {
                Some(image.medium().file())
            }
            Opened::Device { .. } => None,
        }
    }

    /// Where it will be.
    pub(super) fn path(&self) -> &Path {
        match self {
            Opened::File { path, .. }
            | Opened::InPlace { path, .. }
            | Opened::Device { path, .. } => path,
        }
    }

    /// Where it is now.
    pub(super) fn location(&self) -> Location {
        let path = match self {
            Opened::File { path, partial, .. } => path.with_file_name(partial),
            _ => self.path().to_owned(),
        };
        Location { format: Some(crate::location::Format::Raw), path }
    }

    pub(super) fn kind(&self) -> TargetKind {
        match self {
            Opened::File { replace: Replace::Never, .. } => TargetKind::NewFile,
            Opened::File { replace: Replace::Allowed, .. } => TargetKind::ReplacedFile,
            Opened::InPlace { .. } => TargetKind::FileInPlace,
            Opened::Device { .. } => TargetKind::Device,
        }
    }

    /// Which medium is written, for the journal.
    pub(super) fn identity(&self) -> Result<Identity> {
        match self {
            Opened::File { image, .. } | Opened::InPlace { image, .. } => {
                metadata_of(image.medium()).map(|metadata| which_file(&metadata))
            }
            Opened::Device { image, path } => {
                Ok(Identity::Device { path: path.clone(), size_bytes: image.medium().len()? })
            }
        }
    }

    /// How a copy from `source` to it is cut.
    pub(super) fn shape(&self, source: &Facts) -> Shape {
        let granule_bytes = self.image().block_size_bytes();
        match self {
            Opened::Device { .. } => Shape {
                zero_run_min_bytes: DEVICE_ZERO_RUN_MIN_BYTES,
                ..Shape::direct(4096, false)
            },
            Opened::File { blank, .. } if source.medium == MediumKind::Device => {
                Shape::direct(granule_bytes, *blank)
            }
            Opened::File { blank, .. } => Shape::cached(granule_bytes, *blank),
            Opened::InPlace { .. } => Shape::cached(granule_bytes, false),
        }
    }

    /// For people: what is there after a failure.
    pub(super) fn left_behind(&self) -> String {
        match self {
            Opened::File { path, partial, .. } => {
                format!("what was copied is kept in {}", path.with_file_name(partial).display())
            }
            Opened::InPlace { path, .. } | Opened::Device { path, .. } => {
                format!("{} now holds a mixture of old and new", path.display())
            }
        }
    }

    /// Removes a partial file; `None` where there is nothing that could be undone.
    pub(super) fn abandon(self) -> Option<Result<()>> {
        match self {
            Opened::File { directory, partial, .. } => Some(directory.remove(&partial)),
            _ => None,
        }
    }

    /// Puts a new file under its name. Everything written is durable already.
    pub(super) fn publish(self, steps: &Steps) -> Result<()> {
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
                        error.and(format!("the complete copy is kept in {kept}"))
                    })
            }
            _ => Ok(()),
        }
    }
}

impl NewPermissions {
    /// Those of the file that is replaced; else those of a source file, as `cp` does; a copy of a device is for
    /// its owner only, since it may hold everybody's secrets.
    fn new(source: &Facts, old: Option<&Metadata>) -> Self {
        if let Some(old) = old {
            return NewPermissions { mode: old.mode(), owner: Some((old.uid(), old.gid())) };
        }
        let mode = match (source.medium, fs::metadata(&source.path)) {
            (MediumKind::File, Ok(metadata)) => metadata.mode() & !sys::umask(),
            _ => 0o600,
        };
        NewPermissions { mode, owner: None }
    }

    fn apply(self, medium: &FileMedium, path: &Path) -> Result<()> {
        if let Some((user, group)) = self.owner {
            // Only root may; for others the file is theirs, as every new file is.
            let _ = std::os::unix::fs::fchown(medium.file(), Some(user), Some(group));
        }
        let mode = Permissions::from_mode(self.mode & 0o777);
        medium.file().set_permissions(mode).map_err(|cause| {
            let name = path.display().to_string();
            Error::io(format!("cannot set the permissions of {name}"), cause).at(name, None)
        })
    }
}

fn create_partial(directory: &Directory, partial: &OsString, path: &Path) -> Result<FileMedium> {
    let medium = directory.create_file(partial)?;
    lock_alone(&medium, path)?;
    Ok(medium)
}

/// Two copies to one target would mix.
fn lock_alone(medium: &FileMedium, path: &Path) -> Result<()> {
    let is_locked = match medium.file().try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        // A filesystem without locks.
        Err(TryLockError::Error(_)) => true,
    };
    // Between opening and locking, another program may have published it, or begun anew under its name.
    let stands_there = || {
        fs::metadata(path)
            .is_ok_and(|now| metadata_of(medium).is_ok_and(|mine| is_one(&now, &mine)))
    };
    if is_locked && stands_there() {
        return Ok(());
    }
    let name = path.display().to_string();
    let sentence = format!("{name} is being written by another program");
    Err(Error::new(ErrorKind::InUse, sentence).at(name, None))
}

fn is_one(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// Whether the file `path` is what an interrupted copy had finished and named before it could say so.
fn is_finished(request: &CopyRequest, source: &Facts, path: &Path, metadata: &Metadata) -> bool {
    if !request.resume {
        return false;
    }
    let journal = JournalPlace::new(request, path, TargetKind::NewFile).load();
    journal.ok().flatten().is_some_and(|journal| {
        journal.source == source.identity
            && journal.target == which_file(metadata)
            && journal.size_bytes == metadata.len()
            && journal.done.contains(&(0..journal.size_bytes))
    })
}

/// Source and target must be two things.
fn refuse_same(source: &Facts, path: &Path, target: &Metadata) -> Result<()> {
    let source_metadata = registry::look(&source.path)?;
    let same = match (source.medium, MediumKind::of(target)) {
        (MediumKind::Device, Some(MediumKind::Device)) => source_metadata.rdev() == target.rdev(),
        (MediumKind::File, Some(MediumKind::File)) => is_one(&source_metadata, target),
        (MediumKind::File, Some(MediumKind::Device)) => {
            let number = DeviceNumber::from_raw(target.rdev());
            LoopDevice::backed_by(&source_metadata)
                .iter()
                .any(|found| found.device.number == number)
        }
        _ => false,
    };
    if !same {
        return Ok(());
    }
    let name = path.display().to_string();
    let sentence = format!("{} and {name} are the same", source.path.display());
    Err(Error::new(ErrorKind::Invalid, sentence).at(name, None))
}

/// A name in /dev that does not exist is a device that was misspelt: a file there would lie in memory.
fn refuse_new_in_dev(path: &Path) -> Result<()> {
    let parent = path.parent().and_then(|parent| fs::canonicalize(parent).ok()).unwrap_or_default();
    if parent.starts_with("/dev") && !parent.starts_with("/dev/shm") {
        let name = path.display().to_string();
        return Err(
            Error::new(ErrorKind::NotFound, format!("there is no device {name}")).at(name, None)
        );
    }
    Ok(())
}

/// A link that leads nowhere would be found in the way when all is copied.
fn refuse_dangling_link(path: &Path) -> Result<()> {
    if fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    let name = path.display().to_string();
    let sentence = format!("cannot write to {name}: it is a link that leads nowhere");
    Err(Error::new(ErrorKind::Invalid, sentence).at(name, None))
}

fn metadata_of(medium: &FileMedium) -> Result<Metadata> {
    medium.file().metadata().map_err(|cause| {
        Error::io(format!("cannot look at {}", medium.name()), cause).at(medium.name(), None)
    })
}

/// Which file it is. The number of a file that is gone is soon given to another one, so that its size and the moment
/// at which it was made belong to it.
fn which_file(metadata: &Metadata) -> Identity {
    let made = metadata.created().ok().and_then(|made| made.duration_since(UNIX_EPOCH).ok());
    Identity::File {
        inode: metadata.ino(),
        size_bytes: metadata.len(),
        time_ns: made.map_or(0, |made| made.as_nanos() as i128),
    }
}
