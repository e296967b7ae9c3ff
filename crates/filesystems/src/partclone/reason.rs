//! The reasons that partclone gives when it fails, in words for people.

/// The reason in a line of partclone's, as a sentence without a full stop, if it is one that we know.
pub(super) fn of(line: &str) -> Option<String> {
    let fixed = FIXED.iter().find(|(words, _)| line.contains(words));
    mounted(line)
        .or_else(|| damaged_block(line))
        .or_else(|| too_small(line))
        .or_else(|| not_opened(line))
        .or_else(|| system_error(line))
        .or_else(|| fixed.map(|(_, sentence)| (*sentence).to_string()))
}

/// Words of partclone's that stand for one reason each.
const FIXED: [(&str, &str); 24] = [
    ("FS was not cleanly unmounted", UNCLEAN),
    ("bitmap free count err", UNCLEAN),
    (
        "FS contains a file system with errors",
        "The filesystem has errors (repair it with fsck first)",
    ),
    (
        "bitmap error at",
        "Partclone cannot read the filesystem's own bitmap (it may have clusters of several blocks)",
    ),
    ("Couldn't find valid filesystem bitmap", "Partclone cannot read the filesystem's own bitmap"),
    ("Couldn't find valid filesystem superblock", "The filesystem's superblock is not valid"),
    ("NOT NTFS partition", "It is no NTFS filesystem, or one that is damaged"),
    (
        "uncleanly. Please boot Windows",
        "The NTFS filesystem was not cleanly unmounted (let Windows check it first)",
    ),
    ("No valid Btrfs found", "It is no btrfs filesystem, or one that is damaged"),
    ("Unknown fat type", "It is no FAT filesystem, or one that is damaged"),
    ("exFAT file system is not found", "It is no exFAT filesystem, or one that is damaged"),
    ("f2fs_do_mount fail", "It is no F2FS filesystem, or one that is damaged"),
    (
        "f2fs_get_device_info fail",
        "It is no F2FS filesystem, or one that partclone does not understand",
    ),
    ("This is not partclone image", "It is no image of partclone's"),
    ("The image version is not supported", "The image has a version that partclone does not know"),
    ("Invalid header checksum", "Image is damaged (checksum error in its header)"),
    ("read bitmap's crc error", "Image is damaged (checksum error in its bitmap)"),
    ("can't find bitmagic", "Image is damaged (its bitmap has no end)"),
    ("nable to read bitmap", "Image ends within its bitmap"),
    ("source image too short", "Image ends too early"),
    ("used blocks count does not match", "Image is damaged (its bitmap does not fit its header)"),
    ("read image_hdr error", "Image is empty, or ends within its header"),
    (
        "Use option --overwrite if you want to replace its content",
        "The target is a regular file, where a device was expected",
    ),
    ("not enough free memory", "There is not enough memory for the filesystem's bitmap"),
];

const UNCLEAN: &str = "The filesystem was not cleanly unmounted (check it with fsck first)";

/// `device (/dev/loop0) is mounted at /mnt/x`.
fn mounted(line: &str) -> Option<String> {
    let (before, place) = line.split_once(") is mounted at ")?;
    let (_, device) = before.rsplit_once("device (")?;
    Some(format!("{device} is mounted at {}", place.trim_end()))
}

/// `CRC error, block_id=74524...`.
fn damaged_block(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("CRC error, block_id=")?;
    let block: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some(format!("Image is damaged (checksum error at block {block})"))
}

/// `Target partition size(315 MB) is smaller than source(630 MB). …`.
fn too_small(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("Target partition size(")?;
    let (target, rest) = rest.split_once(") is smaller than source(")?;
    let (source, _) = rest.split_once(')')?;
    Some(format!("The target is too small: it has {target}, and the image is of {source}"))
}

/// `clone: open /dev/nosuch error`, `restore: open …`, `open logfile … error`.
fn not_opened(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("open logfile ").or_else(|| line.split_once(": open "))?;
    let (path, _) = rest.split_once(" error")?;
    let path = path.trim_end_matches("(stdin)").trim_end_matches("(stdout)");
    Some(format!("{path} cannot be opened"))
}

