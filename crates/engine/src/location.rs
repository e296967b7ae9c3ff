//! What a text on the command line means, before anything is touched.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where an image is, as the user wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The format that an explicit prefix names, such as `raw:disk.img`. It wins over any guess.
    pub format: Option<Format>,
    /// The file or device.
    pub path: PathBuf,
}

/// Where an image is: here, or on another machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On this machine.
    Local(Location),
    /// On another one: `[USER@]HOST:PATH`.
    Remote {
        /// What ssh is to call.
        host: OsString,
        /// The path there, as it was written.
        path: OsString,
    },
}

/// The formats that a location can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The bytes of a file or device as they are.
    Raw,
    /// A chunk index of casync; the bytes come from chunk stores.
    Index,
    /// A container of spgz: blocks in slots, compressed.
    Spgz,
}

impl Format {
    const ALL: [Format; 3] = [Format::Raw, Format::Index, Format::Spgz];

    /// Its name: prefix, page in `docs/formats`.
    pub fn name(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Index => "index",
            Format::Spgz => "spgz",
        }
    }
}

impl Location {
    /// Reads `FORMAT:PATH` or `PATH`. A path that begins like a prefix is written `./raw:…`.
    pub fn parse(text: &OsStr) -> Self {
        for format in Format::ALL {
            let prefix = format!("{}:", format.name());
            if let Some(path) = text.as_bytes().strip_prefix(prefix.as_bytes()) {
                return Location { format: Some(format), path: OsStr::from_bytes(path).into() };
            }
        }
        Location { format: None, path: text.into() }
    }

    /// The path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl From<OsString> for Location {
    fn from(text: OsString) -> Self {
        Location::parse(&text)
    }
}

impl Place {
    /// Reads `[USER@]HOST:PATH`, or a [`Location`]. What has a slash before its first colon, or begins with the prefix of
    /// a format, is here.
    pub fn parse(text: &OsStr) -> image::Result<Self> {
        Ok(Place::Local(Location::parse(text)))
    }
}

/// As it was written.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(format) = self.format {
            write!(f, "{}:", format.name())?;
        }
        write!(f, "{}", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_names_the_format_and_everything_else_is_a_path() {
        let location = |text: &str| Location::parse(OsStr::new(text));
        assert_eq!(location("raw:/dev/sda").format, Some(Format::Raw));
        assert_eq!(location("raw:/dev/sda").path, Path::new("/dev/sda"));
        for path in ["/dev/sda", "./raw:disk", "rawdisk", "a:b"] {
            assert_eq!(location(path), Location { format: None, path: path.into() });
        }
        assert_eq!(location("raw:x").to_string(), "raw:x");
        assert_eq!(location("index:a/b.caibx").format, Some(Format::Index));
        assert_eq!(location("index:x").to_string(), "index:x");
    }
}
