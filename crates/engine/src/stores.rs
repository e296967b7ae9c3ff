//! Chunk stores by name: from what the user wrote, or from where casync looks, to open stores.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chunks::store::{
    Chain, Form, LocalOptions, LocalStore, Packed, PruneStore, ReadStore, WriteStore,
};
use chunks::{Algorithm, ChunkId};
use image::{Error, ErrorKind, Result};

/// The stores behind an index: which are asked, and which is the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stores {
    /// Asked in this order. If there is none, the default store is looked for.
    pub sources: Vec<StoreLocation>,
    /// Asked first, and filled with what is fetched; made if it is not there.
    pub cache: Option<StoreLocation>,
    /// The form in which the cache keeps what is fetched.
    pub cache_form: Form,
}

impl Stores {
    /// Whether none was named.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty() && self.cache.is_none()
    }
}

/// Where a chunk store is, as the user wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreLocation {
    /// A folder.
    Folder(PathBuf),
    /// `A|B`: stores that hold the same chunks; where one fails, the next is asked.
    Group(Vec<StoreLocation>),
    /// A store elsewhere, which this version recognises and cannot open.
    Remote {
        /// What was written.
        text: String,
        /// What it is called: `ssh`, `HTTP`.
        kind: &'static str,
    },
}

/// The ways in which stores of casync and desync are named that are no folders, and the names of their kinds.
const REMOTE: [(&str, &str); 10] = [
    ("ssh://", "ssh"),
    ("http://", "HTTP"),
    ("https://", "HTTP"),
    ("ftp://", "FTP"),
    ("sftp://", "SFTP"),
    ("s3://", "S3"),
    ("s3+http://", "S3"),
    ("s3+https://", "S3"),
    ("gs://", "Google storage"),
    ("oci+", "OCI"),
];

impl StoreLocation {
    /// Reads a folder, `A|B`, `HOST:PATH`, or a URL. A folder whose name looks like one of the others is written
    /// with `./` before it. Touches nothing.
    pub fn parse(text: &OsStr) -> Self {
        let bytes = text.as_bytes();
        if bytes.contains(&b'|') {
            let members = bytes.split(|&byte| byte == b'|').filter(|part| !part.is_empty());
            return StoreLocation::Group(
                members.map(|part| StoreLocation::parse(OsStr::from_bytes(part))).collect(),
            );
        }
        let lower = bytes.to_ascii_lowercase();
        let known = REMOTE.iter().find(|(prefix, _)| lower.starts_with(prefix.as_bytes()));
        let kind = match known {
            Some((_, kind)) => Some(*kind),
            // casync's `user@host:path`: a colon before any slash.
            None => bytes
                .split(|&byte| byte == b'/')
                .next()
                .is_some_and(|first| first.contains(&b':'))
                .then_some("ssh"),
        };
        match kind {
            Some(kind) => StoreLocation::Remote { text: text.to_string_lossy().into_owned(), kind },
            None => StoreLocation::Folder(text.into()),
        }
    }

    /// The stores that it stands for: itself, or the members of the group.
    fn members(&self) -> &[StoreLocation] {
        match self {
            StoreLocation::Group(members) => members,
            one => std::slice::from_ref(one),
        }
    }

    /// The folder, or the refusal of what is none.
    fn folder(&self) -> Result<&Path> {
        let (kind, sentence) = match self {
            StoreLocation::Folder(path) => return Ok(path),
            StoreLocation::Group(_) => (
                ErrorKind::Invalid,
                format!("cannot use {self}: a group of stores can only be read"),
            ),
            StoreLocation::Remote { text, kind } => (
                ErrorKind::Unsupported,
                format!("cannot open {text}: {kind} stores are not supported in this version"),
            ),
        };
        Err(Error::new(kind, sentence).at(self.to_string(), None))
    }
}

impl From<OsString> for StoreLocation {
    fn from(text: OsString) -> Self {
        StoreLocation::parse(&text)
    }
}

/// As it was written.
impl fmt::Display for StoreLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreLocation::Folder(path) => write!(f, "{}", path.display()),
            StoreLocation::Remote { text, .. } => f.write_str(text),
            StoreLocation::Group(members) => {
                for (number, member) in members.iter().enumerate() {
                    write!(f, "{}{member}", if number > 0 { "|" } else { "" })?;
                }
                Ok(())
            }
        }
    }
}

