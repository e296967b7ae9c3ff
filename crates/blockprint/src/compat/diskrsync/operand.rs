//! What an operand of the client means: a path here, or `[USER@]HOST:PATH`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use engine::location::{Location, Place};
use engine::{Error, ErrorKind, Result};

/// An operand, cut at its first colon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Operand {
    /// What ssh is to call.
    pub(super) host: Option<OsString>,
    /// The path, as it was written; empty for the folder in which one is.
    pub(super) path: OsString,
}

impl Operand {
    /// Reads it. Nothing before the first colon, or a slash there, means that it is here.
    pub(super) fn read(text: &OsStr) -> Result<Self> {
        let bytes = text.as_bytes();
        let here = |path: &[u8]| Operand { host: None, path: owned(path) };
        let Some(colon) = bytes.iter().position(|&byte| byte == b':') else {
            return Ok(here(bytes));
        };
        let (host, path) = (&bytes[..colon], &bytes[colon + 1..]);
        if host.is_empty() {
            return Ok(here(path));
        }
        if host.contains(&b'/') {
            return Ok(here(bytes));
        }
        if host.starts_with(b"-") {
            let name = text.display();
            let sentence = format!("cannot call the host of {name}: its name begins with a dash");
            return Err(Error::new(ErrorKind::Invalid, sentence));
        }
        Ok(Operand { host: Some(owned(host)), path: owned(path) })
    }

    /// If it names a folder, the name of the source in that folder is meant.
    pub(super) fn or_in_folder(mut self, source: &Operand) -> Result<Self> {
        if !self.names_folder() {
            return Ok(self);
        }
        let bytes = source.path.as_bytes();
        let end = bytes.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
        let name = bytes[..end].rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        if matches!(name, b"" | b"." | b"..") {
            let sentence = format!(
                "cannot name the target in the folder {}: the source {} has no name of its own",
                shown(&self.path),
                shown(&source.path)
            );
            return Err(Error::new(ErrorKind::Invalid, sentence));
        }
        self.path.push(OsStr::from_bytes(name));
        Ok(self)
    }

    /// Where that is. A path that begins with a dash gets `./` before it, so that nobody takes it for a flag.
    pub(super) fn place(self) -> Place {
        let mut path = self.path;
        if path.is_empty() {
            path = "./".into();
        } else if path.as_bytes().starts_with(b"-") {
            let mut safe = OsString::from("./");
            safe.push(path);
            path = safe;
        }
        match self.host {
            Some(host) => Place::Remote { host, path },
            None => Place::Local(Location { format: None, path: path.into() }),
        }
    }

    fn names_folder(&self) -> bool {
        self.path.is_empty() || self.path.as_bytes().ends_with(b"/")
    }
}

fn owned(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

fn shown(path: &OsStr) -> String {
    if path.is_empty() { "./".to_string() } else { path.display().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Operand {
        Operand::read(text.as_ref()).unwrap()
    }

    fn here(path: &str) -> Operand {
        Operand { host: None, path: path.into() }
    }

    fn there(host: &str, path: &str) -> Operand {
        Operand { host: Some(host.into()), path: path.into() }
    }

    #[test]
    fn the_first_colon_ends_the_host_unless_nothing_or_a_slash_stands_before_it() {
        assert_eq!(read("disk.img"), here("disk.img"));
        assert_eq!(read("h:/x/disk.img"), there("h", "/x/disk.img"));
        assert_eq!(read("root@h:a:b"), there("root@h", "a:b"));
        assert_eq!(read("h:"), there("h", ""));
        assert_eq!(read("raw:x"), there("raw", "x"));
        assert_eq!(read(":a:b"), here("a:b"));
        assert_eq!(read(":"), here(""));
        let device = "/dev/disk/by-path/pci-0000:00";
        assert_eq!(read(device), here(device));
        assert_eq!(read("./a:b"), here("./a:b"));
        assert!(Operand::read("-oProxyCommand=x:y".as_ref()).is_err());
    }

    #[test]
    fn a_target_that_is_a_folder_gets_the_name_of_the_source() {
        let target = |source: &str, target: &str| read(target).or_in_folder(&read(source));
        for (from, to, used) in [
            ("/x/disk.img", "h:d/", there("h", "d/disk.img")),
            ("a", "h:", there("h", "a")),
            ("h:/x/disk.img", "d/", here("d/disk.img")),
            ("h:a", "d/", here("d/a")),
            ("h:a", "h2:", there("h2", "a")),
            ("x/a//", "/", here("/a")),
            ("x", "d", here("d")),
            ("a", ":", here("a")),
        ] {
            assert_eq!(target(from, to).unwrap(), used, "{from} {to}");
        }
        for (from, to) in [("/", "d/"), ("h:", "d/"), ("x/..", "d/"), (".", "h:")] {
            assert!(target(from, to).unwrap_err().to_string().contains("no name"), "{from} {to}");
        }
    }

    #[test]
    fn a_path_cannot_become_a_flag() {
        let place = |text| read(text).place();
        let remote = |path: &str| Place::Remote { host: "h".into(), path: path.into() };
        assert_eq!(place("h:-x"), remote("./-x"));
        assert_eq!(place("h:"), remote("./"));
        assert_eq!(place("h:x"), remote("x"));
        let local = |path: &str| Place::Local(Location { format: None, path: path.into() });
        assert_eq!(place("-x"), local("./-x"));
        assert_eq!(place(":raw:x"), local("raw:x"));
    }
}