/// What the system said to a read or a write, as `write block 5 ERROR:No space left on device`.
fn system_error(line: &str) -> Option<String> {
    const WISHES: [(&str, &str); 6] = [
        ("write block", "Writing the target failed"),
        ("image write ERROR:", "Writing the image failed"),
        ("target seek ERROR:", "Writing the target failed"),
        ("source seek ERROR", "Reading the source failed"),
        ("source read ERROR", "Reading the source failed"),
        ("read ERROR:", "Image ends too early, or cannot be read"),
    ];
    if line.contains("fsync error") {
        return Some("Making the target durable failed".to_string());
    }
    let (_, sentence) = WISHES.into_iter().find(|(words, _)| line.contains(words))?;
    let at = line.to_ascii_lowercase().rfind("error")?;
    let cause = line[at + "error".len()..].trim_start_matches([':', ' ']).trim_end();
    // A short read has no cause of the system's; partclone prints whatever came last.
    match sentence.starts_with("Image ends") || cause.is_empty() {
        true => Some(sentence.to_string()),
        false => Some(format!("{sentence}: {cause}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Reports;

    fn reason(text: &str) -> Option<String> {
        let mut reports = Reports::default();
        reports.feed(text.as_bytes());
        reports.reason()
    }

    #[test]
    fn lines_of_partclone_have_their_sentences() {
        let known = [
            (
                "device (/dev/loop0) is mounted at /mnt/a b\nerror exit\n",
                "/dev/loop0 is mounted at /mnt/a b",
            ),
            ("clone: open /dev/nosuch error\n", "/dev/nosuch cannot be opened"),
            ("restore: open /dev/nosuch error", "/dev/nosuch cannot be opened"),
            (
                "open logfile /var/log/partclone.log error\nPartclone v0.3.23\n",
                "/var/log/partclone.log cannot be opened",
            ),
            (
                "extfsclone.c: FS was not cleanly unmounted\n",
                "The filesystem was not cleanly unmounted (check it with fsck first)",
            ),
            (
                "ntfsclone-ng.c: NOT NTFS partition, ntfs mount error 22\n",
                "It is no NTFS filesystem, or one that is damaged",
            ),
            (
                "f2fsclone.c: f2fs_get_device_info fail\n",
                "It is no F2FS filesystem, or one that partclone does not understand",
            ),
            ("This is not partclone image.\n", "It is no image of partclone's"),
            ("read image_hdr error=0\n", "Image is empty, or ends within its header"),
            (
                "Target partition size(315 MB) is smaller than source(630 MB). Use option -C to \
                 disable size checking(Dangerous).\n",
                "The target is too small: it has 315 MB, and the image is of 630 MB",
            ),
            (
                "\rcurrent block: 5, Complete: 2.00%\x1b[A\rread ERROR:No such file or directory\r",
                "Image ends too early, or cannot be read",
            ),
            (
                "Elapsed: 00:00:01, Completed: 2.00%, 1GB/min,CRC error, block_id=74524...\n",
                "Image is damaged (checksum error at block 74524)",
            ),
            (
                "Use option --overwrite if you want to replace its content.\n\
                 partclone.c,open_target,1651: open reg.img error(17)\nError exit\n",
                "The target is a regular file, where a device was expected",
            ),
            (
                "write block 77 ERROR:No space left on device\n",
                "Writing the target failed: No space left on device",
            ),
            ("image write ERROR:Broken pipe\n", "Writing the image failed: Broken pipe"),
        ];
        for (text, sentence) in known {
            assert_eq!(reason(text).as_deref(), Some(sentence), "{text:?}");
        }
    }

    #[test]
    fn other_words_are_no_reason() {
        for text in [
            "Partclone fail, please check /var/log/partclone.log !\n",
            "Starting to clone device (/dev/loop8p1) to image (-)\n",
            "Cloned successfully.\n",
            "something else went wrong\n",
        ] {
            assert_eq!(reason(text), None, "{text:?}");
        }
    }
}
