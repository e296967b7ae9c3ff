//! What a client says: one message becomes one request, or the reason why it is none.

mod literal;
mod strict;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use engine::backup_name::BackupName;

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// To know what disks there are.
    Status,
    /// An end of it all.
    Kill,
    /// An image of a partition.
    Clone { source: PathText, destination: PathText, name: String, compression: Option<String> },
    /// A partition from an image.
    Restore { source: PathText, destination: PathText },
    /// No more of a clone.
    CancelClone { id: String },
    /// No more of a restore.
    CancelRestore { id: String },
    /// One image less.
    Delete { file: PathText },
}

/// Why a message is no request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rejection {
    /// The type that it says it has.
    pub(super) request: Option<String>,
    /// The number that it gives.
    pub(super) id: Option<String>,
    /// Why.
    pub(super) reason: String,
}

/// A path as a client gave it. Clients do not quote, so ` #` in it may begin a comment, or belong to it: only a look at
/// the disk tells, and that is left to those who may wait for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathText {
    whole: OsString,
    /// Without what may be a comment.
    short: Option<OsString>,
}

impl PathText {
    /// The path: the whole one if there is such a thing. May wait for a disk.
    pub(super) fn resolve(&self) -> PathBuf {
        match &self.short {
            Some(short) if std::fs::symlink_metadata(&self.whole).is_err() => short.into(),
            _ => PathBuf::from(&self.whole),
        }
    }

    /// The path of an image: where there is none, what at least is called like one. May wait for a disk.
    pub(super) fn resolve_image(&self) -> PathBuf {
        let found = self.resolve();
        let whole = PathBuf::from(&self.whole);
        match is_called_like_an_image(&whole) && !is_called_like_an_image(&found) {
            true => whole,
            false => found,
        }
    }

    /// For people, without a look at a disk.
    pub(super) fn shown(&self) -> String {
        self.short.as_ref().unwrap_or(&self.whole).to_string_lossy().into_owned()
    }
}

fn is_called_like_an_image(path: &Path) -> bool {
    let name = path.file_name().map(OsStr::to_string_lossy);
    name.is_some_and(|name| BackupName::parse(&name).is_some())
}

/// The keys of requests.
const KEYS: [&str; 7] = ["type", "source", "destination", "name", "compression", "id", "file"];

/// Longer messages are not read, in bytes: a path has at most 4096.
const MESSAGE_BYTES: usize = 64 << 10;

/// The value of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Value {
    /// As it stands there.
    whole: Vec<u8>,
    /// As YAML has it, if that is less, because the rest would be a comment.
    short: Option<Vec<u8>>,
}

/// Keys and values of a message.
#[derive(Debug, Default, PartialEq, Eq)]
struct Fields(Vec<(String, Value)>);

/// Why a text cannot be read.
type Reason = String;

/// Reads a message: as YAML, but with what a client wrote without quotes taken as it stands.
pub(super) fn read(message: &[u8]) -> Result<Request, Rejection> {
    let reject = |reason: Reason| Rejection { request: None, id: None, reason };
    if message.len() > MESSAGE_BYTES {
        return Err(reject(format!("the message is longer than {MESSAGE_BYTES} bytes")));
    }
    let lines = literal::read(message);
    let strict = match std::str::from_utf8(message) {
        Ok(text) => strict::read(text),
        Err(_) => Err("the message is not UTF-8".to_string()),
    };
    let fields = match (lines, strict) {
        (Some(lines), strict) => lines.with_quoted_of(strict.as_ref().ok()),
        (None, Ok(strict)) => strict,
        (None, Err(reason)) => return Err(reject(reason)),
    };
    fields.refuse_twice().map_err(reject)?;
    fields.request()
}

impl Fields {
    /// The value of `key`; what is empty or `~` is absent.
    fn get(&self, key: &str) -> Option<&Value> {
        let (_, value) = self.0.iter().find(|(known, _)| known == key)?;
        let is_nothing = |text: &[u8]| text.is_empty() || text == b"~";
        (!is_nothing(value.as_yaml_bytes())).then_some(value)
    }

    fn text(&self, key: &str) -> Option<String> {
        self.get(key).map(Value::as_yaml).filter(|text| !text.is_empty())
    }

    fn refuse_twice(&self) -> Result<(), Reason> {
        for (index, (key, _)) in self.0.iter().enumerate() {
            if self.0[..index].iter().any(|(before, _)| before == key) {
                return Err(format!("the key {key:?} stands there twice"));
            }
        }
        Ok(())
    }

    fn request(&self) -> Result<Request, Rejection> {
        let kind = self.text("type");
        let id = self.text("id");
        let reject = |reason: Reason| Rejection { request: kind.clone(), id: id.clone(), reason };
        let missing = |key: &str| reject(format!("the field {key} is missing or empty"));
        let path = |key: &str| {
            let path = self.get(key).map(Value::as_path).ok_or_else(|| missing(key))?;
            match path.whole.to_string_lossy().contains('\0') {
                true => Err(reject(format!("the field {key} has a NUL in it"))),
                false => Ok(path),
            }
        };
        let number = || id.clone().ok_or_else(|| missing("id"));
        match kind.as_deref() {
            Some("status-request") => Ok(Request::Status),
            Some("kill-request") => Ok(Request::Kill),
            Some("clone") => Ok(Request::Clone {
                source: path("source")?,
                destination: path("destination")?,
                name: self.text("name").ok_or_else(|| missing("name"))?,
                compression: self.text("compression"),
            }),
            Some("restore") => {
                Ok(Request::Restore { source: path("source")?, destination: path("destination")? })
            }
            Some("cancel-clone") => Ok(Request::CancelClone { id: number()? }),
            Some("cancel-restore") => Ok(Request::CancelRestore { id: number()? }),
            Some("delete-clone") => Ok(Request::Delete { file: path("file")? }),
            Some(other) => Err(reject(format!("there is no request of the type {other:?}"))),
            None => Err(missing("type")),
        }
    }
}

impl Value {
    fn of(text: &str) -> Self {
        Value { whole: text.into(), short: None }
    }

    fn as_yaml_bytes(&self) -> &[u8] {
        self.short.as_ref().unwrap_or(&self.whole)
    }

    fn as_yaml(&self) -> String {
        String::from_utf8_lossy(self.as_yaml_bytes()).into_owned()
    }

    fn as_path(&self) -> PathText {
        PathText {
            whole: OsString::from_vec(self.whole.clone()),
            short: self.short.clone().map(OsString::from_vec),
        }
    }
}

impl fmt::Display for PathText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

#[cfg(test)]
mod tests;
