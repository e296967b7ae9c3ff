//! A file without a name, that has a path as long as this program runs: for what comes from a pipe.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use engine::stores::StoreLocation;
use engine::{Error, ErrorKind, Result};

use super::refusal::refuse;

/// A file that is gone when this is dropped, or when the program ends in whatever way.
pub(super) struct Spool {
    file: File,
    path: PathBuf,
}

/// The index of 12 TiB in chunks of 64 KiB.
const STDIN_MAX_BYTES: u64 = 8 << 30;

impl Spool {
    /// An empty one, where temporary files lie.
    pub(super) fn new() -> Result<Self> {
        let folder = std::env::temp_dir();
        let failed = |cause| {
            let name = folder.display().to_string();
            Error::io(format!("cannot make a temporary file in {name}"), cause).at(name, None)
        };
        let mut number = 0;
        let (file, named) = loop {
            let named = folder.join(format!(".blockprint-{}-{number}", std::process::id()));
            match File::options().read(true).write(true).create_new(true).mode(0o600).open(&named) {
                Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => number += 1,
                made => break (made.map_err(failed)?, named),
            }
        };
        fs::remove_file(&named).map_err(failed)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        Ok(Spool { file, path })
    }

    /// All of standard input.
    pub(super) fn of_stdin() -> Result<Self> {
        let mut spool = Spool::new()?;
        let mut input = io::stdin().lock().take(STDIN_MAX_BYTES + 1);
        let len_bytes = io::copy(&mut input, &mut spool.file)
            .map_err(|cause| Error::io("cannot read standard input", cause))?;
        if len_bytes > STDIN_MAX_BYTES {
            let sentence = "standard input is too long for an index";
            return Err(Error::new(ErrorKind::Invalid, sentence));
        }
        Ok(spool)
    }

    /// Where it can be opened by this program.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// An index that is named on the command line: a file, or `-` for standard input.
pub(super) struct NamedIndex {
    path: PathBuf,
    /// Holds the file that `path` leads to.
    _spool: Option<Spool>,
}

impl NamedIndex {
    pub(super) fn open(name: &Path) -> Result<Self> {
        refuse_url(name)?;
        if name != Path::new("-") {
            return Ok(NamedIndex { path: name.to_owned(), _spool: None });
        }
        let spool = Spool::of_stdin()?;
        Ok(NamedIndex { path: spool.path().to_owned(), _spool: Some(spool) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Refuses an index that lies in a store elsewhere.
pub(super) fn refuse_url(name: &Path) -> Result<()> {
    match StoreLocation::parse(name.as_os_str()) {
        StoreLocation::Remote { text, kind } if text.contains("://") => {
            Err(refuse(format!("cannot open the index {text}: {kind} is not supported")))
        }
        _ => Ok(()),
    }
}