/// Opens a store to read from.
///
/// # Errors
///
/// `NotFound`, `Denied`; `Unsupported` for a store that is no folder. Of a group one member has to be there.
pub fn open_read(location: &StoreLocation) -> Result<Box<dyn ReadStore>> {
    if let StoreLocation::Group(members) = location {
        let members = open_group(members)?;
        return Ok(Box::new(Group { name: location.to_string(), members }));
    }
    Ok(Box::new(LocalStore::open(location.folder()?, &LocalOptions::default())?))
}

/// Opens a store to write to; it is made if it is not there. New chunks are kept in `form`.
///
/// # Errors
///
/// As [`open_read`]; `Invalid` for a group.
pub fn open_write(location: &StoreLocation, form: Form) -> Result<Arc<dyn WriteStore>> {
    let options = LocalOptions { form, ..LocalOptions::default() };
    Ok(Arc::new(LocalStore::create(location.folder()?, &options)?))
}

/// Opens a store to keep what is fetched; it is made if it is not there. What a power cut breaks in it is found when
/// it is read, and fetched again: nobody has to wait for the disk because of it.
fn open_cache(location: &StoreLocation, form: Form) -> Result<Arc<dyn WriteStore>> {
    let options = LocalOptions { form, durable: false, ..LocalOptions::default() };
    Ok(Arc::new(LocalStore::create(location.folder()?, &options)?))
}

/// Opens a store whose chunks are to be listed or removed; it has to be there.
///
/// # Errors
///
/// As [`open_write`].
pub fn open_prune(location: &StoreLocation) -> Result<Box<dyn PruneStore>> {
    open_prune_as(location, Form::Compressed)
}

/// The same; of a chunk that is there in both forms, that in `form` is fetched.
pub(crate) fn open_prune_as(location: &StoreLocation, form: Form) -> Result<Box<dyn PruneStore>> {
    let options = LocalOptions { form, ..LocalOptions::default() };
    Ok(Box::new(LocalStore::open(location.folder()?, &options)?))
}

/// Opens the stores that were named; if none was and `look_for_default` says so, the default store of the index.
/// `None` if there is nothing to ask.
///
/// # Errors
///
/// As [`open_read`] and [`open_write`].
pub fn open_chain(
    stores: &Stores,
    index: &Path,
    algorithm: Algorithm,
    look_for_default: bool,
) -> Result<Option<Chain>> {
    let mut sources: Vec<Arc<dyn ReadStore>> = Vec::new();
    for location in &stores.sources {
        match location {
            // Each member is a place of its own, so that a chunk which is bad in one is looked for in the next.
            StoreLocation::Group(members) => {
                sources.extend(open_group(members)?.into_iter().map(Arc::from));
            }
            one => sources.push(Arc::from(open_read(one)?)),
        }
    }
    if stores.sources.is_empty()
        && look_for_default
        && let Some(location) = default_store(index)
    {
        for member in location.members() {
            sources.push(Arc::from(open_read(member)?));
        }
    }
    let cache =
        stores.cache.as_ref().map(|cache| open_cache(cache, stores.cache_form)).transpose()?;
    let chain = Chain::new(sources, cache, algorithm);
    Ok(Some(chain).filter(|chain| !chain.is_empty()))
}

/// The error where chunks are needed and no store is known.
pub fn no_store(index: &Path) -> Error {
    let name = index.display().to_string();
    let sentence = format!(
        "cannot read the chunks of {name}: no store was named (--store), CASYNC_STORE is not set, and there is no \
         {DEFAULT_NAME} beside it or here"
    );
    Error::new(ErrorKind::NotFound, sentence).at(name, None)
}

const DEFAULT_NAME: &str = "default.castr";

/// Where casync looks: `CASYNC_STORE`, else `default.castr` beside the index, else in the current folder.
pub fn default_store(index: &Path) -> Option<StoreLocation> {
    let named = std::env::var_os("CASYNC_STORE").filter(|value| !value.is_empty());
    if let Some(text) = named {
        return Some(StoreLocation::parse(&text));
    }
    let beside = index.with_file_name(DEFAULT_NAME);
    [beside, PathBuf::from(DEFAULT_NAME)]
        .into_iter()
        .find(|path| path.is_dir())
        .map(StoreLocation::Folder)
}

