//! Names of partition images: `<name>-<YYYY>-<MM>-<DD>T<HH><MM>.apt.<variant>.<compression>`.

use filesystems::partclone::Variant;
use formats::packed::Compression;
use image::{Error, ErrorKind, Result};
use sys::LocalTime;

/// What stands behind the name of an image until it is whole.
pub const UNFINISHED: &str = ".inprogress";

/// The longest name that Linux's filesystems take, in bytes.
const NAME_MAX_BYTES: usize = 255;

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
    /// Reads the last component of a path. What apart-core's own pattern accepts is accepted; so is the name of an
    /// unfinished image, whose compression then is `inprogress`.
    pub fn parse(file_name: &str) -> Option<Self> {
        const MARK: &str = ".apt.";
        if file_name.contains('/') {
            return None;
        }
        // The last one counts: the part that a person chose may look like anything.
        file_name.rmatch_indices(MARK).find_map(|(at, _)| {
            let (stem, time) = split_time(&file_name[..at])?;
            let (variant, compression) = file_name[at + MARK.len()..].rsplit_once('.')?;
            (!variant.is_empty() && !compression.is_empty()).then(|| BackupName {
                stem: stem.to_string(),
                time: time.to_string(),
                variant: variant.to_string(),
                compression: compression.to_string(),
            })
        })
    }

    /// The file name of a new image.
    ///
    /// # Errors
    ///
    /// `Invalid` for a stem that is empty, `.`, `..`, has a slash, NUL or control characters, or makes the name longer than 255
    /// bytes with `.inprogress` behind it.
    pub fn compose(
        stem: &str,
        time: LocalTime,
        variant: Variant,
        compression: Compression,
    ) -> Result<String> {
        let shown = stem.escape_debug();
        let refuse = |why: &str| {
            Err(Error::new(
                ErrorKind::Invalid,
                format!("the image cannot be called {shown}: {why}"),
            ))
        };
        if stem.is_empty() {
            return refuse("the name is empty (choose another one)");
        }
        if stem == "." || stem == ".." {
            return refuse("that is the name of a folder (choose another one)");
        }
        if stem.contains('/') || stem.chars().any(char::is_control) {
            return refuse("slashes and control characters have no place in a name");
        }
        let LocalTime { year, month, day, hour, minute, .. } = time;
        let name = format!(
            "{stem}-{year:04}-{month:02}-{day:02}T{hour:02}{minute:02}.apt.{}.{}",
            variant.name(),
            compression.name(),
        );
        if name.len() + UNFINISHED.len() > NAME_MAX_BYTES {
            return refuse("the file's name would be longer than 255 bytes");
        }
        Ok(name)
    }
}

/// Parts `<stem>-<time>` where the time begins.
fn split_time(text: &str) -> Option<(&str, &str)> {
    let (rest, time_of_day) = text.rsplit_once('T')?;
    let (rest, day) = rest.rsplit_once('-')?;
    let (rest, month) = rest.rsplit_once('-')?;
    let (stem, year) = rest.rsplit_once('-')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let right = !stem.is_empty()
        && year.len() >= 4
        && (month.len(), day.len(), time_of_day.len()) == (2, 2, 4)
        && [year, month, day, time_of_day].into_iter().all(digits);
    right.then(|| (stem, &text[stem.len() + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment() -> LocalTime {
        LocalTime { year: 2026, month: 3, day: 4, hour: 5, minute: 6, second: 7 }
    }

    fn name(stem: &str, time: &str, variant: &str, compression: &str) -> BackupName {
        BackupName {
            stem: stem.into(),
            time: time.into(),
            variant: variant.into(),
            compression: compression.into(),
        }
    }

    #[test]
    fn what_is_composed_is_parsed() {
        let longest = "x".repeat(255 - "-2026-03-04T0506.apt.dd.uncompressed.inprogress".len());
        for stem in ["Ada home", "a-b-2020-01-01T0000.apt.dd.gz", "...", "ä ö #", &longest] {
            for compression in Compression::ALL {
                if stem == longest && compression != Compression::Uncompressed {
                    continue;
                }
                let made = BackupName::compose(stem, moment(), Variant::DD, compression).unwrap();
                let expected = name(stem, "2026-03-04T0506", "dd", compression.name());
                assert_eq!(BackupName::parse(&made), Some(expected), "{made}");
            }
        }
    }

    #[test]
    fn names_that_lead_elsewhere_or_nowhere_are_refused() {
        let long = "x".repeat(220);
        for stem in ["", ".", "..", "../x", "a/b", "a\0b", "a\nb", "\u{85}", &long] {
            let error = BackupName::compose(stem, moment(), Variant::DD, Compression::Gz);
            assert_eq!(error.unwrap_err().kind(), ErrorKind::Invalid, "{stem:?}");
        }
    }

    #[test]
    fn the_pattern_of_apart_core_is_ours() {
        let parsed = |text| BackupName::parse(text);
        assert_eq!(
            parsed("x-2026-03-04T0506.apt.ntfs.81GiB.gz"),
            Some(name("x", "2026-03-04T0506", "ntfs.81GiB", "gz"))
        );
        assert_eq!(
            parsed("a-12026-03-04T0506.apt.dd.gz.inprogress"),
            Some(name("a", "12026-03-04T0506", "dd.gz", "inprogress"))
        );
        for none in [
            "-2026-03-04T0506.apt.dd.gz",
            "x2026-03-04T0506.apt.dd.gz",
            "x-226-03-04T0506.apt.dd.gz",
            "x-2026-3-04T0506.apt.dd.gz",
            "x-2026-03-04T050.apt.dd.gz",
            "x-2026-03-04T0506.apt.dd",
            "x-2026-03-04T0506.apt..gz",
            "x-2026-03-04T0506.apt.dd.",
            "x-2026-03-04 0506.apt.dd.gz",
            "d/x-2026-03-04T0506.apt.dd.gz",
            "",
        ] {
            assert_eq!(parsed(none), None, "{none}");
        }
    }
}
