//! Names beside a target: its partial file, its journal, its map of bad ranges.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The longest name that common filesystems hold, in bytes.
const NAME_MAX: usize = 255;

/// `NAME` with `suffix` behind it; a long name is cut and told apart from others by a number made of all of it.
pub(crate) fn beside(name: &OsStr, suffix: &str) -> OsString {
    let bytes = name.as_bytes();
    if bytes.len() + suffix.len() <= NAME_MAX {
        let mut whole = name.to_owned();
        whole.push(suffix);
        return whole;
    }
    let mark = format!("~{:016x}", fnv1a(bytes));
    let keep = NAME_MAX - suffix.len() - mark.len();
    let mut cut = OsStr::from_bytes(&bytes[..keep]).to_owned();
    cut.push(mark);
    cut.push(suffix);
    cut
}

/// A folder for what has to be kept about devices, which nothing can be kept beside: `/dev` is gone after the
/// next start.
pub(crate) fn state_folder() -> PathBuf {
    let absolute =
        |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .unwrap_or_else(|| PathBuf::from("/var/lib"));
    base.join("blockprint")
}

/// A file name made of a device path: `/dev/mapper/a` becomes `dev-mapper-a`.
pub(crate) fn device_file_name(path: &Path) -> OsString {
    let parts: Vec<&OsStr> = path
        .components()
        .filter_map(|part| match part {
            std::path::Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect();
    parts.join(OsStr::new("-"))
}

/// Fowler–Noll–Vo: enough to tell two cut names apart.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_beside_a_long_name_fits_and_stays_its_own() {
        assert_eq!(beside(OsStr::new("disk.img"), ".journal"), "disk.img.journal");
        let long = "x".repeat(NAME_MAX);
        let other = format!("{}y", "x".repeat(NAME_MAX - 1));
        let (a, b) =
            (beside(OsStr::new(&long), ".journal"), beside(OsStr::new(&other), ".journal"));
        assert!(a.len() <= NAME_MAX && b.len() <= NAME_MAX && a != b);
    }

    #[test]
    fn a_device_path_becomes_one_name() {
        assert_eq!(device_file_name(Path::new("/dev/mapper/vg-root")), "dev-mapper-vg-root");
    }
}
