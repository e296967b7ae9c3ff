//! What the environment says: stand-ins for other programs, and what happens when the client is gone.

use std::env;
use std::path::PathBuf;

use engine::partitions::Partclone;

use super::log;
use crate::journal;

/// How the daemon is set up.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// `APART_PARTCLONE_CMD`: programs that stand in for partclone.
    pub(super) stand_in: Option<Partclone>,
    /// `APART_LSBLK_CMD`: one that stands in for lsblk.
    pub(super) lsblk: Option<PathBuf>,
    /// `BLOCKPRINT_ON_DISCONNECT`: what becomes of jobs when the client is gone.
    pub(super) on_disconnect: OnDisconnect,
    /// `BLOCKPRINT_VERIFY=1`: images and partitions are read back.
    pub(super) verify: bool,
    /// `BLOCKPRINT_IMAGE_MODE`: permissions of new images.
    pub(super) image_mode: u32,
    /// Where jobs are noted while they run.
    pub(super) journal: Option<PathBuf>,
}

/// What becomes of jobs when the client is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnDisconnect {
    /// They come to their end: a restore that is stopped leaves a destroyed partition.
    Finish,
    /// They are cancelled.
    Cancel,
}

/// Nobody but the owner: an image holds all files of a filesystem.
const PRIVATE: u32 = 0o600;

impl Settings {
    /// Those of this process. What cannot be understood is said, and is as if it were not there.
    pub(super) fn from_environment() -> Self {
        let path = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let word = |name: &str| env::var(name).ok();
        Settings {
            stand_in: path("APART_PARTCLONE_CMD").map(|prefix| Partclone::stub(prefix.into())),
            lsblk: path("APART_LSBLK_CMD").map(PathBuf::from),
            on_disconnect: match word("BLOCKPRINT_ON_DISCONNECT").as_deref() {
                None | Some("" | "finish") => OnDisconnect::Finish,
                Some("cancel") => OnDisconnect::Cancel,
                Some(_) => {
                    log::error("BLOCKPRINT_ON_DISCONNECT is neither finish nor cancel: finish");
                    OnDisconnect::Finish
                }
            },
            verify: word("BLOCKPRINT_VERIFY").as_deref() == Some("1"),
            image_mode: match word("BLOCKPRINT_IMAGE_MODE") {
                None => PRIVATE,
                Some(text) => mode_of(&text).unwrap_or_else(|| {
                    log::error("BLOCKPRINT_IMAGE_MODE is no mode such as 0644: 0600");
                    PRIVATE
                }),
            },
            journal: journal::folder(),
        }
    }
}

/// Permissions in octal digits; those that let nobody but the owner write, and nobody execute.
fn mode_of(text: &str) -> Option<u32> {
    let mode = u32::from_str_radix(text, 8).ok()?;
    (mode & !0o644 == 0 && mode & PRIVATE == PRIVATE).then_some(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal_and_never_generous() {
        assert_eq!(mode_of("0644"), Some(0o644));
        assert_eq!(mode_of("600"), Some(0o600));
        assert_eq!(mode_of("640"), Some(0o640));
        for wrong in ["", "0666", "0755", "9", "0", "4644", "-1", "0400"] {
            assert_eq!(mode_of(wrong), None, "{wrong}");
        }
    }
}
