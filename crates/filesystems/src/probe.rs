//! What stands at the beginning of a device, by blkid's own look at it: right also without udev.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use image::{Error, ErrorKind, Medium, Result};
use sys::pipe::{Input, Watch};
use sys::{Access, DeviceMedium, FileMedium, ProcessGroup};

use crate::size;

/// What blkid recognises on a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filesystem {
    /// As lsblk names it: `ext4`, `vfat`, `ntfs`, `swap`, `crypto_LUKS`, …; `None` where nothing is recognised.
    pub kind: Option<String>,
    /// Its label, any text.
    pub label: Option<String>,
    /// Its UUID or serial number, as lsblk shows it.
    pub uuid: Option<String>,
    /// The kind of partition table, `gpt` or `dos`, if there is one.
    pub table: Option<String>,
    /// Size by the filesystem's own superblock in bytes, where we can read that.
    pub size_bytes: Option<u64>,
    /// The signatures that contradict each other, where that is why nothing is recognised: `ext4, swap`.
    pub conflict: Option<String>,
}

/// A device that does not answer in this time is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// More than blkid ever prints.
const OUTPUT_BYTES: u64 = 64 << 10;

/// Looks at the device or file `path`, past any cache of blkid's.
///
/// # Errors
///
/// `NotFound`, `Denied`; `Invalid` for what is neither file nor block device; `Unsupported` where blkid cannot be run;
/// `Io` for a device that does not answer within 10 seconds. Two signatures that contradict each other are an answer:
/// nothing is recognised then.
pub fn probe(path: &Path) -> Result<Filesystem> {
    let medium = open(path)?;
    let mut found = parse(&ask_blkid(path)?);
    if let Some(kind) = &found.kind {
        // What cannot be read is not known.
        found.size_bytes = size::of(kind, &*medium).unwrap_or(None);
    }
    Ok(found)
}

/// Opens the file or device: blkid does not say why it cannot.
pub(crate) fn open(path: &Path) -> Result<Box<dyn Medium>> {
    let name = path.display().to_string();
    let metadata = fs::metadata(path)
        .map_err(|cause| Error::io(format!("cannot look at {name}"), cause).at(&name, None))?;
    Ok(match metadata.file_type().is_block_device() {
        true => Box::new(DeviceMedium::open(path, Access::Read)?),
        false => Box::new(FileMedium::open(path, Access::Read)?),
    })
}

/// What blkid prints for `path`, for udev: the one form of its output in which values cannot be mistaken.
fn ask_blkid(path: &Path) -> Result<Vec<u8>> {
    let mut command = Command::new(program());
    command.args(["-p", "-o", "udev", "--"]).arg(path);
    command.env("LC_ALL", "C").env_remove("LANGUAGE");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut blkid = ProcessGroup::spawn(command).map_err(|cause| {
        let sentence = "cannot run blkid (Debian's package util-linux has it)";
        Error::new(ErrorKind::Unsupported, sentence).because(cause)
    })?;
    let until = Instant::now() + PATIENCE;
    let watch: Watch = Arc::new(move || match Instant::now() < until {
        true => Ok(()),
        false => Err(io::ErrorKind::TimedOut.into()),
    });
    let mut output = Vec::new();
    if let Some(stdout) = blkid.child_mut().stdout.take() {
        let name = path.display().to_string();
        let read = Input::new(OwnedFd::from(stdout), watch).take(OUTPUT_BYTES);
        { read }.read_to_end(&mut output).map_err(|cause| {
            let sentence = format!("cannot find out what {name} holds: it does not answer");
            Error::io(sentence, cause).at(name, None)
        })?;
    }
    // Its status adds nothing: 2 is nothing recognised, and 8 a contradiction, which it prints.
    Ok(output)
}

/// It lies where the paths of users often do not lead.
fn program() -> PathBuf {
    let usual = ["/usr/sbin/blkid", "/sbin/blkid", "/usr/bin/blkid"].map(PathBuf::from);
    usual.into_iter().find(|path| path.is_file()).unwrap_or_else(|| PathBuf::from("blkid"))
}

fn parse(output: &[u8]) -> Filesystem {
    let lines = output.split(|byte| *byte == b'\n');
    let fields: HashMap<&[u8], String> = lines
        .filter_map(|line| {
            let at = line.iter().position(|byte| *byte == b'=')?;
            Some((&line[..at], unescaped(&line[at + 1..])))
        })
        .collect();
    let field = |name: &str| fields.get(name.as_bytes()).filter(|text| !text.is_empty()).cloned();
    Filesystem {
        kind: field("ID_FS_TYPE"),
        label: field("ID_FS_LABEL_ENC"),
        uuid: field("ID_FS_UUID_ENC"),
        table: field("ID_PART_TABLE_TYPE"),
        size_bytes: None,
        conflict: field("ID_FS_AMBIVALENT").map(|text| conflict(&text)),
    }
}

