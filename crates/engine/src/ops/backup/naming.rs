//! What is on a partition, who can image that, and what the image will be called.

use std::fs;
use std::path::{Path, PathBuf};

use filesystems::Filesystem;
use filesystems::partclone::{Partclone, Variant};
use image::{Error, ErrorKind, Result, Task};
use sys::{Directory, LocalTime};

use super::BackupRequest;
use super::source::Source;
use super::unfinished::unfinished_path;
use crate::backup_name::BackupName;

/// The longest part of a name that is made of a label, in bytes.
const LABEL_MAX_BYTES: usize = 100;

/// What blkid recognises; what the caller knows better counts.
pub(super) fn filesystem(
    request: &BackupRequest,
    source: Option<&Source>,
    task: &Task,
) -> Filesystem {
    let probed = source.map(|source| filesystems::probe(source.path())).transpose();
    let probed = probed.unwrap_or_else(|error| {
        task.warn(format!("what is on it cannot be told: {}", error.full_sentence()));
        None
    });
    let mut filesystem = probed.unwrap_or_default();
    if request.filesystem.is_some() {
        filesystem.kind.clone_from(&request.filesystem);
    }
    filesystem
}

/// The partclone that is used, if there is one.
pub(super) fn partclone(request: &BackupRequest) -> Option<Partclone> {
    request.partclone.clone().or_else(Partclone::find)
}

/// Who images that filesystem: raw, where nobody knows it, or where its superblock says that partclone would not see all
/// of it.
pub(super) fn variant(
    request: &BackupRequest,
    source: Option<&Source>,
    filesystem: &Filesystem,
    task: &Task,
) -> Result<Variant> {
    let variant = installed(request, filesystem, task);
    let is_stub = request.partclone.as_ref().is_some_and(Partclone::is_stub);
    let Some(source) = source.filter(|_| !is_stub && !variant.is_raw()) else {
        return Ok(variant);
    };
    Ok(match filesystems::unmapped(variant, source.path())? {
        Some(reason) => {
            let name = source.path().display();
            task.warn(format!("all of {name} is read, as raw bytes: {reason}"));
            Variant::DD
        }
        None => variant,
    })
}

/// The variant that is there for it.
fn installed(request: &BackupRequest, filesystem: &Filesystem, task: &Task) -> Variant {
    let Some(kind) = &filesystem.kind else { return Variant::DD };
    let Some(variant) = Variant::by_name(kind) else { return Variant::DD };
    match partclone(request) {
        Some(partclone) if partclone.program(variant).is_some() => variant,
        partclone => {
            if partclone.is_none_or(|partclone| !partclone.is_stub()) {
                task.warn(format!(
                    "all of it is read, as raw bytes: partclone.{kind} is not installed (package partclone)"
                ));
            }
            Variant::DD
        }
    }
}

/// Where the image goes.
///
/// # Errors
///
/// `NotFound`, `Denied` for the folder; `Exists`; `Invalid` for a name.
pub(super) fn destination(
    request: &BackupRequest,
    filesystem: &Filesystem,
    variant: Variant,
) -> Result<PathBuf> {
    let stem = match &request.name {
        Some(name) => name.clone(),
        None => default_stem(&request.source, filesystem),
    };
    let name = BackupName::compose(&stem, LocalTime::now(), variant, request.compression)?;
    let folder = Directory::open(&request.folder)?;
    let shown = request.folder.display().to_string();
    if !folder.is_writable() {
        let sentence = format!("cannot make files in {shown}: permission denied");
        return Err(Error::new(ErrorKind::Denied, sentence).at(shown, None));
    }
    // Collected, a path has no doubled or last slashes.
    let path: PathBuf = request.folder.join(name).components().collect();
    refuse_taken(&path, "an image of that name is there already (choose another name)")?;
    refuse_taken(
        &unfinished_path(&path),
        "a backup of that name is under way, or was cut short (then remove it)",
    )?;
    Ok(path)
}

/// The label, else the name of the device, as a part of a file's name.
fn default_stem(source: &Path, filesystem: &Filesystem) -> String {
    let label = filesystem.label.as_deref().map(str::trim).filter(|label| !label.is_empty());
    let text = match label {
        Some(label) => label.to_string(),
        None => source.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    };
    let mut stem: String =
        text.chars().map(|c| if c == '/' || c.is_control() { '_' } else { c }).collect();
    stem.truncate(stem.floor_char_boundary(LABEL_MAX_BYTES));
    if matches!(stem.as_str(), "" | "." | "..") { "partition".to_string() } else { stem }
}

fn refuse_taken(path: &Path, why: &str) -> Result<()> {
    if fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    let name = path.display().to_string();
    Err(Error::new(ErrorKind::Exists, format!("cannot make {name}: {why}")).at(name, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stem_of(source: &str, label: Option<&str>) -> String {
        let filesystem = Filesystem { label: label.map(Into::into), ..Filesystem::default() };
        default_stem(Path::new(source), &filesystem)
    }

    #[test]
    fn an_image_is_called_as_the_filesystem_else_as_the_device() {
        assert_eq!(stem_of("/dev/sda1", Some("Ada home")), "Ada home");
        assert_eq!(stem_of("/dev/sda1", None), "sda1");
        assert_eq!(stem_of("/dev/sda1", Some("  ")), "sda1");
    }

    #[test]
    fn a_label_that_is_no_name_becomes_one() {
        assert_eq!(stem_of("/dev/sda1", Some("a/b\n\u{85}c")), "a_b__c");
        assert_eq!(stem_of("/dev/sda1", Some("..")), "partition");
        assert_eq!(stem_of("/dev/sda1", Some(&"ä".repeat(99))), "ä".repeat(50));
    }
}
