//! What a text on the command line means, before anything is touched.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use image::{Error, ErrorKind};

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
    /// A partition image of partclone, compressed or not.
    Partclone,
    /// The bytes of a disk, compressed as a whole.
    Packed,
}

impl Format {
    /// Those that are read only: they are made by backups.
    pub(crate) fn is_backup(self) -> bool {
        matches!(self, Format::Partclone | Format::Packed)
    }

    const ALL: [Format; 5] =
        [Format::Raw, Format::Index, Format::Spgz, Format::Partclone, Format::Packed];

    /// Its name: prefix, page in `docs/formats`.
    pub fn name(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Index => "index",
            Format::Spgz => "spgz",
            Format::Partclone => "partclone",
            Format::Packed => "packed",
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
    /// a format, is here. An IPv6 address stands in brackets. No path is the home folder there, `.`.
    ///
    /// # Errors
    ///
    /// `Invalid` for a host that is empty, or that ssh would take for an option.
    pub fn parse(text: &OsStr) -> image::Result<Self> {
        let bytes = text.as_bytes();
        let location = Location::parse(text);
        let Some((host, path)) = split_host(bytes).filter(|_| location.format.is_none()) else {
            return Ok(Place::Local(location));
        };
        let shown = text.display();
        let user_and_name = host.iter().position(|&byte| byte == b'@');
        let name = user_and_name.map_or(host, |at| &host[at + 1..]);
        let name =
            name.strip_prefix(b"[").map_or(name, |name| name.strip_suffix(b"]").unwrap_or(name));
        if name.is_empty() {
            let sentence = format!(
                "{shown} names no host before its colon (a file of that name is written ./{shown})"
            );
            return Err(Error::new(ErrorKind::Invalid, sentence));
        }
        if host.starts_with(b"-") || name.starts_with(b"-") {
            let sentence = format!(
                "{shown} is refused: ssh would take a host that begins with - for an option (a file of that name is written ./{shown})"
            );
            return Err(Error::new(ErrorKind::Invalid, sentence));
        }
        let path = if path.is_empty() { b"." } else { path };
        Ok(Place::Remote { host: without_brackets(host), path: OsStr::from_bytes(path).to_owned() })
    }
}

/// What stands before the colon, and behind it, if there is a colon before any slash.
fn split_host(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let address = text.iter().position(|&byte| byte == b'@').map_or(0, |at| at + 1);
    let is_bracketed = text.get(address) == Some(&b'[');
    let close = text.iter().position(|&byte| byte == b']').filter(|_| is_bracketed);
    let from = close.map_or(0, |close| close + 1);
    let colon = from + text[from..].iter().position(|&byte| byte == b':')?;
    let is_here = text[..colon].contains(&b'/') || close.is_some_and(|close| colon != close + 1);
    (!is_here).then(|| (&text[..colon], &text[colon + 1..]))
}

/// ssh wants the address alone.
fn without_brackets(host: &[u8]) -> OsString {
    let is_bracketed = host.ends_with(b"]");
    let keep = |byte: &&u8| !(is_bracketed && matches!(byte, b'[' | b']'));
    OsString::from_vec(host.iter().filter(keep).copied().collect())
}

/// As it was written.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Local(location) => location.fmt(f),
            Place::Remote { host, path } if host.as_bytes().contains(&b':') => {
                write!(f, "[{}]:{}", host.display(), path.display())
            }
            Place::Remote { host, path } => write!(f, "{}:{}", host.display(), path.display()),
        }
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

    #[test]
    fn a_colon_before_any_slash_makes_a_host_of_what_stands_before_it() {
        let place = |text: &str| Place::parse(OsStr::new(text)).unwrap();
        for (text, host, path) in [
            ("host:disk.img", "host", "disk.img"),
            ("me@host:/srv/disk.img", "me@host", "/srv/disk.img"),
            ("host:", "host", "."),
            ("host:a:b", "host", "a:b"),
            ("host:spgz:a", "host", "spgz:a"),
            ("[::1]:a", "::1", "a"),
            ("me@[fe80::1%eth0]:/a:b", "me@fe80::1%eth0", "/a:b"),
        ] {
            let remote = Place::Remote { host: host.into(), path: path.into() };
            assert_eq!(place(text), remote, "{text}");
        }
        for text in [
            "disk.img",
            "/dev/disk/by-path/pci-0000:00",
            "./host:disk",
            "raw:host:disk",
            "spgz:a",
            "[::1]/a:b",
            "a/[x]:b",
        ] {
            assert_eq!(place(text), Place::Local(Location::parse(OsStr::new(text))), "{text}");
        }
        assert_eq!(place("me@host:a").to_string(), "me@host:a");
        assert_eq!(place("[::1]:a").to_string(), "[::1]:a");
    }

    #[test]
    fn a_host_that_is_empty_or_an_option_is_refused() {
        for text in [":a", "@:a", "me@:a", "-oProxyCommand=x:a", "me@-x:a", "[]:a", "@[-x]:a"] {
            let refused = Place::parse(OsStr::new(text)).map(drop).map_err(|error| error.kind());
            assert_eq!(refused, Err(ErrorKind::Invalid), "{text}");
        }
    }
}