/// A value in which every character that could be misread stands as `\x` and two digits.
fn unescaped(value: &[u8]) -> String {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        match rest {
            [b'x', high, low, after @ ..] if first == b'\\' => {
                if let (Some(high), Some(low)) = (digit(*high), digit(*low)) {
                    bytes.push(high << 4 | low);
                    rest = after;
                    continue;
                }
            }
            _ => {}
        }
        bytes.push(first);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `filesystem:ext4:1.0 other:swap:1` as `ext4, swap`.
fn conflict(text: &str) -> String {
    let kinds = text.split_whitespace().map(|one| one.split(':').nth(1).unwrap_or(one));
    kinds.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use testkit::host::{self, Needs, TempDir};

    use super::*;

    fn make(folder: &TempDir, line: &str) -> PathBuf {
        let path = folder.join("image");
        let _ = fs::remove_file(&path);
        fs::File::create(&path).unwrap().set_len(64 << 20).unwrap();
        host::run(host::tool("sh").args(["-c", line]).arg(&path));
        path
    }

    #[test]
    fn a_label_may_hold_any_character() {
        let Some(scratch) = host::require(&Needs::none().tools(&["mkfs.ext4", "blkid"])) else {
            return;
        };
        for label in ["2024", "a\"b' c\\", "x\ny=z", "Müsli ☕", "\\x41\\", "a: #b\u{1}"] {
            let path = scratch.join("image");
            let _ = fs::remove_file(&path);
            fs::File::create(&path).unwrap().set_len(16 << 20).unwrap();
            host::run(host::tool("mkfs.ext4").args(["-q", "-L", label]).arg(&path));
            let found = probe(&path).unwrap();
            assert_eq!(found.label.as_deref(), Some(label));
            assert_eq!(found.kind.as_deref(), Some("ext4"));
            assert_eq!(found.size_bytes, Some(16 << 20));
        }
    }

    #[test]
    fn kinds_and_numbers_are_as_lsblk_shows_them() {
        let tools = ["mkfs.vfat", "mkfs.ntfs", "mkswap", "mkfs.ext3", "sfdisk", "blkid"];
        let Some(scratch) = host::require(&Needs::none().tools(&tools)) else { return };
        let of = |line: &str| {
            let found = probe(&make(&scratch, line)).unwrap();
            (found.kind.unwrap_or_default(), found.uuid.unwrap_or_default(), found.table)
        };
        let text = |kind: &str, uuid: &str| (kind.to_string(), uuid.to_string(), None);
        assert_eq!(of("mkfs.vfat -i 1234ABCD $0"), text("vfat", "1234-ABCD"));
        let uuid = "3e253894-5d6d-4d8b-a394-af0d43522e20";
        assert_eq!(of(&format!("mkfs.ext3 -q -U {uuid} $0")), text("ext3", uuid));
        assert_eq!(of(&format!("mkswap -U {uuid} $0 2>&1")), text("swap", uuid));
        let (kind, uuid, _) = of("mkfs.ntfs -qFf $0 2>&1");
        assert_eq!((kind.as_str(), uuid.len()), ("ntfs", 16));
        assert_eq!(of("true"), text("", ""));
        for table in ["gpt", "dos"] {
            let (kind, _, found) = of(&format!("echo 'label: {table}' | sfdisk -q $0"));
            assert_eq!((kind.as_str(), found.as_deref()), ("", Some(table)));
        }
    }

    #[test]
    fn signatures_that_contradict_each_other_are_named_and_not_believed() {
        let Some(scratch) =
            host::require(&Needs::none().tools(&["mkfs.ext4", "mkfs.xfs", "blkid"]))
        else {
            return;
        };
        // The two superblocks lie beside each other.
        let line = "truncate -s 400M $0; mkfs.ext4 -q -b 4096 $0; cp --sparse=always $0 $0.ext4; \
                    truncate -s 0 $0; truncate -s 400M $0; mkfs.xfs -q $0; \
                    dd if=$0.ext4 of=$0 bs=1024 skip=1 seek=1 count=1 conv=notrunc status=none";
        let found = probe(&make(&scratch, line)).unwrap();
        assert_eq!((found.kind, found.label), (None, None));
        let conflict = found.conflict.unwrap();
        assert!(conflict.contains("xfs") && conflict.contains("ext4"), "{conflict}");
    }

    #[test]
    fn what_is_not_there_and_what_holds_no_bytes_is_an_error() {
        let missing = probe(Path::new("/dev/no-such-device")).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        assert_eq!(probe(Path::new("/dev")).unwrap_err().kind(), ErrorKind::Invalid);
        assert_eq!(probe(Path::new("/dev/null")).unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[test]
    fn a_backslash_that_escapes_nothing_stays() {
        assert_eq!(unescaped(br"a\x5cb\x20\xZZ\x4"), r"a\b \xZZ\x4");
    }
}
