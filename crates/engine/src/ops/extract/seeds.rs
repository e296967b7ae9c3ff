//! Seeds: files with indexes of their own that may hold what is wanted, so that it need not be fetched.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use chunks::index::{Index, MARK_BYTES, looks_like_index};
use image::{Error, ErrorKind, Image, Result, Task};

use super::cut_seed;
use super::tables::Places;
use crate::Threads;
use crate::indexes::{Lenience, open_index};
use crate::location::{Format, Location};
use crate::registry::{self, Source};

/// A seed as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedRequest {
    /// Its index; without one, it is cut when it is opened.
    pub index: Option<PathBuf>,
    /// The file or device that the index was made of.
    pub file: PathBuf,
}

impl SeedRequest {
    /// Reads `INDEX`, `INDEX:FILE` or `FILE`. Of an index alone, the file is its name without `.caibx`; of a file alone,
    /// there is no index. What stands there as a whole wins, so that a path may have a colon.
    ///
    /// # Errors
    ///
    /// `Invalid` where no file is named, and the name of the index does not tell one.
    pub fn parse(text: &OsStr) -> Result<Self> {
        let beside = |index: &OsStr| file_of(Path::new(index));
        if let (Some(file), true) = (beside(text), Path::new(text).exists()) {
            return Ok(SeedRequest { index: Some(text.into()), file });
        }
        if Path::new(text).exists() {
            return Ok(SeedRequest { index: None, file: text.into() });
        }
        let bytes = text.as_bytes();
        let colons = bytes.iter().enumerate().filter(|&(_, &byte)| byte == b':');
        let cuts: Vec<(&OsStr, &OsStr)> = colons
            .map(|(at, _)| (OsStr::from_bytes(&bytes[..at]), OsStr::from_bytes(&bytes[at + 1..])))
            .filter(|(index, file)| !index.is_empty() && !file.is_empty())
            .collect();
        let found = cuts.iter().find(|(index, _)| Path::new(index).exists()).or(cuts.first());
        match (found, beside(text)) {
            (Some((index, file)), _) => {
                Ok(SeedRequest { index: Some(index.into()), file: file.into() })
            }
            (None, Some(file)) => Ok(SeedRequest { index: Some(text.into()), file }),
            (None, None) => {
                let shown = text.display();
                let sentence = format!(
                    "the seed {shown} is not there: write FILE, INDEX:FILE, or FILE.caibx for the index of FILE"
                );
                Err(Error::new(ErrorKind::Invalid, sentence).at(shown.to_string(), None))
            }
        }
    }

    /// The indexes in a folder whose files lie beside them, in the order of their names.
    ///
    /// # Errors
    ///
    /// Of reading the folder.
    pub fn all_in(folder: &Path) -> Result<Vec<Self>> {
        let failed = |cause| {
            let name = folder.display().to_string();
            Error::io(format!("cannot read the folder of seeds {name}"), cause).at(name, None)
        };
        let mut names: Vec<OsString> = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed)? {
            names.push(entry.map_err(failed)?.file_name());
        }
        names.sort();
        let request = |name: OsString| {
            let index = folder.join(name);
            let file = file_of(&index).filter(|file| file.exists())?;
            Some(SeedRequest { index: Some(index), file })
        };
        Ok(names.into_iter().filter_map(request).collect())
    }
}

/// The file beside an index: its name without `.caibx`.
fn file_of(index: &Path) -> Option<PathBuf> {
    let name = index.file_name()?.as_bytes().strip_suffix(b".caibx")?;
    (!name.is_empty()).then(|| index.with_file_name(OsStr::from_bytes(name)))
}

/// A seed that can be read.
pub(super) struct Seed {
    pub(super) name: String,
    pub(super) index: Index,
    pub(super) places: Places,
    pub(super) image: Box<dyn Image>,
    /// Where blocks can be shared from it.
    pub(super) file: Option<File>,
    good: AtomicU64,
    bad: AtomicU64,
    is_off: AtomicBool,
}

/// An index whose file was forgotten is no seed by itself.
fn refuse_index(image: &dyn Image, file: &Path) -> Result<()> {
    let mut head = [0; MARK_BYTES];
    if image.size() >= head.len() as u64 {
        image.read_at(&mut head, 0)?;
    }
    if !looks_like_index(&head) {
        return Ok(());
    }
    let shown = file.display();
    let sentence = format!("the seed {shown} is an index and names no file: write INDEX:FILE");
    Err(Error::new(ErrorKind::Invalid, sentence).at(shown.to_string(), None))
}

/// So many bad chunks, if they are more than the good ones, tell that the index is of another file.
const BAD_MAX: u64 = 16;

