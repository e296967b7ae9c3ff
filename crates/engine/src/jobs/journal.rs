//! What runs, noted in a folder: a small JSON file for each job, locked as long as its process lives.

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use image::{Error, Result};
use serde_json::{Value, json};

use super::{Claims, JobId};

/// A folder of notes. Several processes may share it.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
}

/// The note of a job that runs; dropped, it is gone.
#[derive(Debug)]
pub(super) struct Note {
    path: PathBuf,
    /// Held locked: that is how others see that the job's process lives.
    file: File,
}

/// What a job of a process that is gone has noted. As long as this is held, nobody else finds it.
#[derive(Debug)]
pub struct Leftover {
    /// The word for the work.
    pub what: String,
    /// Devices and files that were read.
    pub reads: Vec<PathBuf>,
    /// Devices and files that were written.
    pub writes: Vec<PathBuf>,
    path: PathBuf,
    /// Held locked.
    _file: File,
}

impl Leftover {
    /// Removes the note. One that is only dropped is found again another time.
    pub fn forget(self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// No note is longer, in bytes.
const NOTE_MAX: u64 = 1 << 20;

impl Journal {
    /// The folder, made if it is not there, for nobody but its owner.
    pub(super) fn open(folder: PathBuf) -> Result<Self> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(|cause| folder_error("make", &folder, cause))?;
        Ok(Journal { folder })
    }

    /// Notes a job.
    pub(super) fn note(&self, id: &JobId, claims: &Claims) -> Result<Note> {
        let path = self.folder.join(format!("{id}.json"));
        let mut note = Note { file: create(&path)?, path };
        note.write(id, [claims].into_iter())?;
        Ok(note)
    }

    pub(super) fn leftovers(&self) -> Result<Vec<Leftover>> {
        let error = |cause| folder_error("read", &self.folder, cause);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(error)? {
            let path = entry.map_err(error)?.path();
            if path.extension() == Some(OsStr::new("json")) {
                found.extend(left_at(&path));
            }
        }
        Ok(found)
    }
}

impl Note {
    /// Writes all that the job claims. A crash in the middle leaves a note that is passed over, of a job that has not
    /// yet begun with what was being noted.
    pub(super) fn write<'a>(
        &mut self,
        id: &JobId,
        claims: impl Iterator<Item = &'a Claims>,
    ) -> Result<()> {
        let (mut what, mut reads, mut writes) = ("", Vec::new(), Vec::new());
        for claims in claims {
            what = claims.what;
            reads.extend(claims.reads.iter().map(|path| path_value(path)));
            writes.extend(claims.writes.iter().map(|path| path_value(path)));
        }
        let note = json!({
            "job": id.to_string(),
            "process": std::process::id(),
            "what": what,
            "reads": reads,
            "writes": writes,
        });
        // Appended, and the last line counts: so there is always a whole one.
        writeln!(self.file, "{note}").map_err(|cause| note_error("write", &self.path, cause))
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes a note that is locked from the beginning, as far as others can see.
fn create(path: &Path) -> Result<File> {
    let error = |cause| note_error("make", path, cause);
    let hidden = path.with_extension("new");
    let options = &mut File::options();
    let file = options.append(true).create_new(true).mode(0o600).open(&hidden).map_err(error)?;
    let named = file.lock().and_then(|()| fs::rename(&hidden, path));
    if named.is_err() {
        let _ = fs::remove_file(&hidden);
    }
    named.map_err(error)?;
    Ok(file)
}

/// What the note at `path` says, unless its process lives or it says nothing that can be read.
fn left_at(path: &Path) -> Option<Leftover> {
    let file = File::open(path).ok()?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => return None,
    }
    // Its owner, or another who cleans, may have removed it before we had the lock.
    let (held, named) = (file.metadata().ok()?, fs::symlink_metadata(path).ok()?);
    if (held.dev(), held.ino()) != (named.dev(), named.ino()) {
        return None;
    }
    let mut text = String::new();
    (&file).take(NOTE_MAX).read_to_string(&mut text).ok()?;
    let Some((whole, _)) = text.rsplit_once('\n') else {
        // Its process ended before it could say what the job is, and before that had begun.
        if path.file_stem().and_then(OsStr::to_str).and_then(JobId::parse).is_some() {
            let _ = fs::remove_file(path);
        }
        return None;
    };
    let last: Value = serde_json::from_str(whole.lines().last()?).ok()?;
    let paths =
        |name: &str| last[name].as_array()?.iter().map(value_path).collect::<Option<Vec<_>>>();
    Some(Leftover {
        what: last["what"].as_str()?.to_string(),
        reads: paths("reads")?,
        writes: paths("writes")?,
        path: path.to_owned(),
        _file: file,
    })
}

/// A path as text, or as numbers where it is none.
fn path_value(path: &Path) -> Value {
    match path.to_str() {
        Some(text) => json!(text),
        None => json!(path.as_os_str().as_bytes()),
    }
}

fn value_path(value: &Value) -> Option<PathBuf> {
    if let Some(text) = value.as_str() {
        return Some(PathBuf::from(text));
    }
    let bytes = value.as_array()?.iter().map(|byte| u8::try_from(byte.as_u64()?).ok());
    Some(std::ffi::OsString::from_vec(bytes.collect::<Option<_>>()?).into())
}

fn folder_error(what: &str, folder: &Path, cause: io::Error) -> Error {
    let name = folder.display().to_string();
    Error::io(format!("cannot {what} the folder {name}, where jobs are noted"), cause)
        .at(name, None)
}

fn note_error(what: &str, path: &Path, cause: io::Error) -> Error {
    let name = path.display().to_string();
    Error::io(format!("cannot {what} {name}, the note of a job"), cause).at(name, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::host::TempDir;

    fn claims() -> Claims {
        let odd = PathBuf::from(OsStr::from_bytes(b"/srv/\xff \"odd\"\n.inprogress"));
        Claims { what: "backup", reads: vec!["/dev/sdb1".into()], writes: vec![odd] }
    }

    #[test]
    fn a_note_is_there_while_its_job_runs_and_belongs_to_a_living_process() {
        let scratch = TempDir::new("journal");
        let journal = Journal::open(scratch.join("run/jobs")).unwrap();
        let id = JobId::new().unwrap();
        let note = journal.note(&id, &claims()).unwrap();
        let path = scratch.join(format!("run/jobs/{id}.json"));
        assert!(path.exists());
        assert!(journal.leftovers().unwrap().is_empty());
        drop(note);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_process_left_is_found_once_and_then_forgotten() {
        let scratch = TempDir::new("journal");
        let journal = Journal::open(scratch.path().to_owned()).unwrap();
        let id = JobId::new().unwrap();
        let mut note = journal.note(&id, &claims()).unwrap();
        let more = Claims { writes: vec!["/srv/more".into()], ..claims() };
        note.write(&id, [&claims(), &more].into_iter()).unwrap();
        // As a process that is killed in the middle of a third line leaves it.
        note.file.write_all(b"{\"job\": ").unwrap();
        note.file.unlock().unwrap();
        std::mem::forget(note);
        let mut left = journal.leftovers().unwrap();
        assert!(journal.leftovers().unwrap().is_empty(), "one who has found it holds it");
        // It could not be dealt with: another time, then.
        drop(left.pop().unwrap());
        let left = journal.leftovers().unwrap().pop().unwrap();
        assert_eq!(
            (left.what.as_str(), &left.reads),
            ("backup", &[claims().reads, claims().reads].concat())
        );
        let expected = [claims().writes, more.writes].concat();
        assert_eq!(left.writes, expected);
        left.forget();
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_note_that_a_process_left_before_its_first_line_goes_too() {
        let scratch = TempDir::new("journal");
        let journal = Journal::open(scratch.path().to_owned()).unwrap();
        let path = scratch.join(format!("{}.json", JobId::new().unwrap()));
        let file = create(&path).unwrap();
        assert!(journal.leftovers().unwrap().is_empty());
        assert!(path.exists(), "its process lives");
        drop(file);
        assert!(journal.leftovers().unwrap().is_empty());
        assert!(!path.exists());
    }

    #[test]
    fn what_is_no_note_is_passed_over() {
        let scratch = TempDir::new("journal");
        let journal = Journal::open(scratch.path().to_owned()).unwrap();
        for (number, text) in ["", "{", "[]\n", "{\"what\":1}\n", "\u{fffd}"].iter().enumerate() {
            fs::write(scratch.join(format!("{number}.json")), text).unwrap();
        }
        assert!(journal.leftovers().unwrap().is_empty());
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 5);
    }
}
