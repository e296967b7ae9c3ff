//! Names of partition images: `<name>-<YYYY>-<MM>-<DD>T<HH><MM>.apt.<variant>.<compression>`.

use filesystems::partclone::Variant;
use formats::packed::Compression;
use image::Result;
use sys::LocalTime;

/// What the name of a partition image says. The variant and the compression are hints: what is in the file decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupName {
    /// The part that a person chose.
    pub stem: String,
    /// The time, as it stands there: `2026-03-04T0506`, in the local time of the machine that made it.
    pub time: String,
    /// All between `.apt.` and the last dot.
    pub variant: String,
    /// All behind the last dot.
    pub compression: String,
}

impl BackupName {
    /// Reads the last component of a path. What apart-core's own pattern accepts is accepted.
    pub fn parse(_file_name: &str) -> Option<Self> {
        todo!()
    }

    /// The file name of a new image.
    ///
    /// # Errors
    ///
    /// `Invalid` for a stem that is empty, `.`, `..`, has a slash, NUL or control characters, or makes the name longer than 255
    /// bytes with `.inprogress` behind it.
    pub fn compose(
        _stem: &str,
        _time: LocalTime,
        _variant: Variant,
        _compression: Compression,
    ) -> Result<String> {
        todo!()
    }
}