impl Seed {
    /// Opens what is asked for.
    fn open(request: &SeedRequest, opening: &Opening<'_>) -> Result<Self> {
        let index = request.index.as_ref().map(|path| open_index(path, opening.lenience));
        let index = index.transpose()?;
        let location = Location { format: Some(Format::Raw), path: request.file.clone() };
        let Source { image, facts, .. } = registry::open_source(&location, opening.task)?;
        let file = match facts.medium {
            registry::MediumKind::File => File::open(&request.file).ok(),
            registry::MediumKind::Device => None,
        };
        let index = match index {
            Some(index) => index,
            None => {
                refuse_index(&*image, &request.file)?;
                let Opening { wanted, threads, task, .. } = *opening;
                cut_seed::index_of(&*image, &request.file, wanted, threads, task)?
            }
        };
        Ok(Seed {
            name: request.file.display().to_string(),
            places: Places::of(&index)?,
            index,
            image,
            file,
            good: AtomicU64::new(0),
            bad: AtomicU64::new(0),
            is_off: AtomicBool::new(false),
        })
    }

    /// Whether it is worth looking into.
    pub(super) fn is_good(&self) -> bool {
        !self.is_off.load(Ordering::Relaxed)
    }

    /// Chunks of it were what its index says, and others were not.
    pub(super) fn judge(&self, good: u64, bad: u64, task: &Task) {
        let good = self.good.fetch_add(good, Ordering::Relaxed) + good;
        if bad == 0 {
            return;
        }
        let before = self.bad.fetch_add(bad, Ordering::Relaxed);
        if before == 0 {
            task.warn(format!(
                "the seed {} does not hold what its index says (it was changed, or is damaged); what is wrong in it \
                 is taken from elsewhere",
                self.name
            ));
        }
        if before + bad >= BAD_MAX && before + bad > good {
            self.is_off.store(true, Ordering::Relaxed);
        }
    }
}

/// For whom seeds are opened.
pub(super) struct Opening<'a> {
    /// The index whose chunks are wanted, and where it lies.
    pub(super) wanted: &'a Index,
    pub(super) wanted_path: &'a Path,
    /// A seed that this is, is left out: it is being overwritten.
    pub(super) target: Option<&'a Path>,
    pub(super) lenience: Lenience,
    pub(super) threads: Threads,
    pub(super) task: &'a Task,
}

/// Opens the seeds that are named, and those that lie in `folders`: each index there with its file beside it, except
/// the wanted one itself.
///
/// # Errors
///
/// Of a seed that was named; one that only lies in a folder is left out with a warning.
pub(super) fn open_all(
    named: &[SeedRequest],
    folders: &[PathBuf],
    opening: &Opening<'_>,
) -> Result<Vec<Seed>> {
    let Opening { wanted: index, wanted_path: index_path, target, task, .. } = *opening;
    let is_target = |file: &Path| target.is_some_and(|target| is_one(file, target));
    let mut seeds = Vec::new();
    let mut add = |seed: Seed| {
        let (one, other) = (seed.index.algorithm(), index.algorithm());
        if one == other {
            seeds.push(seed);
        } else {
            task.note(format!(
                "the seed {} is left out: its chunks are named by {}, those wanted by {}",
                seed.name,
                one.name(),
                other.name()
            ));
        }
    };
    for request in named {
        if is_target(&request.file) {
            task.note(format!(
                "the seed {} is left out: it is the target, which keeps what it has in the right place",
                request.file.display()
            ));
        } else {
            add(Seed::open(request, opening)?);
        }
    }
    for folder in folders {
        for request in SeedRequest::all_in(folder)? {
            let is_wanted = request.index.as_ref().is_some_and(|path| is_one(path, index_path));
            if is_wanted || is_target(&request.file) {
                continue;
            }
            match Seed::open(&request, opening) {
                Ok(seed) => add(seed),
                Err(error) => task.warn(format!(
                    "the seed {} is left out: {}",
                    request.file.display(),
                    error.full_sentence()
                )),
            }
        }
    }
    Ok(seeds)
}

fn is_one(a: &Path, b: &Path) -> bool {
    let which = |path| fs::metadata(path).map(|found| (found.dev(), found.ino(), found.rdev()));
    matches!((which(a), which(b)), (Ok(a), Ok(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_an_index_with_its_file_beside_it_or_named_or_a_file_alone() {
        let parse = |text: &str| {
            let seed = SeedRequest::parse(OsStr::new(text))?;
            let index = seed.index.map_or_else(String::new, |index| index.display().to_string());
            Ok::<_, Error>((index, seed.file.display().to_string()))
        };
        let pair = |index: &str, file: &str| (index.to_string(), file.to_string());
        assert_eq!(parse("no/old.img.caibx").unwrap(), pair("no/old.img.caibx", "no/old.img"));
        assert_eq!(parse("no/index:/dev/sdx").unwrap(), pair("no/index", "/dev/sdx"));
        assert_eq!(parse("a.caibx:b").unwrap(), pair("a.caibx", "b"));
        assert_eq!(parse("/dev/zero").unwrap(), pair("", "/dev/zero"), "it is there: it is cut");
        for nameless in ["index", ".caibx", "index:", ":file"] {
            assert_eq!(parse(nameless).unwrap_err().kind(), ErrorKind::Invalid, "{nameless}");
        }
        // What stands there as a whole wins.
        let folder = testkit::host::TempDir::new("seeds");
        let colon = folder.join("a:b.caibx");
        fs::write(&colon, "").unwrap();
        let text = colon.to_str().unwrap();
        assert_eq!(parse(text).unwrap(), pair(text, text.strip_suffix(".caibx").unwrap()));
    }
}