/// Opens those members that can be opened.
fn open_group(members: &[StoreLocation]) -> Result<Vec<Box<dyn ReadStore>>> {
    let mut open = Vec::new();
    let mut failure = None;
    for member in members {
        match open_read(member) {
            Ok(store) => open.push(store),
            // What cannot be opened in this version never can.
            Err(error) if error.kind() == ErrorKind::Unsupported => return Err(error),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    match failure {
        Some(error) if open.is_empty() => Err(error),
        None if open.is_empty() => {
            Err(Error::new(ErrorKind::Invalid, "a group of stores has no member"))
        }
        _ => Ok(open),
    }
}

/// Stores that hold the same chunks, as one.
struct Group {
    name: String,
    members: Vec<Box<dyn ReadStore>>,
}

impl Group {
    /// The first answer that is one, else the first error.
    fn ask<T>(&self, ask: impl Fn(&dyn ReadStore) -> Result<Option<T>>) -> Result<Option<T>> {
        let mut failure = None;
        for member in &self.members {
            match ask(&**member) {
                Ok(Some(answer)) => return Ok(Some(answer)),
                Ok(None) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(None), Err)
    }
}

impl ReadStore for Group {
    fn name(&self) -> &str {
        &self.name
    }

    fn has(&self, id: &ChunkId) -> Result<bool> {
        Ok(self.ask(|member| Ok(member.has(id)?.then_some(())))?.is_some())
    }

    fn fetch(&self, id: &ChunkId) -> Result<Option<Packed>> {
        self.ask(|member| member.fetch(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> StoreLocation {
        StoreLocation::parse(OsStr::new(text))
    }

    #[test]
    fn folders_are_told_from_everything_that_casync_and_desync_know() {
        for path in ["/srv/store", "default.castr", "./host:path", "a/b:c", "../x"] {
            assert_eq!(parse(path), StoreLocation::Folder(path.into()));
        }
        for (text, kind) in [
            ("ssh://user@host/srv", "ssh"),
            ("host:/srv/store", "ssh"),
            ("user@host:store", "ssh"),
            ("http://host/store", "HTTP"),
            ("HTTPS://host:8443/store", "HTTP"),
            ("sftp://host/store", "SFTP"),
            ("s3://bucket", "S3"),
            ("s3+https://host/bucket/prefix?lookup=dns", "S3"),
            ("gs://bucket/prefix", "Google storage"),
            ("oci+https://registry/repository", "OCI"),
        ] {
            let location = parse(text);
            assert_eq!(location, StoreLocation::Remote { text: text.into(), kind });
            let error = open_read(&location).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains(&format!("{text}: {kind} stores")));
            assert!(open_write(&location, Form::Plain).is_err() && open_prune(&location).is_err());
        }
    }

    #[test]
    fn a_group_is_open_when_one_of_its_members_is() {
        let folder = testkit::host::TempDir::new("stores");
        let here = folder.path().display().to_string();
        let group = parse(&format!("/nowhere/at/all|{here}"));
        assert_eq!(group.to_string(), format!("/nowhere/at/all|{here}"));
        let store = open_read(&group).unwrap();
        assert!(!store.has(&ChunkId([0; 32])).unwrap());
        let stores = Stores { sources: vec![group.clone()], ..Stores::default() };
        let index = Path::new("/nowhere/index");
        let chain = open_chain(&stores, index, Algorithm::Sha256, false).unwrap().unwrap();
        assert_eq!(chain.counts().len(), 1);
        assert_eq!(open_write(&group, Form::Plain).err().unwrap().kind(), ErrorKind::Invalid);
        assert_eq!(
            open_read(&parse("/nowhere|/neither")).err().unwrap().kind(),
            ErrorKind::NotFound
        );
        assert_eq!(open_read(&parse("|")).err().unwrap().kind(), ErrorKind::Invalid);
        let remote = parse(&format!("{here}|http://host/store"));
        assert_eq!(open_read(&remote).err().unwrap().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn the_default_store_stands_beside_the_index() {
        let folder = testkit::host::TempDir::new("stores");
        let index = folder.path().join("blob.caibx");
        let none = open_chain(&Stores::default(), &index, Algorithm::Sha256, true).unwrap();
        assert!(none.is_none());
        let store = folder.path().join("default.castr");
        std::fs::create_dir(&store).unwrap();
        assert_eq!(default_store(&index), Some(StoreLocation::Folder(store)));
        let found = open_chain(&Stores::default(), &index, Algorithm::Sha256, true).unwrap();
        assert!(found.is_some());
        let none = open_chain(&Stores::default(), &index, Algorithm::Sha256, false).unwrap();
        assert!(none.is_none());
    }
}
