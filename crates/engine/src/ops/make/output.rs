//! The index file: without a name until it is complete.

use std::fs::{self, Metadata, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use image::{Error, ErrorKind, Replace, Result};
use sys::holders::Holders;
use sys::{Content, UnnamedFile};

use crate::registry;

/// Where the items go.
pub(super) struct Output {
    file: Option<UnnamedFile>,
    replace: Replace,
}

impl Output {
    /// Refuses an index that may not be replaced, before anything is done.
    pub(super) fn check(path: &Path, force: bool) -> Result<()> {
        match fs::metadata(path) {
            Ok(metadata) if !metadata.is_file() => {
                let name = path.display().to_string();
                let sentence = format!("cannot write the index {name}: it is no regular file");
                Err(Error::new(ErrorKind::Invalid, sentence).at(name, None))
            }
            Ok(_) if !force => Err(registry::exists_already(path)),
            Ok(metadata) => refuse_held(path, &metadata),
            _ => Ok(()),
        }
    }

    /// Begins the file that is to be `path`; without one, the items go nowhere. It gets the mode of the file that
    /// it replaces, or that of the source without what nobody needs: `source_mode & 0666`, less the umask.
    pub(super) fn begin(path: Option<&Path>, force: bool, source_mode: u32) -> Result<Self> {
        let replace = if force { Replace::Allowed } else { Replace::Never };
        let file = path.map(UnnamedFile::create_for).transpose()?;
        if let (Some(path), Some(file)) = (path, &file) {
            let mode = match fs::metadata(path) {
                Ok(old) => old.mode() & 0o7777,
                Err(_) => source_mode & 0o666 & !sys::umask(),
            };
            file.file()
                .set_permissions(Permissions::from_mode(mode))
                .map_err(|cause| failed(Some(path), cause))?;
        }
        Ok(Output { file, replace })
    }

    /// Takes the bytes of the index: for the file, else for `stream`, else for nobody.
    pub(super) fn writer<'a, 's: 'a>(
        &'a self,
        stream: Option<&'a mut (dyn Write + Send + 's)>,
    ) -> Box<dyn Write + Send + 'a> {
        match (&self.file, stream) {
            (Some(file), _) => Box::new(BufWriter::with_capacity(256 << 10, file.file())),
            (None, Some(stream)) => Box::new(BufWriter::with_capacity(256 << 10, stream)),
            (None, None) => Box::new(io::sink()),
        }
    }

    /// Makes it durable and gives it its name.
    pub(super) fn publish(self) -> Result<()> {
        match self.file {
            Some(file) => file.publish(self.replace, Content::Written),
            None => Ok(()),
        }
    }
}

/// What is mounted or attached from a file that is replaced is lost when it is detached.
fn refuse_held(path: &Path, metadata: &Metadata) -> Result<()> {
    let holders = Holders::of(metadata)?;
    if holders.is_held() {
        let name = path.display().to_string();
        let sentence = format!(
            "cannot replace {name} by an index: it is {holders} (choose another name for the index)"
        );
        return Err(Error::new(ErrorKind::InUse, sentence).at(name, None));
    }
    Ok(())
}

/// The error for an index that could not be written.
pub(super) fn failed(path: Option<&Path>, cause: io::Error) -> Error {
    let name = path.unwrap_or(&PathBuf::from("the index")).display().to_string();
    Error::io(format!("cannot write {name}"), cause).at(name, None)
}
