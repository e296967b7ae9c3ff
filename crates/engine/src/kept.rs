//! What makes the compressed files of other tools readable at any place: made once, and kept in a folder for caches.
//!
//! Everything in it can be made again, and is: what was removed, is damaged, or belongs to a file that was written to
//! since. Of one file only the last is kept, and all together take no more space than is still free beside them; the
//! one that was not used for longest goes first.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Metadata};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use formats::packed::{self, Compression, PackedMedium};
use image::{ErrorKind, Medium, Replace, Result, Task};
use sys::{Access, Content, FileMedium, UnnamedFile};

/// A compressed file, open to be read at any place.
pub(crate) type PackedFile = PackedMedium<Arc<FileMedium>>;

/// What ends the names of all that is kept.
const SUFFIX: &str = ".index";

/// Opens `file`, which has no table of its own, by what was kept of it.
pub(crate) fn find(
    file: &Arc<FileMedium>,
    compression: Compression,
    metadata: &Metadata,
) -> Option<PackedFile> {
    let path = folder()?.join(name(metadata, compression));
    let is_ours = fs::symlink_metadata(&path).ok()?.uid() == user();
    let kept = FileMedium::open(&path, Access::Read).ok().filter(|_| is_ours)?;
    if let Ok(file) = File::open(&path) {
        // The time says when it was used last. That it cannot be set only makes it go earlier.
        let _ = file.set_modified(SystemTime::now());
    }
    // What is damaged is made anew.
    packed::open_kept(Arc::clone(file), compression, Box::new(kept)).ok()
}

/// The same, making it if it is not there: that reads the whole file once. If nothing can be kept, it is made for this time
/// only, in a file for temporary things that has no name.
pub(crate) fn find_or_make(
    file: &Arc<FileMedium>,
    compression: Compression,
    metadata: &Metadata,
    task: &Task,
) -> Result<PackedFile> {
    if let Some(found) = find(file, compression, metadata) {
        return Ok(found);
    }
    let shown = file.name();
    task.note(format!(
        "{shown} has no table of its parts, and is read once as a whole to make one"
    ));
    let name = name(metadata, compression);
    let begun = folder().and_then(|folder| begin(&folder, &name));
    if let Some(kept) = begun {
        let folder = folder_of(&kept);
        match make(file, compression, &kept, task) {
            Ok(made) => {
                if let Err(error) = kept.publish(Replace::Allowed, Content::Written) {
                    let why = error.full_sentence();
                    task.warn(format!("the table of {shown} will be made again: {why}"));
                }
                tidy(&folder, &name);
                return Ok(made);
            }
            Err(error) if error.kind() == ErrorKind::Full => {}
            Err(error) => return Err(error),
        }
    }
    task.warn(format!(
        "the table of {shown} cannot be kept, and is made for this time only (BLOCKPRINT_CACHE names another folder)"
    ));
    let kept = UnnamedFile::create_for(&std::env::temp_dir().join(&name))?;
    make(file, compression, &kept, task)
}

fn make(
    file: &Arc<FileMedium>,
    compression: Compression,
    kept: &UnnamedFile,
    task: &Task,
) -> Result<PackedFile> {
    let path = kept.target_path();
    let own = kept.file().try_clone().map_err(|cause| {
        let shown = path.display().to_string();
        image::Error::io(format!("cannot write {shown}"), cause).at(shown, None)
    })?;
    let medium = Box::new(FileMedium::from_file(own, &path)?);
    packed::index(Arc::clone(file), compression, medium, task)
}

/// Begins a file in `folder`, which is made if it is not there; `None` where nothing can be written.
fn begin(folder: &Path, name: &str) -> Option<UnnamedFile> {
    // Whatever is missing is found when the file is made.
    let _ = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    UnnamedFile::create_for(&folder.join(name)).ok()
}

fn folder_of(kept: &UnnamedFile) -> PathBuf {
    kept.target_path().parent().map(Path::to_owned).unwrap_or_default()
}

/// The folder for what is kept: the one that `BLOCKPRINT_CACHE` names, for root one of the system, else one of the user.
fn folder() -> Option<PathBuf> {
    let absolute = |name: &str| -> Option<PathBuf> {
        std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
    };
    if let Some(folder) = absolute("BLOCKPRINT_CACHE") {
        return Some(folder);
    }
    // Root may have the environment of somebody else, who would then own the folder.
    let base = match user() {
        0 => Some(PathBuf::from("/var/cache")),
        _ => absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache"))),
    };
    Some(base?.join("blockprint"))
}

/// Whoever we are.
fn user() -> u32 {
    fs::metadata("/proc/self").map_or(u32::MAX, |metadata| metadata.uid())
}

/// Tells a file from all others, and from itself once it was written to.
fn name(metadata: &Metadata, compression: Compression) -> String {
    format!(
        "{}{:x}-{:x}.{:09}.{}{SUFFIX}",
        prefix(metadata),
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        compression.name()
    )
}

/// What the names of all versions of a file begin with.
fn prefix(metadata: &Metadata) -> String {
    format!("{:x}-{:x}-", metadata.dev(), metadata.ino())
}

/// Removes what the one called `newest` replaces, and the ones that were not used for longest where all take more than is
/// free. What cannot be removed is left for the next time.
fn tidy(folder: &Path, newest: &str) {
    let free = || File::open(folder).and_then(sys::available_bytes).unwrap_or(u64::MAX);
    tidy_to(folder, newest, free);
}

fn tidy_to(folder: &Path, newest: &str, free: impl Fn() -> u64) {
    let is_version = |name: &str| {
        let mut parts = newest.splitn(3, '-');
        let mut others = name.splitn(3, '-');
        (parts.next(), parts.next()) == (others.next(), others.next())
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut kept: Vec<(SystemTime, u64, OsString)> = Vec::new();
    let mut total = 0;
    for entry in entries {
        let name = entry.file_name();
        let (Some(text), Ok(metadata)) = (name.to_str(), entry.metadata()) else { continue };
        if !text.ends_with(SUFFIX) || !metadata.is_file() {
            continue;
        }
        if text != newest && is_version(text) {
            let _ = fs::remove_file(entry.path());
            continue;
        }
        let taken = metadata.blocks() * 512;
        total += taken;
        if text != newest {
            kept.push((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), taken, name));
        }
    }
    kept.sort();
    for (_, taken, name) in kept {
        if total <= free() {
            break;
        }
        let _ = fs::remove_file(folder.join(name));
        total -= taken;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use testkit::host::TempDir;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_last_version_of_a_file_and_what_was_used_last_stay() {
        let folder = TempDir::new("kept");
        let own = ["1-1-5-1.0.gz.index", "1-1-9-2.0.gz.index", "1-2-5-1.0.gz.index"];
        let others = ["2-1-5-1.0.zst.index", "11-1-5-1.0.gz.index", "notes.txt"];
        for (age, name) in (0..).zip(own.iter().chain(&others)) {
            let path = folder.join(name);
            fs::write(&path, vec![1; 64 << 10]).unwrap();
            let time = SystemTime::now() - Duration::from_secs(100 + age);
            File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        }
        tidy_to(folder.path(), own[1], || u64::MAX);
        assert_eq!(names(folder.path()), [own[1], own[2], others[1], others[0], others[2]]);
        // The oldest two have to go for so much; the newest stays whatever it takes.
        tidy_to(folder.path(), own[1], || 128 << 10);
        assert_eq!(names(folder.path()), [own[1], own[2], others[2]]);
        tidy_to(folder.path(), own[1], || 0);
        assert_eq!(names(folder.path()), [own[1], others[2]]);
    }
}
