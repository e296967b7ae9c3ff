//! The file that becomes the clone: checked, made without a name, and put under its name at the end.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use formats::raw::RawImage;
use image::{Error, ErrorKind, Replace, Result};
use sys::holders::Holders;
use sys::{Content, FileMedium, UnnamedFile};

use super::{CloneRequest, Method, ModeRule, PlannedClone};
use crate::registry;

/// A clone that has no name yet. Dropped, it is gone.
pub(super) struct Target {
    file: UnnamedFile,
}

/// Refuses a target that may not be written. Returns where it really is (links followed), and whether a file
/// stands there.
pub(super) fn check(target: PathBuf, source: &Metadata, force: bool) -> Result<(PathBuf, bool)> {
    let target = follow_links(target);
    let old = match fs::metadata(&target) {
        Ok(old) => old,
        Err(cause) if is_absent(&cause) => {
            let folder = folder_of(&target);
            let name = folder.display().to_string();
            return match fs::metadata(folder) {
                Ok(found) if found.is_dir() => Ok((target, false)),
                Ok(_) => {
                    Err(Error::new(ErrorKind::Invalid, format!("{name} is no folder"))
                        .at(name, None))
                }
                Err(cause) => {
                    Err(Error::io(format!("cannot use the folder {name}"), cause).at(name, None))
                }
            };
        }
        Err(cause) => {
            let name = target.display().to_string();
            return Err(Error::io(format!("cannot look at {name}"), cause).at(name, None));
        }
    };
    let target = fs::canonicalize(&target).unwrap_or(target);
    let name = target.display().to_string();
    let refuse = |kind, sentence: String| Err(Error::new(kind, sentence).at(name.clone(), None));
    if !old.is_file() {
        return refuse(
            ErrorKind::Invalid,
            format!("{name} is no regular file, which a clone would be"),
        );
    }
    if (old.dev(), old.ino()) == (source.dev(), source.ino()) {
        return refuse(ErrorKind::Invalid, format!("{name} is the source itself"));
    }
    if !force {
        return Err(registry::exists_already(&target));
    }
    let holders = Holders::of(&old)?;
    if holders.is_held() {
        return refuse(
            ErrorKind::InUse,
            format!(
                "cannot replace {name}: it is {holders} (unmount or detach it, or choose another name)"
            ),
        );
    }
    Ok((target, true))
}

fn is_absent(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Whether the clones go into the folder that the target names.
pub(super) fn is_folder(request: &CloneRequest) -> Result<bool> {
    let target = &request.target;
    if target.is_dir() {
        return Ok(true);
    }
    let named_as_one = target.as_os_str().as_bytes().ends_with(b"/");
    if request.sources.len() < 2 && !named_as_one {
        return Ok(false);
    }
    let name = target.display().to_string();
    let (kind, sentence) = match target.exists() {
        true => (ErrorKind::Invalid, format!("{name} is no folder, which several clones need")),
        false => (ErrorKind::NotFound, format!("there is no folder {name}")),
    };
    Err(Error::new(kind, sentence).at(name, None))
}

/// Refuses a clone in place of another clone's source.
pub(super) fn refuse_sources(clones: &[PlannedClone]) -> Result<()> {
    for clone in clones.iter().filter(|clone| clone.replaces) {
        let Ok(old) = fs::metadata(&clone.target) else { continue };
        let is_old = |other: &&PlannedClone| {
            (other.metadata.dev(), other.metadata.ino()) == (old.dev(), old.ino())
        };
        if let Some(other) = clones.iter().find(is_old) {
            let name = clone.target.display().to_string();
            let sentence = format!(
                "{name}, the target for {}, is the source {}",
                clone.source.display(),
                other.source.display()
            );
            return Err(Error::new(ErrorKind::Invalid, sentence).at(name, None));
        }
    }
    Ok(())
}

/// Where the last part of a path really leads, also if nothing is there yet.
fn follow_links(mut path: PathBuf) -> PathBuf {
    for _ in 0..LINKS_MAX {
        let Ok(next) = fs::read_link(&path) else { break };
        path = folder_of(&path).join(next);
    }
    path
}

/// As many as Linux itself follows.
const LINKS_MAX: usize = 40;

/// The folder that a file lies in.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The bits that let whoever runs a file become its owner or group.
const SET_ID: u32 = 0o6000;

impl Target {
    /// Makes the file, empty, with the permissions that it will have.
    pub(super) fn create(clone: &PlannedClone, mode: ModeRule) -> Result<Self> {
        let file = UnnamedFile::create_for(&clone.target)?;
        sys::match_copy_on_write(&clone.file, &file);
        let replaced = fs::metadata(&clone.target).ok().filter(|_| clone.replaces);
        let (mut mode, owner) = match (mode, &replaced) {
            (ModeRule::Source, _) => (clone.metadata.mode(), Some(&clone.metadata)),
            (ModeRule::LessUmask, Some(old)) => (old.mode(), Some(old)),
            (ModeRule::LessUmask, None) => (clone.metadata.mode() & !sys::umask(), None),
        };
        if let Some(owner) = owner {
            // Only root may; for others the file is theirs, as every new file is.
            let owned = std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid()));
            if owned.is_err() {
                mode &= !SET_ID;
            }
        }
        let shown = clone.target.display();
        file.file().set_permissions(Permissions::from_mode(mode & 0o7777)).map_err(|cause| {
            Error::io(format!("cannot set the permissions of {shown}"), cause)
                .at(shown.to_string(), None)
        })?;
        Ok(Target { file })
    }

    /// The open file.
    pub(super) fn file(&self) -> &File {
        self.file.file()
    }

    /// How large it is now.
    pub(super) fn size_bytes(&self) -> Option<u64> {
        self.file().metadata().ok().map(|metadata| metadata.len())
    }

    /// The file as a blank image to write to.
    pub(super) fn as_image(&self, size_bytes: u64) -> Result<RawImage<FileMedium>> {
        let path = self.file.target_path();
        let file = self.file().try_clone().map_err(|cause| {
            let name = path.display().to_string();
            Error::io(format!("cannot open {name} once more"), cause).at(name, None)
        })?;
        RawImage::create(FileMedium::from_file(file, &path)?, size_bytes)
    }

    /// Makes it durable and puts it under its name.
    pub(super) fn publish(self, replace: Replace, method: Method) -> Result<()> {
        let content = match method {
            Method::Copy => Content::Written,
            Method::Reflink | Method::ReflinkCatchup { .. } => Content::Shared,
        };
        self.file.publish(replace, content)
    }
}
